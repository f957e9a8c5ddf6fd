r"""Free linear-Gaussian state space: the latents are the state.

Its dynamics are parameters.

    s_{t+1} = A s_t + q_t,   q ~ N(0, Q),         x_t = s_t.

Loadings absorb any change of the state's coordinates, s = T z, so coordinates are chosen in which every value of the
parameters is valid and none is redundant but for a rotation:

- stationary start: the stationary covariance is I. Then P0 = I, Q = I - A A', and A is any matrix of singular values
  below 1: no process that has a stationary covariance is lost.
- learned start: Q = I, and A is any matrix, growing modes included; s_0 ~ N(m0, S S' + floor I) for any m0 and S.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from scipy.linalg import solve_discrete_lyapunov, solve_triangular

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.assemble import Latents, SignalReader
from mrgp.likelihoods.statespace.readout import Window
from mrgp.likelihoods.statespace.stable_matrices import UniformContraction
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS
from mrgp.parts.sites import Site

TRANSITION = Site("transition", "latent_after", "across_latent", signed=True)
START_MEAN = Site("start_mean", "across_latent", signed=True)
START_ROOT = Site("start_root", "across_latent", "start_direction", signed=True)

START_KNOWN = 0.5  # of a latent's sd in the process: how far from their mean trials of a typical system begin
START_FLOOR = 1e-6  # of one step's noise variance: a start known better than that is no different, but not invertible


class LinearSystem(NamedTuple):
    """Transition A and noise Q (state, state), with mean and covariance of the first state.

    The mean is (state,), the covariance (state, state).
    """

    transition: np.ndarray
    process_noise: np.ndarray
    start_mean: np.ndarray
    start_covariance: np.ndarray


@dataclass(frozen=True)
class LinearSpace:
    """State space of a linear dynamical system; static, and its own prior.

    Parameters are ``across``: ``transition`` A (across_latent, across_latent) and, where the start is learned,
    ``start_mean`` m0 (across_latent,) and ``start_root`` S (across_latent, across_latent).
    """

    assignment: LatentLayout
    learned_start: bool = False

    kinds: ClassVar[tuple[Alike, ...]] = ()
    remembers: ClassVar[bool] = True

    @property
    def prior(self) -> Self:
        """The state space itself, which represents no other prior."""
        return self

    @property
    def is_stationary(self) -> bool:
        """True unless the first state is learned."""
        return not self.learned_start

    @property
    def is_standard(self) -> bool:
        """True unless the first state is learned: coordinates make its covariance I."""
        return not self.learned_start

    @property
    def window(self) -> Window:
        """One bin per step, no registers."""
        return Window(0)

    def for_reading(self) -> Self:
        """Refuse: the process has steps, and no values between them."""
        raise ValueError("a linear dynamical system has no values between bins: use refine=1")

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics and the readout of the model.

        See :class:`mrgp.likelihoods.statespace.assemble.Space`.
        """
        A = jnp.asarray(latents.across[TRANSITION.name])
        eye = jnp.eye(len(A), dtype=A.dtype)
        readout = StateReadout(eye[None], jnp.zeros((1, len(A)), A.dtype))
        if not self.learned_start:
            return Dynamics(A, eye - A @ A.T, eye), readout
        mean, root = (jnp.asarray(latents.across[name]) for name in (START_MEAN.name, START_ROOT.name))
        return Dynamics(A, eye, root @ root.T + START_FLOOR * eye, mean), readout

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the states themselves; there are no within latents."""
        count = self.assignment.n_across if kind == "across" else 0
        return SignalReader(jnp.ones((1, count, 1)), jnp.zeros((1, count)), 0)

    def normalised(self, system: LinearSystem) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Find the parameters of ``system`` in coordinates z, and the matrix T of s = T z.

        The coordinates are those of this state space.

        With a stationary start, the system's own start has no part in it.

        Raises:
            np.linalg.LinAlgError: the start is stationary but the system has no stationary covariance.
        """
        A, Q, mean, covariance = system
        if self.learned_start:
            T = np.linalg.cholesky(Q)
            P = solve_triangular(T, solve_triangular(T, covariance, lower=True).T, lower=True)
            values, vectors = np.linalg.eigh(0.5 * (P + P.T))
            root = vectors * np.sqrt(np.maximum(values - START_FLOOR, 0.0))
            start = {START_MEAN.name: solve_triangular(T, mean, lower=True), START_ROOT.name: root}
        else:
            T, start = np.linalg.cholesky(stationary_covariance(A, Q)), {}
        return {TRANSITION.name: solve_triangular(T, A @ T, lower=True), **start}, T


