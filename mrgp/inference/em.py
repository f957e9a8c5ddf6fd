r"""Expectation-maximization for a linear dynamical system, without priors.

It finds the maximum of log p(y | parameters). E-step: the smoother's moments E[s_t], E[s_t s_t'], E[s_t s_{t-1}'],
summed over what was observed. M-step, in closed form (Shumway & Stoffer 1982, eqs. 12-14; Ghahramani & Hinton 1996, the
M-step), with sums over trials and bins:

    [C d]_n = (sum y_n [s; 1]') (sum [s; 1] [s; 1]')^-1,        R_n = mean of y_n^2 - [C d]_n [s; 1] y_n,
    A = (sum s_t s_{t-1}') (sum s_{t-1} s_{t-1}')^-1,           Q = mean of s_t s_t' - A s_{t-1} s_t',
    m0 = mean of s_0,                                           P0 = mean of (s_0 - m0) (s_0 - m0)',

each neuron summed over the bins in which it was observed. Where the start is stationary, P0 depends on A and Q and
their update has no closed form: the same expected log-density is climbed by BFGS from the closed form without the start
or from where it was, whichever is higher. Either way the log-likelihood never decreases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import biject_to, constraints
from scipy.optimize import minimize

from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.quantity import LIKELIHOOD, Quantity
from mrgp.inference.run import Model, State
from mrgp.inference.search import search
from mrgp.inference.trivial import quietened
from mrgp.likelihoods.statespace.linear import TRANSITION, LinearSpace, LinearSystem
from mrgp.likelihoods.statespace.stable_matrices import contraction
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.missing import Missing, exact_patterns
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import MAP, Argument, Sentence

LEAST_NOISE = 1e-6  # of a neuron's variance: a neuron that the latents explain altogether has no likelihood
DYNAMICS_ITERATIONS = 30  # of BFGS on a few numbers; it starts close


class Moments(NamedTuple):
    """Expected sums given a recording, and its log-likelihood.

    y is measured from ``data.center``.

    Attributes:
        log_likelihood: log p(y | parameters), nats.
        transitions: Number of pairs (s_t, s_{t+1}) within trials.
        present, following: sum s_t s_t' and sum s_{t+1} s_{t+1}' over those pairs, (state, state).
        lagged: sum s_{t+1} s_t', (state, state).
        start, start_square: sum s_0 (state,) and s_0 s_0' (state, state) over trials.
        square: sum [s; 1] [s; 1]' over the bins of each neuron, (neuron or 1, state + 1, state + 1).
        product: sum y [s; 1], (neuron, state + 1).
        power: sum y^2, (neuron,).
    """

    log_likelihood: Array
    transitions: Array
    present: Array
    following: Array
    lagged: Array
    start: Array
    start_square: Array
    square: Array
    product: Array
    power: Array


@partial(jax.jit, static_argnums=0)
def expectation(model: Model, data: MultiRegionData, exact: Missing, sites: Mapping[str, Any]) -> Moments:
    """Do the E-step: find the expected sums and the log-likelihood at ``sites``.

    ``exact`` is the recording's missing data with every trial's end in its pattern.
    """
    distribution = model.likelihood_at(data, sites)
    posterior = distribution.with_missing(exact).posterior(data.values)
    m = jnp.swapaxes(posterior.state_mean, 0, 1)  # (trial, time, state)
    n_trials, n_bins, _ = m.shape
    lengths = jnp.full(n_trials, n_bins) if data.length is None else data.length
    inside = (jnp.arange(n_bins) < lengths[:, None]).astype(m.dtype)
    groups = posterior.state_covariance.shape[1]
    member = jax.nn.one_hot(exact.pattern, groups, dtype=m.dtype)  # (trial, pattern)
    count = member.T @ inside  # (pattern, time)
    covariance = jnp.swapaxes(posterior.state_covariance, 0, 1)

    def total(weight: Array) -> Array:
        """Expected sum of s_t s_t', weighted by ``weight`` (trial, time)."""
        spread = jnp.einsum("gt,gtij->ij", member.T @ weight, covariance)
        return spread + jnp.einsum("bti,bt,btj->ij", m, weight, m)

    pairs = inside[:, 1:]
    lagged = jnp.einsum("gt,tgij->ji", count[:, 1:], posterior.state_lagged)
    lagged = lagged + jnp.einsum("bti,bt,btj->ij", m[:, 1:], pairs, m[:, :-1])
    first = jnp.zeros_like(inside).at[:, 0].set(inside[:, 0])

    known = jnp.concatenate([m, jnp.ones((*m.shape[:2], 1))], axis=-1)  # [s; 1]
    padded = jnp.pad(covariance, [(0, 0), (0, 0), (0, 1), (0, 1)])
    if exact.observed is None:
        y = data.floats - data.center
        square = (jnp.einsum("gt,gtij->ij", count, padded) + jnp.einsum("bti,btj->ij", known, known))[None]
    else:
        seen = exact.observed.astype(m.dtype)  # (pattern, time, neuron)
        y = data.floats - data.center * seen[exact.pattern]
        each = padded * count[..., None, None] + jnp.einsum("bg,bti,btj->gtij", member, known, known)
        square = jnp.einsum("gtn,gtij->nij", seen, each)
    return Moments(
        distribution.log_prob(data.values).sum(),
        pairs.sum(),
        total(jnp.pad(pairs, [(0, 0), (0, 1)])),
        total(jnp.pad(pairs, [(0, 0), (1, 0)])),
        lagged,
        m[:, 0].sum(0),
        total(first),
        square,
        jnp.einsum("btn,bti->ni", y, known),
        (y**2).sum((0, 1)),
    )


