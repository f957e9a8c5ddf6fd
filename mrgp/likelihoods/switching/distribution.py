"""Distribution of trials under switching linear dynamics.

Draws are exact, its log density is a lower bound.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from mrgp.likelihoods.switching.posterior import Posterior, System, Trials, searched
from mrgp.parts.membership import Membership
from mrgp.parts.switching import SwitchingDynamics
from mrgp.recordings.missing import Missing, inside, present

WITHIN = 0.01  # nats that a trial gains by a round, below which its posterior is found
MOST = 100  # rounds of that search


class Paths(NamedTuple):
    """Drawn trials.

    Attributes:
        states: z, (trial, time).
        latents: x, (trial, time, latent).
        eta: (trial, time, neuron).
        values: y, (trial, time, neuron).
    """

    states: Array
    latents: Array
    eta: Array
    values: Array


class SwitchingLinear(Distribution):
    """Trials whose latents follow switching linear dynamics, (trial) x (time, neuron).

    ``log_prob`` is a **lower bound** of log p(y) in nats, trial by trial, at the best posterior that a search finds.

    Args:
        system: Parameters.
        emission: Draws values given eta.
        n_bins: Of a trial.
        missing: Entries that were observed.
        membership: Of the neurons, whose copies the system reads; None where each has one.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("system", "missing", "membership")
    pytree_aux_fields = ("emission", "n_bins")

    def __init__(
        self, system: System, emission: Any, n_bins: int, missing: Missing, membership: Membership | None = None
    ) -> None:
        self.system, self.emission, self.n_bins, self.missing = system, emission, n_bins, missing
        self.membership = Membership.known(len(system.loadings)) if membership is None else membership
        super().__init__((len(missing.pattern),), (n_bins, len(self.membership.share)), validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        """Values that the emission can have."""
        counts = self.system.readout.counts
        return constraints.independent(constraints.real if counts is None else counts.support, 2)

    def trials(self, value: Array) -> Trials:
        """Trials (trial, time, neuron) with what is missing in them."""
        values = jnp.asarray(value, float)
        seen = jnp.broadcast_to(jnp.asarray(present(self.missing, self.n_bins), float), values.shape)
        own, there = (self.membership.copied(part) for part in (values * seen, seen))
        return Trials(own, there, inside(self.missing.length, *values.shape[:2]).astype(float), self.membership.weights)

    def posterior(self, value: Array) -> Posterior:
        """Posterior of trials (trial, time, neuron), 0 where missing: the best of a search."""
        return searched(self.system, self.trials(value), WITHIN, MOST)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Lower bound of log p(y) in nats of each trial."""
        return self.posterior(value).bound

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw trials, sample_shape + (trial, time, neuron); missing entries are drawn too."""
        if not sample_shape:
            return self.paths(key).values
        keys = random.split(key, sample_shape)
        flat = lax.map(lambda key: self.paths(key).values, keys.reshape(-1))
        return flat.reshape(*sample_shape, *flat.shape[1:])

    def paths(self, key: Array) -> Paths:
        """Draw trials with the states and latents behind them."""
        to_trials, to_values = random.split(key)
        of_neurons = random.fold_in(key, 1)
        keys = random.split(to_trials, self.batch_shape[0])
        states, latents = drawn_paths(keys, self.system.dynamics, self.n_bins)
        eta = latents @ self.system.loadings.T + self.system.readout.offset
        values = self.emission.given(self.system.readout, eta).sample(to_values)
        return Paths(states, latents, *(self.membership.picked(of_neurons, part) for part in (eta, values)))


def drawn_paths(keys: Array, of: SwitchingDynamics, n_bins: int) -> tuple[Array, Array]:
    """Draw states (trial, time) and latents (trial, time, latent), a trial for each key."""
    return jax.vmap(lambda key: _path(key, of, n_bins))(keys)


def _path(key: Array, of: SwitchingDynamics, n_bins: int) -> tuple[Array, Array]:
    """Draw states (time,) and latents (time, latent) of one trial."""
    first, start, rest = random.split(key, 3)
    z = random.categorical(first, jnp.log(of.first_state))
    x = of.first_mean + jnp.sqrt(of.first_variance) * random.normal(start, of.first_mean.shape)
    row_of = jnp.asarray(of.row_of)

    def step(before: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        z, x = before
        switch, push = random.split(key)
        z = random.categorical(switch, of.logits[z] + (of.rows @ x)[row_of[z]])
        x = of.matrix[z] @ x + of.drift[z] + random.normal(push, x.shape)
        return (z, x), (z, x)

    states, latents = lax.scan(step, (z, x), random.split(rest, n_bins - 1))[1]
    return jnp.concatenate([z[None], states]), jnp.concatenate([x[None], latents])
