"""Lift by the exponential modes of a rational approximation, with a derivative of its own."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import solve_continuous_lyapunov

from mrgp.likelihoods.statespace.rational import Rational
from mrgp.parts.kernels import Hyperparameters


@dataclass(frozen=True, eq=False)
class ModalLift:
    r"""Lift by exponential modes of the kernel.

        A(a) = sum_i u^n_i exp(-rho_i u) (cos(omega_i u) X_i + sin(omega_i u) Y_i),      u = a / timescale.

    The matrices are constants of the kernel, so a transition over any lag costs a few exponentials and a product.
    """

    rational: Rational
    power: np.ndarray
    decay: np.ndarray
    rotation: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray

    @property
    def order(self) -> int:
        return len(self.rational.h)

    @property
    def error(self) -> float:
        return self.rational.error

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        u = lag / hyper["timescale"]
        if isinstance(u, np.ndarray):  # where a window is chosen; JAX in a model, which differentiates it
            return self.transition(u)
        return _transition(self, u)

    def transition(self, u: Any) -> Any:
        """Compute expm(F u), (..., state, state), for lags ``u`` in timescales."""
        xp, each = u.__array_namespace__(), u[..., None]  # beside every mode
        envelope = xp.exp(-self.decay * each)
        if self.power.any():
            envelope = each**self.power * envelope
        if not self.rotation.any():
            return xp.tensordot(envelope, xp.asarray(self.cosine), 1)
        waves = xp.concatenate([envelope * wave(self.rotation * each) for wave in (xp.cos, xp.sin)], axis=-1)
        return xp.tensordot(waves, xp.asarray(np.concatenate([self.cosine, self.sine])), 1)

    def read(self) -> np.ndarray:
        return self.rational.h


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _transition(lift: ModalLift, u: Array) -> Array:
    return lift.transition(u)


@_transition.defjvp
def _transition_jvp(lift: ModalLift, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """d expm(F u) = expm(F u) F du; slopes of all modes would be a third of a model's program."""
    A = _transition(lift, *primals)
    return A, A @ jnp.asarray(lift.rational.F, A.dtype) * tangents[0][..., None, None]


def matern(order: int) -> Rational:
    """Matern-(order - 1/2) exactly: the companion form, whitened by its stationary covariance."""
    rate = np.sqrt(2 * order - 1)
    companion = np.diag(np.ones(order - 1), 1)
    companion[-1] = -np.poly(-rate * np.ones(order))[1:][::-1]
    drive = np.zeros((order, order))
    drive[-1, -1] = 1.0
    stationary = solve_continuous_lyapunov(companion, -drive)
    whiten = np.linalg.cholesky(stationary / stationary[0, 0])
    return Rational(np.linalg.solve(whiten, companion @ whiten), np.eye(order)[0])


def modal(rational: Rational) -> ModalLift:
    """Split expm(F u) into exponential, rotating and polynomial modes.

    Polynomial modes are for the one defective case, Matern.
    """
    F = rational.F
    order = len(F)
    values, vectors = np.linalg.eig(F)
    if np.ptp(values.real) + np.abs(values.imag).max() < 1e-3 * np.abs(values).max():
        # One eigenvalue repeated: expm(F u) = exp(-rate u) sum_n (F + rate I)^n u^n / n!.
        rate = -np.trace(F) / order
        terms = [np.eye(order)]
        for n in range(1, order):
            terms.append(terms[-1] @ (F + rate * np.eye(order)) / n)
        zeros = np.zeros(order)
        return ModalLift(rational, np.arange(order), zeros + rate, zeros, np.array(terms), np.zeros((order,) * 3))
    keep = values.imag >= 0
    twice = np.where(values.imag > 0, 2.0, 1.0)[keep]
    modes = np.einsum("im,mj->mij", vectors, np.linalg.inv(vectors))[keep] * twice[:, None, None]
    kept = values[keep]
    return ModalLift(rational, np.zeros(len(kept), int), -kept.real, kept.imag, modes.real, -modes.imag)
