"""Method "amortised_svi": an amortised model and its guide, trained on batches of trials.

Adam climbs the bound of log p(y) (Kingma & Welling 2014, ICLR), of which the divergence of q from the prior is turned
on over the first epochs: else q would stay at the prior, from which nothing can be learned. A share of the entries is
hidden from the guide, and only these are scored. Some trials are kept apart; the parameters whose bound of these is
highest are the result. With ``own_epochs`` the program is trained before, on all trials, with a posterior of each trial
that no guide makes (:mod:`mrgp.inference.own_posteriors`); what follows trains the guide of that program.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.inference.amortised_bound import Terms, terms
from mrgp.inference.amortised_parameters import (
    Parameters,
    Values,
    WithGuide,
    constrained,
    first_values,
    freed,
    packed,
    strides,
    unpacked,
)
from mrgp.inference.driver import Driver
from mrgp.inference.hidden_entries import hidden_entries, hidden_share_of
from mrgp.inference.method import Method
from mrgp.inference.own_posteriors import OWN_STEP, Alone, beginning, epoch_alone, optimiser
from mrgp.inference.quantity import BOUND, Quantity
from mrgp.inference.run import Options, Run, State
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence

FLOOR = 1e-3  # of the divergence's weight: from 0 the reconstruction jumps
FIRST_EPOCHS = 3  # in which the steps grow to their length
FEWEST_APART = 10  # trials, below which none is kept apart
JUDGED = 8  # draws of the guide in a bound of the trials kept apart
SHORTER = 0.3  # steps become, where the bound of the trials kept apart has not risen
FADING = 0.3  # share of the epochs without a guide, over which their steps shrink to nothing

ALONE, WARMING, TRAINED = "alone", "warming", "trained"  # phases of a run
RUN = "run/"  # before the names of what only a checkpoint holds
COUNTERS = "seed", "until", "epoch", "skipped", "since", "shortened", "evaluations"  # of a training, which it holds


@dataclass(kw_only=True)
class Training(State):
    """State between two epochs.

    Attributes:
        free: Present unconstrained values; ``sites`` are those with the highest bound so far.
        optimiser: Its state.
        key: Of random numbers.
        training, apart: Trials that are fitted to, and those that judge.
        alone: Place of a training without a guide, in its phase.
        until: Epochs without a guide, as they were when the run began.
        seed: Of the run.
        epoch: Epochs so far.
        skipped: Steps that were left out since they were not finite.
        since: Epochs since the bound was highest, or steps became shorter.
        shortened: How often steps became shorter.
    """

    free: Values
    optimiser: Any
    key: Array
    training: MultiRegionData
    apart: MultiRegionData
    seed: int
    alone: Alone | None = None
    until: int = 0
    epoch: int = 0
    skipped: int = 0
    since: int = 0
    shortened: int = 0

    @property
    def kept(self) -> dict[str, Any]:
        """Arrays of a checkpoint, from which a run goes on as if it had never stopped."""
        leaves = jax.tree.leaves((self.free, self.optimiser, self.alone))
        arrays = {f"{RUN}{place}": leaf for place, leaf in enumerate(leaves)}
        counts = {f"{RUN}{name}": getattr(self, name) for name in COUNTERS}
        own = {f"{RUN}key": random.key_data(self.key), f"{RUN}trace": np.array(self.trace)}
        return {**self.sites, **arrays, **counts, **own}

    def go_on_from(self, kept: dict[str, np.ndarray], phase: str) -> None:
        """Take the place of the run that a checkpoint was written by."""
        self.alone = self.alone if phase == ALONE else None
        leaves, structure = jax.tree.flatten((self.free, self.optimiser, self.alone))
        arrays = [jnp.asarray(kept[f"{RUN}{place}"], leaf.dtype) for place, leaf in enumerate(leaves)]
        self.free, self.optimiser, self.alone = jax.tree.unflatten(structure, arrays)
        self.key, self.trace = random.wrap_key_data(jnp.asarray(kept[f"{RUN}key"])), list(kept[f"{RUN}trace"])
        for name in COUNTERS:
            setattr(self, name, int(kept[f"{RUN}{name}"]))
        self.sites = {name: value for name, value in kept.items() if not name.startswith(RUN)}
        self.phase, self.iterations = phase, self.epoch


@dataclass(frozen=True)
class AmortisedSVI(Method):
    """Train a guide together with the networks of its model.

    Args:
        learning_rate: Of Adam.
        batch_size: Trials of one step; all, if there are fewer.
        hidden_share: Share of the entries that are hidden from the guide, anew in every step: in half of the trials
            whole neurons, in the others single bins; and the share of trials in which a whole region is hidden. 0
            hides none, and scores all.
        warm_up: Epochs over which the divergence is turned on.
        patience: Epochs without a higher bound of the trials kept apart, after which steps become shorter.
        shortenings: How often steps become shorter, from where the bound was highest, before the training ends.
        own_epochs: Epochs in which the program is trained before there is a guide, on all trials, with a posterior of
            each trial that has numbers of its own; half of ``max_iterations`` at most. The guide is then trained with
            the program as it is. 0 trains both together, as does a training from a ``start``.
        apart: Share of the trials that are kept apart, to judge what is trained with a guide.
    """

    learning_rate: float = 3e-3
    batch_size: int = 64
    hidden_share: float = 0.2
    warm_up: int = 50
    patience: int = 25
    shortenings: int = 2
    own_epochs: int = 0
    apart: float = 0.2

    climbs: ClassVar[Quantity] = BOUND
    listed: ClassVar[bool] = True
    holds_sites: ClassVar[bool] = False
    unused: ClassVar[Mapping[str, str]] = {
        "n_starts": "a training begins once; to choose among seeds, use mrgp.tune(model, data, tried, n_seeds=...)",
        "tolerance": "trials kept apart say when a training ends; to end it sooner, lower patience or max_iterations",
    }
    trains_guide: ClassVar[bool] = True
    title: ClassVar[str | None] = "training"
    unit: ClassVar[str] = " epochs"

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate is a positive number, not {self.learning_rate}")
        if not 0 <= self.apart < 1:
            raise ValueError(f"apart is a share of the trials in [0, 1), not {self.apart}")
        if not 0 <= self.hidden_share < 1:
            raise ValueError(f"hidden_share is a share of the entries in [0, 1), not {self.hidden_share}")
        for name in ("batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} counts at least 1, not {getattr(self, name)}")
        for name in ("warm_up", "shortenings", "own_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} counts at least 0, not {getattr(self, name)}")

    @property
    def settings_of_run(self) -> Mapping[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def objection(self, model: Any, data: MultiRegionData) -> Sentence | None:
        if self.own_epochs and not model.has_own_posteriors:
            return ("a trial has no posterior of its own without the guide: take own_epochs=0",)
        return super().objection(model, data)

    def longest(self, options: Options) -> int:
        return options.max_iterations

    def init(self, driver: Driver) -> Training:
        model, data, seed = driver.model, driver.data, driver.options.seed
        until = min(self.own_epochs, driver.options.max_iterations // 2) if driver.start is None else 0
        known = driver.store.read(model)
        if known is not None:  # trials kept apart then must not be trained on now
            seed, until = (int(known[1][f"{RUN}{name}"]) for name in ("seed", "until"))
        key = random.key(seed)
        if driver.start is not None:
            values = unpacked(model, data, driver.start.sites)
        else:
            values = unpacked(model, data, {**packed(first_values(model, data, key)), **model.first_guess(data)})
        training, apart = self._split(data, seed)
        free = freed(model, data, values)
        state = Training(
            model=model, sites=packed(values), free=free, key=key, optimiser=optimiser().init(free), training=training,
            apart=apart, phase=WARMING, seed=seed,
        )  # fmt: skip
        if until:
            state.phase, state.until, state.alone = ALONE, until, beginning(model, free, data, key)
        if known is not None:
            assert driver.store.phase is not None
            state.go_on_from(known[1], driver.store.phase)
        elif driver.start is not None:  # it must not end below where it begins
            state.phase, state.trace = TRAINED, [self._judge(driver, state, free, random.fold_in(key, 1))[0]]
        elif driver.options.max_iterations <= self.warm_up:
            most = f"max_iterations is {driver.options.max_iterations}, and warm_up {self.warm_up} epochs"
            raise ValueError(f"{most}: raise max_iterations, or lower warm_up")
        return state

    def step(self, driver: Driver, state: Training) -> Training:
        """Train for an epoch, and judge the parameters on the trials kept apart."""
        if state.alone is not None:
            return self._step_alone(driver, state, state.alone)
        n_steps = -(-state.training.n_trials // self.batch_size)
        warming = state.phase == WARMING and state.epoch < self.warm_up
        warmth = state.epoch / self.warm_up if warming else 1.0
        weight, first = max(FLOOR, warmth), state.model.first_horizon
        horizon = np.ceil((first + (1 - first) * warmth) * state.training.n_bins)
        growing = min(1.0, (state.epoch - state.until + 1) / (FIRST_EPOCHS + 1))
        rate = self.learning_rate * SHORTER**state.shortened * growing
        following, key, judge = random.split(state.key, 3)
        of = state.free, state.optimiser, state.training
        how = self.hidden_share, state.until > 0
        free, place, skipped = _epoch(state.model, n_steps, *how, *of, key, weight, rate, horizon)
        value, divergence = self._judge(driver, state, free, judge)
        driver.show(1, value, "" if state.model.is_autoencoder else f"KL = {divergence:.1f}")
        state.key, state.free, state.optimiser = following, free, place  # all at once: Ctrl-C keeps whole epochs
        state.epoch, state.evaluations = state.epoch + 1, state.evaluations + n_steps
        state.iterations, state.skipped = state.epoch, state.skipped + int(skipped)
        better = warming or value > state.height
        if better:
            state.sites = packed(constrained(state.model, state.training, state.free))
        if not warming:
            state.phase, state.since = TRAINED, 0 if better else state.since + 1
            state.trace += [value] if better else []
        self._shortened(state)
        driver.keep(state)
        return self._ended(driver, state)

    def _step_alone(self, driver: Driver, state: Training, place: Alone) -> Training:
        """Train the program for an epoch."""
        until, size = state.until, min(self.batch_size, driver.data.n_trials)
        n_steps = -(-driver.data.n_trials // size)
        warm_up = min(self.warm_up, until // 2)
        weight = max(FLOOR, state.epoch / warm_up) if state.epoch < warm_up else 1.0
        length = min(1.0, (state.epoch + 1) / (FIRST_EPOCHS + 1), (until - state.epoch) / (FADING * until))
        following, key = random.split(state.key)
        rates = self.learning_rate * length, OWN_STEP * length
        found = epoch_alone(state.model, n_steps, size, place, driver.data, key, weight, *rates)
        driver.show(1, float(found.bound), f"KL = {float(found.divergence):.1f}")
        state.key, state.alone, state.free = following, found.place, found.place.free
        state.epoch, state.evaluations = state.epoch + 1, state.evaluations + n_steps
        state.iterations, state.skipped = state.epoch, state.skipped + int(found.skipped)
        state.sites = packed(constrained(state.model, state.training, state.free))
        if state.epoch >= until:
            state.alone, state.phase, state.optimiser = None, TRAINED, optimiser().init(state.free)
        driver.keep(state)
        return state

    def _judge(self, driver: Driver, state: Training, free: Values, key: Array) -> tuple[float, float]:
        """Compute the bound by the trials kept apart, and the divergence in it.

        Both are in nats of all trials.
        """
        share = state.apart.n_trials / driver.data.n_trials
        found = _judged(state.model, free, state.apart, key)
        return float(found.likelihood - found.divergence) / share, float(found.divergence) / share

    def _shortened(self, state: Training) -> None:
        """Shorten the steps where the bound has not risen, and go back to where it was highest."""
        if state.since >= self.patience and state.shortened < self.shortenings:
            values = unpacked(state.model, state.training, state.sites)
            state.free = freed(state.model, state.training, values)
            state.optimiser = optimiser().init(state.free)
            state.shortened, state.since = state.shortened + 1, 0

    def finish(self, driver: Driver, state: Training) -> Run:
        if state.skipped:
            state.notes.append(f"{state.skipped} steps were not finite, and left out")
        return driver.result(state)

    def _ended(self, driver: Driver, state: Training) -> Training:
        if state.since >= self.patience:
            state.converged = True
            state.reason = f"no higher bound of the trials kept apart in {self.patience} epochs"
        elif state.epoch >= driver.options.max_iterations:
            state.reason = driver.used_up
        return state

    def _split(self, data: MultiRegionData, seed: int) -> tuple[MultiRegionData, MultiRegionData]:
        """Trials to train on, in batches, and trials kept apart; the same where there are few."""
        count = round(self.apart * data.n_trials) if data.n_trials >= FEWEST_APART else 0
        order = np.random.default_rng(seed).permutation(data.n_trials)
        apart = data.select_trials(np.sort(order[:count])) if count else data
        training = data.select_trials(np.sort(order[count:])) if count else data
        for part in (training, apart):  # a neuron that is still in some of them has the unit of all
            part.center, part.scale = data.center, data.scale
        if training.n_trials > self.batch_size:
            training = training.in_batches_of(self.batch_size)
        return training, apart


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _epoch(
    model: WithGuide, n_steps: int, hidden: float, is_held: bool, free: Values, place: Any, data: MultiRegionData,
    key: Array, weight: Any, rate: Any, horizon: Any,
) -> tuple[Values, Any, Array]:  # fmt: skip
    """Take ``n_steps`` steps; return values, optimiser's place, and how many were left out.

    Where the program ``is_held``, only its guide moves. Bins before ``horizon`` are scored.
    """
    adam, parameters = optimiser(), Parameters.of(model, data)
    lengths = jax.tree.map(lambda stride: rate * stride, strides(free, jnp.where(weight < 1, 0.0, 1.0)))
    scored = (jnp.arange(data.n_bins) < horizon)[:, None]
    n_read = data.layout.n_regions if model.reads_across else 1
    expected = hidden_share_of(hidden, n_read) if hidden else 1.0

    def loss(free: Values, key: Array) -> Array:
        key, own = random.split(key)
        unseen = hidden_entries(own, hidden, data, n_read) if hidden else None
        values = parameters.constrained(parameters.with_program_held(free) if is_held else free)
        found = terms(model, values, data, key, unseen, scored, expected)
        return -(found.likelihood - weight * found.divergence + found.prior) / data.n_trials

    def step(carried: tuple[Values, Any], key: Array) -> tuple[tuple[Values, Any], Array]:
        values, state = carried
        value, slope = jax.value_and_grad(loss)(values, key)
        change, moved = adam.update(slope, state, values)
        finite = jnp.isfinite(value) & jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope)]))
        there = jax.tree.map(lambda old, by, length: (old - length * by).astype(old.dtype), values, change, lengths)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), (there, moved), (values, state)), ~finite

    (free, place), left_out = jax.lax.scan(step, (free, place), random.split(key, n_steps))
    return free, place, left_out.sum()


@partial(jax.jit, static_argnums=0)
def _judged(model: WithGuide, free: Values, data: MultiRegionData, key: Array) -> Terms:
    """Terms of the bound of the trials kept apart in nats."""
    values = Parameters.of(model, data).constrained(free)
    keys = random.split(key, 1 if model.is_autoencoder else JUDGED)
    found = jax.lax.map(lambda key: terms(model, values, data, key), keys)
    return jax.tree.map(jnp.mean, found)