def emission_update(moments: Moments, data: MultiRegionData) -> dict[str, np.ndarray]:
    """Loadings, offsets and noise variances that maximise the expected log-density."""
    coefficients = np.linalg.solve(moments.square, np.asarray(moments.product)[..., None])[..., 0]
    left = np.asarray(moments.power) - (coefficients * moments.product).sum(-1)
    noise = np.maximum(left / np.asarray(moments.square)[:, -1, -1], LEAST_NOISE * np.asarray(data.scale) ** 2)
    return {LOADINGS.name: coefficients[:, :-1], OFFSET.name: coefficients[:, -1] + data.center, NOISE.name: noise}


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


@dataclass(kw_only=True)
class Cycle(State[Model]):
    """State after an E-step.

    Attributes:
        recording, exact: What the E-step is given, on the device.
        space: The model's linear system.
        moments: Of the E-step at ``sites``; None before the first.
    """

    recording: Any
    exact: Missing
    space: LinearSpace
    moments: Moments | None = None


@dataclass(frozen=True)
class EM(Method):
    """Expectation-maximization: the maximum of log p(y | parameters), without settings."""

    climbs: ClassVar[Quantity] = LIKELIHOOD
    holds_sites: ClassVar[bool] = False
    listed: ClassVar[bool] = True
    title: ClassVar[str | None] = "expectation-maximization"

    def objection(self, model: Any, data: MultiRegionData) -> Sentence | None:
        if model.mean.moves:
            return "method 'em' has no update for ", Argument("mean", model.mean.written_name()), ": use ", MAP
        if model.emission.is_of_counts:
            return "method 'em' has no update for ", Argument("emission", model.emission.written_name()), ": use ", MAP
        return super().objection(model, data)

    def init(self, driver: Driver) -> Cycle:
        model, data = driver.model, driver.data
        resumed = driver.store.read(model)
        sites: dict[str, Any]
        if resumed is not None:
            model, sites = resumed
        elif driver.start is not None:
            sites = dict(driver.start.sites)
        else:
            model, sites, _ = search(model, data, driver.options)
            sites = quietened(sites, data) if driver.options.quiet else sites
        model = model.replace(likelihood=model.likelihood.unadapted())
        exact = exact_patterns(_missing(data), data.n_bins, data.layout.total_neurons)
        space = model.likelihood_at(data, sites).space
        assert isinstance(space, LinearSpace)
        return Cycle(model=model, sites=sites, recording=jax.tree.map(jnp.asarray, data), exact=exact, space=space)

    def step(self, driver: Driver, state: Cycle) -> Cycle:
        """Do an M-step, unless there are no moments yet, and an E-step."""
        sites = state.sites if state.moments is None else _maximised(state, driver.data)
        given = {name: jnp.asarray(value) for name, value in sites.items()}
        moments = expectation(state.model, state.recording, state.exact, given)
        state.sites, state.moments = sites, jax.tree.map(np.asarray, moments)
        driver.climbed(state, float(moments.log_likelihood))
        return state


def _maximised(state: Cycle, data: MultiRegionData) -> dict[str, Any]:
    """Do the M-step: return the sites that maximise the expected log-density."""
    assert state.moments is not None
    emission = emission_update(state.moments, data)
    dynamics, T = dynamics_update(state.space, state.moments, np.asarray(state.sites[TRANSITION.name]), data.n_trials)
    return {**emission, **dynamics, LOADINGS.name: emission[LOADINGS.name] @ T}


def _missing(data: MultiRegionData) -> Missing:
    if data.is_complete:
        return Missing(None, jnp.zeros(data.n_trials, int), None)
    holes: Any = (data.observed, data.pattern, data.length)
    return Missing(*holes)
