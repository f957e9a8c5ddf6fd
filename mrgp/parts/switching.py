r"""Switching linear dynamics: parameters of latents whose law changes with a hidden state.

.. math::
    x_t = A_{z_t} x_{t-1} + b_{z_t} + q_t, \qquad q_t \sim N(0, I), \qquad
    p(z_t = j \mid z_{t-1} = i, x_{t-1}) \propto \exp(T_{ij} + [j \ne i]\, R_j' x_{t-1} + [j = i]\, S_i' x_{t-1})

Latents are measured by their process noise, whose variance is 1; blocks of A, R and S are by population.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.parts.sites import Site

MATRIX = Site("state_matrix", "state", "within_latent_after", "within_latent")
DRIFT = Site("state_drift", "state", "within_latent")
LOGITS = Site("switch_logits", "state", "next_state")
ENTER = Site("enter_weights", "state", "within_latent")
STAY = Site("stay_weights", "state", "within_latent")
FIRST_STATE = Site("first_state", "state")
FIRST_MEAN = Site("first_mean", "within_latent")
FIRST_VARIANCE = Site("first_variance", "within_latent")


class SwitchingDynamics(NamedTuple):
    """Parameters of switching linear dynamics.

    Attributes:
        matrix: A, (state, latent, latent).
        drift: b, (state, latent).
        logits: T, (state, next state).
        enter: R, by which latents call a state that is not there, (state, latent).
        stay: S, by which they hold the one that is, (state, latent).
        first_state: p(z_1), (state,).
        first_mean, first_variance: Of x_1, (latent,) each.
    """

    matrix: Array
    drift: Array
    logits: Array
    enter: Array
    stay: Array
    first_state: Array
    first_mean: Array
    first_variance: Array

    @property
    def n_states(self) -> int:
        return self.matrix.shape[0]

    @property
    def n_latents(self) -> int:
        return self.matrix.shape[1]

    @classmethod
    def of(cls, sites: Mapping[str, Any]) -> "SwitchingDynamics":
        """Gather the parameters from sites by name; without weights, latents do not switch states."""
        own = [jnp.asarray(sites[site.name]) for site in (MATRIX, DRIFT, LOGITS)]
        zero = jnp.zeros_like(own[1])
        own += [jnp.asarray(sites.get(site.name, zero)) for site in (ENTER, STAY)]
        return cls(*own, *(jnp.asarray(sites[site.name]) for site in (FIRST_STATE, FIRST_MEAN, FIRST_VARIANCE)))

    @property
    def sites(self) -> dict[str, Array]:
        """Values of all sites by name."""
        names = (MATRIX, DRIFT, LOGITS, ENTER, STAY, FIRST_STATE, FIRST_MEAN, FIRST_VARIANCE)
        return {site.name: value for site, value in zip(names, self, strict=True)}

    @property
    def rows(self) -> Array:
        """Weights that enter, then those that stay, (2 x state, latent)."""
        return jnp.concatenate([self.enter, self.stay])

    @property
    def row_of(self) -> np.ndarray:
        """Row of :attr:`rows` that weighs each switch, (state, next state)."""
        states = np.arange(self.n_states)
        return np.where(np.eye(self.n_states, dtype=bool), self.n_states + states, states)

    def scaled(self, by: Array) -> "SwitchingDynamics":
        """Return the same dynamics of latents that are ``by`` (latent,) times as large."""
        return self._replace(
            matrix=self.matrix * by[:, None] / by,
            drift=self.drift * by,
            enter=self.enter / by,
            stay=self.stay / by,
            first_mean=self.first_mean * by,
            first_variance=self.first_variance * by**2,
        )
