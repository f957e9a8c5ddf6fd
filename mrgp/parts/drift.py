r"""Drift over a session: slow changes from trial to trial, in no trial's own latents.

.. math::
    \eta_{b,t} \to \eta_{b,t} + D\, o_b, \qquad o_k(s) \sim GP(0, \sigma^2 k), \qquad
    k(s, s') = \exp(-(s - s')^2 / 2 \ell^2)

with s the place of trial b in its session, o of a few factors, and loadings D of neurons. Without it, what a session
does to a population is in the latents of every trial, and a model of networks learns drift in the place of conditions.

The process is written in sines that vanish at both ends of an interval, of which trials fill the middle (Solin & Särkkä
2020, Stat. Comput. 30, 419-446). Beyond it, and where a trial's place is not known, drift is at its prior mean, 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.contrib.hsgp.laplacian import eigenfunctions
from numpyro.contrib.hsgp.spectral_densities import diag_spectral_density_squared_exponential

from mrgp.part import Part
from mrgp.parts.networks.network import network, quiet, single
from mrgp.parts.sites import LONG, Site
from mrgp.recordings.recording import MultiRegionData

DRIFT_WEIGHT = Site("drift_weight", "drift_factor", "drift_mode", stride=LONG)  # of a mode's prior sd
DRIFT = "drift"  # deterministic site of trials, (trial; drift_factor)
LOADINGS = "drift_loadings"  # the network that is D
SESSION = "session"  # the parameter that holds the first and the last place of the trials that were fitted to
MARGIN = 2.0  # timescales from the last trial to the end of the interval: k is off by exp(-2 MARGIN^2), 3e-4, there
SHORTEST = 0.005  # timescale, as a share of the session: sines are then nearly 500
FASTEST = 3.5  # timescale x angular frequency of the fastest sine: those beyond have 5e-4 of the variance


class Drifting(NamedTuple):
    """Drift of the trials of a recording.

    Attributes:
        of: From a recording to the factors of its trials, (trial, factor); None where nothing drifts.
        loadings: In units of eta, (neuron, factor).
    """

    of: Callable[[MultiRegionData], Array] | None = None
    loadings: Array | None = None

    def added(self, signal: Array, trials: MultiRegionData) -> Array:
        """Add the drift of trials to a signal (trial, time, neuron), inside a program's plate."""
        if self.of is None or self.loadings is None:
            return signal
        return signal + (numpyro.deterministic(DRIFT, self.of(trials)) @ self.loadings.T)[:, None]

    def beside(self, inputs: Array, trials: MultiRegionData) -> Array:
        """Put the factors of trials beside what a guide sees of them, (trial, ..., input)."""
        if self.of is None:
            return inputs
        own = lax.stop_gradient(self.of(trials))
        wide = own.reshape(len(own), *[1] * (inputs.ndim - 2), -1)
        return jnp.concatenate([inputs, jnp.broadcast_to(wide, (*inputs.shape[:-1], own.shape[-1]))], -1)


class Drift(Part, family="drift", tag="name", short=True):
    """Law of what changes slowly from trial to trial of a session.

    Attributes:
        n_told: Numbers that :meth:`Drifting.beside` adds to a guide's inputs.
    """

    @property
    def n_told(self) -> int:
        raise NotImplementedError

    def sample(self, data: MultiRegionData, unit: Array) -> Drifting:
        """Sample drift outside the plate of trials, in a program and in its guide.

        Args:
            data: The recording.
            unit: In which eta is measured, (neuron,).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class NoDrift(Drift):
    """A population that is the same in all trials of a session."""

    known_as = "none"

    @property
    def n_told(self) -> int:
        return 0

    def sample(self, data: MultiRegionData, unit: Array) -> Drifting:
        return Drifting()


@dataclass(frozen=True)
class SlowDrift(Drift):
    """Factors that are Gaussian processes over the places of trials in their session.

    Places are those of :attr:`mrgp.MultiRegionData.trial_place`: trials that are split keep them, so that trials which
    were not fitted to lie between others. Of trials that come in files of their own the place is known by their
    coordinate "start_time" alone. The site ``drift_weight`` (drift_factor, drift_mode) weighs the sines, in
    units of their prior sd; factors of trials are ``fit.posterior("drift")``.

    Args:
        n_factors: Factors that drift.
        timescale: l, as a share of the session, from the first trial that is fitted to until the last: what changes
            faster is left to each trial's own latents.
        spread: sigma, prior sd of a factor.
    """

    n_factors: int = 4
    timescale: float = 0.2
    spread: float = 1.0

    known_as = "slow"

    def __post_init__(self) -> None:
        if self.n_factors < 1:
            raise ValueError(f"n_factors of drift counts at least 1, not {self.n_factors}")
        for name in ("timescale", "spread"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} of drift is a positive number, not {getattr(self, name)}")
        if self.timescale < SHORTEST:
            raise ValueError(f"timescale of drift is a share of the session from {SHORTEST} on, not {self.timescale}")

    @property
    def end(self) -> float:
        """Half the length of the interval, in halves of the session."""
        return 1 + MARGIN * 2 * self.timescale

    @property
    def n_modes(self) -> int:
        """Number of sines."""
        return int(np.ceil(FASTEST / (2 * self.timescale) * 2 * self.end / np.pi))

    @property
    def n_told(self) -> int:
        return self.n_factors

    def sample(self, data: MultiRegionData, unit: Array) -> Drifting:
        places = jnp.asarray(data.trial_place)
        known = numpyro.param(SESSION, jnp.stack([jnp.nanmin(places), jnp.nanmax(places)]))
        weights = DRIFT_WEIGHT.sample(dist.Normal(0.0, 1.0).expand((self.n_factors, self.n_modes)).to_event(2))
        D = network(LOADINGS, lambda key: quiet(self.n_factors, data.layout.total_neurons, key)).weight
        session = lax.stop_gradient(known)

        def of(trials: MultiRegionData) -> Array:
            return single(self.modes(jnp.asarray(trials.trial_place), session) @ weights.T)

        return Drifting(of, unit.astype(D.dtype)[:, None] * D)

    def modes(self, places: Array, session: Array) -> Array:
        """Modes of the process at places, (trial, mode).

        It is their sum with independent N(0, 1) weights.
        """
        length = session[1] - session[0]
        s = (places - session.mean()) / jnp.where(length == 0, 1.0, length / 2)  # a session of one trial has none
        s = jnp.clip(s, -self.end, self.end)
        s = jnp.where(jnp.isnan(s), self.end, s)
        of = self.spread**2, 2 * self.timescale, self.end, self.n_modes
        power = diag_spectral_density_squared_exponential(*of, dim=1)
        return eigenfunctions(s, self.end, self.n_modes) * jnp.sqrt(power)

