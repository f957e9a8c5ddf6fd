"""Latents and predictions of an amortised model, from draws of the posterior of each trial."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import jax
import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from jax import Array, random
from numpyro import handlers
from scipy.special import logsumexp

from mrgp.inference.amortised_bound import SHOWN, traces
from mrgp.inference.amortised_parameters import Values, WithGuide
from mrgp.inference.refinement import Refined, guide_of, refined
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.draws import (
    LATENTS,
    VALUES,
    MomentsOf,
    Read,
    emission_of,
    log_p_of_values,
    mean_of,
    moments_of_values,
    replica,
    sites_of_trials_in,
    weights_of,
    weights_of_both,
)

if TYPE_CHECKING:
    from mrgp.results.processes_with_guide import Processes

DRAWS = 200  # of the posterior
ENOUGH = 0.5  # nats: standard error of log p(y) of a trial above which more draws are taken
MOST = 1000  # draws
SEED = 0  # what is said of a recording is the same each time


def why_no_density(model: str) -> str:
    """Reason why an autoencoder has no log p(y), and what to compare instead."""
    return (
        f"{model} has no log p(y): its latents are what encoders read of the very values. Score neurons that are "
        "hidden from it, by mrgp.evaluate or mrgp.metrics.hidden_log_likelihood"
    )


class LatentsShown:
    """Latents as the results of an amortised model show them."""

    def latents(self, given: "AmortisedConditional") -> xr.Dataset:
        """Posterior mean and sd of the latents of every trial and bin."""
        raise NotImplementedError

    def processes(self, model: Any, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> "Processes":
        """Gaussian processes that the latents are, at the parameters of a fit.

        Raises:
            ValueError: they are none.
        """
        name = type(model).__name__
        raise ValueError(f"{name} has neither delays nor timescales: its latents are no Gaussian processes")


class DrawnLatents(LatentsShown):
    """Site ``latents`` of the program, by draws."""

    def latents(self, given: "AmortisedConditional") -> xr.Dataset:
        """Posterior mean and sd of the latents.

        They are ``across_mean`` and ``across_sd``, (trial, time, across_latent).
        """
        [(mean, sd)] = given.of_sites(LATENTS)
        dims = ("trial", "time", "across_latent")
        coords = {"trial": np.arange(len(mean)), "time": given.data.times, "across_latent": np.arange(mean.shape[-1])}
        return xr.Dataset({"across_mean": (dims, mean), "across_sd": (dims, sd)}, coords)


class ShownWithGuide(WithGuide, Protocol):
    """Interface that results need of a model with a guide."""

    latents_shown: ClassVar[LatentsShown]
    is_autoencoder: ClassVar[bool]


@dataclass(frozen=True)
class AmortisedConditional:
    """An amortised model with its parameters, given a recording.

    Attributes:
        model: The program, and its guide.
        data: The recording.
        values: Of the parameters.
        refinement: Gradient steps by which what the guide says of each trial is bettered.
    """

    model: ShownWithGuide
    data: MultiRegionData
    values: Values
    refinement: int = 0

    @cached_property
    def refined(self) -> Refined | None:
        """Posterior of each trial after gradient steps; None where the guide's is taken as it is."""
        if not self.refinement:
            return None
        return refined(self.model, self.values, self.data, random.fold_in(random.key(SEED), 1), self.refinement)

    def log_likelihood(self) -> np.ndarray:
        """Importance-weighted bound of log p(y) of each trial in nats, (trial,).

        Of an autoencoder log p(y | latents), of the latents that it reads from y: by this a fit is held against the
        trivial model, and by nothing else.
        """
        if self.model.is_autoencoder:
            return np.asarray(self.over_draws(log_p_of_values, 1), float)[0]
        return self.importance_weighted()["log_likelihood"].to_numpy()

    def importance_weighted(self) -> xr.Dataset:
        """Bound log p(y) of each trial by weighted draws of its posterior.

        log of the mean of p(y, z) / q(z | y) (Burda et al. 2016, ICLR), with draws until its standard error is below
        half a nat in every trial, or a thousand.

        Returns:
            ``log_likelihood`` and ``standard_error`` in nats, ``pareto_k`` of the weights (Vehtari et al. 2024: above
            0.7 the bound may be loose, and its error is not to be trusted) and ``effective_draws``, each (trial,);
            ``n_draws`` as an attribute.

        Raises:
            DataError: of an autoencoder, which has no log p(y).
        """
        if self.model.is_autoencoder:
            raise DataError(why_no_density(type(self.model).__name__))
        weights = np.asarray(self.over_draws(weights_of, DRAWS), float)
        while (_relative_error(weights) >= ENOUGH).any() and len(weights) < MOST:
            more = min(2 * len(weights), MOST) - len(weights)
            weights = np.concatenate([weights, np.asarray(self.over_draws(weights_of, more, len(weights)), float)])
        shares = np.exp(weights - logsumexp(weights, 0))
        with np.errstate(all="ignore"):  # where one draw has all the weight, the tail is of no finite shape
            tail = np.array([float(array_stats.psislw(own)[1]) for own in weights.T])
        found = {
            "log_likelihood": logsumexp(weights, 0) - np.log(len(weights)),
            "standard_error": _relative_error(weights),
            "pareto_k": tail,
            "effective_draws": 1 / (shares**2).sum(0),
        }
        coords = {"trial": np.arange(weights.shape[1])}
        return xr.Dataset({n: ("trial", v) for n, v in found.items()}, coords, {"n_draws": len(weights)})

    def log_predictive(self, seen: MultiRegionData) -> np.ndarray:
        """Estimate log p of what only ``seen`` has, given the recording, in nats, (trial,).

        log of the mean of p(y | z) over draws of the posterior, weighted by importance; a difference of two bounds
        would be the larger the looser the one of fewer neurons is. Of an autoencoder it is exact: latents are read from
        the recording, which has nothing of what is scored.
        """
        draws = self.over_draws(weights_of_both, self._enough(MOST), also=(seen.floats, seen.mask & ~self.data.mask))
        given, hidden = (np.asarray(part, float) for part in draws)
        return logsumexp(given + hidden, 0) - logsumexp(given, 0)

    def latents(self, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents, as the model shows them: see :class:`LatentsShown`.

        Raises:
            ValueError: points between bins are asked for.
        """
        if refine != 1:
            raise ValueError(f"{type(self.model).__name__} has no latents between bins: use refine=1")
        return self.model.latents_shown.latents(self)

    @property
    def sites_of_trials(self) -> tuple[str, ...]:
        """Names of what trials have of their own: latents, and what follows from them."""
        return tuple(self._is_sampled)

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """Names of the latents of trials, which the program samples."""
        return tuple(name for name, sampled in self._is_sampled.items() if sampled)

    @cached_property
    def _is_sampled(self) -> dict[str, bool]:
        """Sites of trials, and whether they are sampled or follow from those that are."""
        found: dict[str, bool] = {}

        def run(data: MultiRegionData) -> None:
            program = handlers.substitute(handlers.seed(self.model, random.key(SEED)), data=self.values.all)
            for name, site in sites_of_trials_in(handlers.trace(program).get_trace(data)).items():
                found[name] = site["type"] == "sample"

        jax.eval_shape(run, self.data)
        return found

    def switched(self, switches: dict[str, Any]) -> Self:
        """Return the same posterior under a program of which some sites have other values."""
        networks, shared = self.values
        own = {name: value for name, value in switches.items() if name in shared}
        other = replace(self, values=self.values._replace(networks={**networks, **switches}, shared={**shared, **own}))
        other.__dict__["refined"] = self.refined  # what was seen, was seen without
        return other

    def of_sites(self, *names: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Posterior mean and sd of sites of the trials, (trial, ...) each."""
        means, squares = self.over_draws(MomentsOf(names), self._enough(DRAWS), averaged=True)
        both = [(np.asarray(mean), np.asarray(square)) for mean, square in zip(means, squares, strict=True)]
        return [(mean, np.sqrt(np.maximum(square - mean**2, 0.0))) for mean, square in both]

    def predictive(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of a new observation, each (trial, time, neuron)."""
        mean, square = self.over_draws(moments_of_values, self._enough(DRAWS), averaged=True)
        mean, square = np.asarray(mean), np.asarray(square)
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every entry before anything was observed, from draws of the program.

        Of an autoencoder, from what it reads of a recording of which nothing is seen.
        """
        known = self.switched({SHOWN: jax.numpy.asarray(False)}) if self.model.is_autoencoder else self
        keys = random.split(random.key(SEED), self._enough(DRAWS))
        mean, square = _of_program(self.model, known.values, self.data, keys)
        mean, square = np.asarray(mean), np.asarray(square)
        return mean, np.maximum(square - mean**2, 0.0)

    def sample(self, key: Array) -> np.ndarray:
        """Draw latents from the program, and values from these, (trial, time, neuron)."""
        return self.drawn(key)[VALUES]

    def drawn(self, key: Array) -> dict[str, np.ndarray]:
        """Draw trials from the program: their sites by name, and values ``y``, (trial, ...).

        Raises:
            DataError: of an autoencoder, which reads latents and has no law of them.
        """
        if self.model.is_autoencoder:
            name = type(self.model).__name__
            raise DataError(f"{name} cannot draw new trials: it reads latents from values, and has no law of them; "
                            "predict what is missing in a recording by fit.predict(data)")  # fmt: skip
        program = handlers.substitute(handlers.seed(self.model, key), data=self.values.all)
        run = handlers.trace(program).get_trace(self.data)
        sites = {name: site["value"] for name, site in sites_of_trials_in(run).items()}
        sites[VALUES] = emission_of(run).sample(random.fold_in(key, 1))
        return {name: np.asarray(value) for name, value in sites.items()}

    def draws(self, n_draws: int, seed: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw latents from the posterior, and weighted sums over time of new trials.

        ``weights`` are (trial, time, neuron); latents (draw, trial, time, latent), and sums (draw, trial, neuron).
        """
        latents, sums = self.over_draws(replica, n_draws, seed, weights)
        return np.asarray(latents), np.asarray(sums)

    def _enough(self, n_draws: int) -> int:
        """Number of draws that say all: one of an autoencoder, whose latents are the same in all."""
        return 1 if self.model.is_autoencoder else n_draws

    def over_draws(self, read: Read, n_draws: int, seed: int = SEED, also: Any = None, averaged: bool = False) -> Any:
        """Read something off every draw of the posterior, (draw, ...), or its mean over them."""
        keys = random.split(random.key(seed), n_draws)
        q = None if self.refined is None else self.refined.sites
        return _mapped(self.model, read, averaged, self.values, self.data, q, keys, also)


def _relative_error(weights: np.ndarray) -> np.ndarray:
    """Standard error of the log of the mean of weights, given by their logarithms (draw, trial)."""
    ratio = np.exp(weights - weights.max(0))
    return ratio.std(0, ddof=1) / ratio.mean(0) / np.sqrt(len(weights))


@partial(jax.jit, static_argnums=(0, 1, 2))  # what is read is a function of the module, so that it is compiled once
def _mapped(
    model: WithGuide, read: Read, averaged: bool, values: Values, data: MultiRegionData, q: Any, keys: Array, also: Any
) -> Any:
    def one(key: Array) -> Any:
        own, other = random.split(key)
        both = traces(model, values, data, own, guide=None if q is None else guide_of(q))
        return read(*both, other, also)

    return mean_of(one, keys) if averaged else jax.lax.map(one, keys)


@partial(jax.jit, static_argnums=0)
def _of_program(model: WithGuide, values: Values, data: MultiRegionData, keys: Array) -> tuple[Array, Array]:
    def one(key: Array) -> tuple[Array, Array]:
        program = handlers.substitute(handlers.seed(model, key), data=values.all)
        return moments_of_values({}, handlers.trace(program).get_trace(data), key, None)

    return mean_of(one, keys)
