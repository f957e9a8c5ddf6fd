"""Method "amortised_svi": an amortised model and its guide, trained on batches of trials.

Adam climbs the bound of log p(y) (Kingma & Welling 2014, ICLR), of which the divergence of q from the prior is turned
on over the first epochs: else q would stay at the prior, from which nothing can be learned. Some trials are kept apart;
the parameters whose bound of these is highest are the result.
"""

import importlib
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.inference.amortised_bound import terms
from mrgp.inference.amortised_parameters import Parameters, Values, WithGuide
from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.run import BOUND, Quantity, Run, State
from mrgp.recordings.recording import MultiRegionData

FLOOR = 1e-3  # of the divergence's weight: from 0 the reconstruction jumps
LONGEST_STEP = 5.0  # of the gradient, in its usual units: one trial of many spikes throws nothing off its way
FEWEST_APART = 10  # trials, below which none is kept apart
JUDGED = 8  # draws of the guide in a bound of the trials kept apart


WARMING, TRAINED = "warming", "trained"  # phases of a run


@dataclass(kw_only=True)
class Training(State):
    """State between two epochs.

    Attributes:
        parameters: Of the model.
        free: Present unconstrained values; ``sites`` are those with the highest bound so far.
        optimiser: Its state.
        key: Of random numbers.
        epoch: Epochs so far.
        skipped: Steps that were left out since they were not finite.
        since: Epochs since the bound was highest.
    """

    parameters: Parameters
    free: Values
    optimiser: Any
    key: Array
    training: MultiRegionData
    apart: MultiRegionData
    epoch: int = 0
    skipped: int = 0
    since: int = 0


@dataclass(frozen=True)
class AmortisedSVI(Method):
    """Train a guide together with the networks of its model.

    Args:
        learning_rate: Of Adam.
        batch_size: Trials of one step; all, if there are fewer.
        warm_up: Epochs over which the divergence is turned on.
        patience: Epochs without a higher bound of the trials kept apart, after which the training ends.
        apart: Share of the trials that are kept apart.
    """

    learning_rate: float = 3e-3
    batch_size: int = 64
    warm_up: int = 50
    patience: int = 50
    apart: float = 0.2

    climbs: ClassVar[Quantity] = BOUND
    listed: ClassVar[bool] = True
    holds_sites: ClassVar[bool] = False
    title: ClassVar[str | None] = "training"
    unit: ClassVar[str] = " epochs"

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate is a positive number, not {self.learning_rate}")
        if not 0 <= self.apart < 1:
            raise ValueError(f"apart is a share of the trials in [0, 1), not {self.apart}")
        for name in ("batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} counts at least 1, not {getattr(self, name)}")

    def init(self, driver: Driver) -> Training:
        model, data, seed = driver.model, driver.data, driver.options.seed
        parameters = Parameters.of(model, data, seed)
        known = driver.store.read(model)
        values = parameters.first
        if driver.start is not None:
            values = parameters.unpacked(driver.start.sites)
        if known is not None:
            values = parameters.unpacked(known[1])
        training, apart = self._split(data, seed)
        free, key = parameters.free(values), random.key(seed)
        state = Training(
            model=model, sites=parameters.packed(values), parameters=parameters, free=free, key=key,
            optimiser=self._adam().init(free), training=training, apart=apart, phase=WARMING,
        )  # fmt: skip
        if driver.start is not None or driver.store.phase == TRAINED:  # it must not end below where it begins
            state.phase, state.trace = TRAINED, [self._judge(driver, state, random.fold_in(key, 1))]
        elif driver.options.max_iterations <= self.warm_up:
            most = f"max_iterations is {driver.options.max_iterations}, and warm_up {self.warm_up} epochs"
            raise ValueError(f"{most}: raise max_iterations, or lower warm_up")
        return state

    def step(self, driver: Driver, state: Training) -> Training:
        """Train for an epoch, and judge the parameters on the trials kept apart."""
        n_steps = -(-state.training.n_trials // self.batch_size)
        warming = state.phase == WARMING and state.epoch < self.warm_up
        warmth = state.epoch / self.warm_up if warming else 1.0
        weight, first = max(FLOOR, warmth), state.model.first_horizon
        horizon = np.ceil((first + (1 - first) * warmth) * state.training.n_bins)
        state.key, key, judge = random.split(state.key, 3)
        trained = _epoch(self, state.model, n_steps, state.free, state.optimiser, state.training, key, weight, horizon)
        state.free, state.optimiser = trained[:2]
        state.skipped += int(trained[2])
        state.epoch, state.evaluations = state.epoch + 1, state.evaluations + n_steps
        state.iterations = state.epoch
        value = self._judge(driver, state, judge)
        driver.show(1, value)
        better = warming or value > state.height
        if better:
            state.sites = state.parameters.packed(state.parameters.constrained(state.free))
        if not warming:
            state.phase, state.since = TRAINED, 0 if better else state.since + 1
            state.trace += [value] if better else []
        if better:
            driver.keep(state)
        return self._ended(driver, state)

    def _judge(self, driver: Driver, state: Training, key: Array) -> float:
        """Bound of log p(y) by the trials kept apart, in nats of all trials."""
        share = state.apart.n_trials / driver.data.n_trials
        return float(_judged(state.model, state.free, state.apart, key)) / share

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
        if training.n_trials > self.batch_size:
            training = training.in_batches_of(self.batch_size)
        return training, apart

    def _adam(self) -> Any:
        optax = _optax()
        return optax.chain(optax.clip_by_global_norm(LONGEST_STEP), optax.adam(self.learning_rate))


def _optax() -> Any:
    try:
        return importlib.import_module("optax")
    except ImportError as error:
        raise ImportError("method 'amortised_svi' trains with optax: pip install 'mrgp[deep]'") from error


@partial(jax.jit, static_argnums=(0, 1, 2))
def _epoch(
    method: AmortisedSVI, model: WithGuide, n_steps: int, free: Values, optimiser: Any, data: MultiRegionData,
    key: Array, weight: Any, horizon: Any,
) -> tuple[Values, Any, Array]:  # fmt: skip
    """Take ``n_steps`` steps; return values, the optimiser's state, and how many were left out.

    Bins before ``horizon`` are scored.
    """
    adam, parameters = method._adam(), Parameters.of(model, data)
    scored = (jnp.arange(data.n_bins) < horizon)[:, None]

    def loss(free: Values, key: Array) -> Array:
        found = terms(model, parameters.constrained(free), data, key, scored=scored)
        return -(found.likelihood - weight * found.divergence + found.prior) / data.n_trials

    def step(carried: tuple[Values, Any], key: Array) -> tuple[tuple[Values, Any], Array]:
        values, state = carried
        value, slope = jax.value_and_grad(loss)(values, key)
        change, moved = adam.update(slope, state, values)
        finite = jnp.isfinite(value) & jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope)]))
        there = (jax.tree.map(jnp.add, values, change), moved)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), there, (values, state)), ~finite

    (free, optimiser), left_out = jax.lax.scan(step, (free, optimiser), random.split(key, n_steps))
    return free, optimiser, left_out.sum()


@partial(jax.jit, static_argnums=0)
def _judged(model: WithGuide, free: Values, data: MultiRegionData, key: Array) -> Array:
    """Bound of the trials kept apart in nats."""
    parameters = Parameters.of(model, data)

    def bound(key: Array) -> Array:
        found = terms(model, parameters.constrained(free), data, key)
        return found.likelihood - found.divergence

    return jax.lax.map(bound, random.split(key, JUDGED)).mean()