def stationary_covariance(transition: np.ndarray, process_noise: np.ndarray) -> np.ndarray:
    """Solve P = A P A' + Q for the stationary covariance P.

    LinAlgError if an eigenvalue of A reaches the unit circle and P does not exist.
    """
    if np.abs(np.linalg.eigvals(transition)).max(initial=0.0) >= 1:
        raise np.linalg.LinAlgError("the system has no stationary covariance")
    P = solve_discrete_lyapunov(transition, process_noise)
    return 0.5 * (P + P.T)


def typical_system(key: Array, size: int) -> LinearSystem:
    """Draw a system whose latents have variance 1 in the long run, and begin around a mean.

    The priors of a learned start are flat: nearly all that they hold grows beyond all bounds.
    """
    transition_key, start_key = random.split(key)
    A = np.asarray(UniformContraction(size).sample(transition_key))
    start = np.asarray(random.normal(start_key, (size,)))
    return LinearSystem(A, np.eye(size) - A @ A.T, start, START_KNOWN**2 * np.eye(size))


def slowest_first(transition: np.ndarray) -> np.ndarray:
    """Find the rotation U (state, state) that orders the modes of A, slowest first.

    U' A U is block triangular.

    The first coordinates then span the slow modes: the first k of them follow dynamics of their own wherever no pair of
    complex modes is cut in two.
    """
    values, vectors = np.linalg.eig(transition)
    order = np.argsort(-np.abs(values), kind="stable")
    basis = np.where(values.imag < 0, vectors.imag, vectors.real)[:, order]
    U, _ = np.linalg.qr(basis)
    return U


def rotated(sites: Mapping[str, Any], U: np.ndarray) -> dict[str, np.ndarray]:
    """Rotate the states of a model to coordinates z, s = U z; U is orthogonal."""
    turn = {
        TRANSITION.name: lambda A: U.T @ A @ U,
        LOADINGS.name: lambda C: C @ U,
        START_MEAN.name: lambda m: U.T @ m,
        START_ROOT.name: lambda S: U.T @ S,
    }
    return {name: turn[name](np.asarray(v)) if name in turn else np.asarray(v) for name, v in sites.items()}


def first_order(signals: np.ndarray, largest: float = 0.98) -> tuple[np.ndarray, np.ndarray]:
    """Guess A and T from signals (trial, time, latent) by regression on the last bin.

    T is the matrix of s = T z, cov z = I.

    Singular values of A are correlations between neighbouring bins; those above ``largest`` are cut.
    """
    count = signals.shape[-1]
    flat = signals.reshape(-1, count)
    square = flat.T @ flat / len(flat)
    T = np.linalg.cholesky(square + 1e-6 * max(np.trace(square) / count, 1e-12) * np.eye(count))
    white: np.ndarray = np.linalg.solve(T, flat.T).T.reshape(signals.shape)
    pairs = max(white.shape[0] * (white.shape[1] - 1), 1)
    left, sizes, right = np.linalg.svd(np.einsum("bti,btj->ij", white[:, 1:], white[:, :-1]) / pairs)
    return (left * np.minimum(sizes, largest)) @ right, T


def memories(transition: np.ndarray) -> np.ndarray:
    """Timescales -1 / log|eigenvalue| of the modes of A in bins, longest first.

    They are inf for modes that grow.
    """
    size = np.sort(np.abs(np.linalg.eigvals(transition)))[::-1]
    with np.errstate(divide="ignore"):
        return np.where(size < 1, -1 / np.log(np.minimum(size, 1.0)), np.inf)
