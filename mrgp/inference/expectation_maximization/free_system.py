r"""M-step of the dynamics of one population, without priors.

See Shumway & Stoffer 1982, Ghahramani & Hinton 1996.

    A = (sum s_t s_{t-1}') (sum s_{t-1} s_{t-1}')^-1,           Q = mean of s_t s_t' - A s_{t-1} s_t',
    m0 = mean of s_0,                                           P0 = mean of (s_0 - m0) (s_0 - m0)'.

Where the start is stationary, P0 depends on A and Q and their update has no closed form: the same expected log-density
is climbed by BFGS from the closed form without the start or from where it was, whichever is higher.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import biject_to, constraints
from scipy.optimize import minimize

from mrgp.inference.expectation_maximization.moments import Moments
from mrgp.inference.expectation_maximization.readouts import readouts_update
from mrgp.likelihoods.statespace.linear import TRANSITION, LinearSpace, LinearSystem
from mrgp.likelihoods.statespace.stable_matrices import contraction
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence

DYNAMICS_ITERATIONS = 30  # of BFGS on a few numbers; it starts close


@dataclass(frozen=True)
class FreeUpdates:
    """M-step of a linear system that all neurons read, without priors.

    Attributes:
        space: State space of a recording, by its layout.
    """

    space: Callable[[Layout], LinearSpace]

    has_priors: ClassVar[bool] = False

    def objection(self) -> Sentence | None:
        return None

    def __call__(self, data: MultiRegionData, moments: Moments, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        space = self.space(data.layout)
        found = readouts_update(moments, data, space.assignment, np.asarray(sites[NOISE.name]), None)
        dynamics, T = dynamics_update(space, moments, np.asarray(sites[TRANSITION.name]), data.n_trials)
        return {**found, **dynamics, LOADINGS.name: found[LOADINGS.name] @ T}


def dynamics_update(
    space: LinearSpace, moments: Moments, transition: np.ndarray, n_trials: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parameters of the dynamics that maximise the expected log-density, and new coordinates.

    The coordinates z of the states are given by the matrix T, s = T z.
    """
    if moments.transitions == 0:
        # Trials of one bin say nothing of A; where Q is fixed by the coordinates, neither of Q.
        A, Q = transition, np.eye(len(transition))
    else:
        A = np.linalg.solve(moments.present, np.asarray(moments.lagged).T).T
        Q = np.asarray(moments.following - A @ moments.lagged.T) / float(moments.transitions)
        Q = 0.5 * (Q + Q.T)
    mean = np.asarray(moments.start) / n_trials
    covariance = np.asarray(moments.start_square) / n_trials - np.outer(mean, mean)
    if space.learned_start:
        return space.normalised(LinearSystem(A, Q, mean, covariance))
    candidates = [(transition, np.eye(len(transition)))]
    try:
        sites, T = space.normalised(LinearSystem(A, Q, mean, covariance))
        candidates.append((sites[TRANSITION.name], T))
    except np.linalg.LinAlgError:
        pass  # what the trials do on the whole is not stationary: climb from where it was
    sums = jax.tree.map(jnp.asarray, moments._replace(square=jnp.zeros(()), product=jnp.zeros(()), power=jnp.zeros(())))

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = _stationary_loss(jnp.asarray(x), sums, n_trials)
        return float(loss), np.asarray(slope)

    starts = [x for A, T in candidates if np.isfinite(x := np.asarray(_coordinates(A, T))).all()]
    losses = [value(x)[0] for x in starts]
    best = starts[int(np.nanargmin(losses))]
    result = minimize(value, best, jac=True, method="BFGS", options={"maxiter": DYNAMICS_ITERATIONS, "gtol": 1e-9})
    x = result.x if result.fun <= np.nanmin(losses) else best
    new, T = (np.asarray(part) for part in _from_coordinates(jnp.asarray(x), len(transition)))
    return {TRANSITION.name: new}, T


_TO_CONTRACTION = biject_to(contraction)
_TO_ROOT = biject_to(constraints.lower_cholesky)


@jax.jit
def _coordinates(transition: Array, T: Array) -> Array:
    """Free coordinates of a contraction A and a root T, one after the other."""
    return jnp.concatenate([_TO_CONTRACTION.inv(transition), _TO_ROOT.inv(T)])


@partial(jax.jit, static_argnums=1)
def _from_coordinates(x: Array, size: int) -> tuple[Array, Array]:
    return _TO_CONTRACTION(x[: size**2]), _TO_ROOT(x[size**2 :])


@jax.jit
def _stationary_loss(x: Array, moments: Moments, n_trials: int) -> tuple[Array, Array]:
    """Minus the expected log-density of the states, divided by their number, and its gradient.

    The gradient is by ``x``, the coordinates of A and T (s = T z).
    """

    def loss(x: Array) -> Array:
        size = moments.present.shape[0]
        A, T = _from_coordinates(x, size)

        def changed(square: Array) -> Array:
            half = jax.scipy.linalg.solve_triangular(T, square, lower=True)
            return jax.scipy.linalg.solve_triangular(T, half.T, lower=True).T

        present, following, lagged, start = (
            changed(s) for s in (moments.present, moments.following, moments.lagged, moments.start_square)
        )
        root = jnp.linalg.cholesky(jnp.eye(size) - A @ A.T)
        left = following - A @ lagged.T - lagged @ A.T + A @ present @ A.T
        quadratic = jnp.trace(jax.scipy.linalg.cho_solve((root, True), left)) + jnp.trace(start)
        states = moments.transitions + n_trials
        log_determinant = moments.transitions * jnp.log(jnp.diagonal(root)).sum()
        log_determinant = log_determinant + states * jnp.log(jnp.diagonal(T)).sum()
        return (0.5 * quadratic + log_determinant) / states

    return jax.value_and_grad(loss)(x)
