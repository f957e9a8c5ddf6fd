r"""Lift of a kernel to a linear state space of unit stationary covariance.

    g(t) = h' z(t),      cov(z(t + a), z(t)) = A(a).

In these coordinates the stationary covariance is the identity, so A(a) = expm(F a / timescale), the process noise
of a step a is I - A A', and everything stays well conditioned at any step. Matern kernels are exact;
the squared exponential and any other kernel are represented by their best rational approximation.
"""

from dataclasses import dataclass
from functools import lru_cache, singledispatch
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.likelihoods.statespace.modal import matern, modal
from mrgp.likelihoods.statespace.rational import LONGEST_GRID, fit_kernel, squared_exponential
from mrgp.parts.kernels import (
    Hyperparameters,
    Kernel,
    Matern12,
    Matern32,
    Matern52,
    Spectral,
    SquaredExponential,
    Stretched,
    Sum,
    Weighted,
    White,
    stretched,
)

DEFAULT_ORDER = 6  # error of the squared exponential 5e-6: 1e-5 nats per trial; order 5 costs a tenth less and 1e-3


class Lift(Protocol):
    """State space of a kernel; one instance serves all latents of a kind."""

    @property
    def order(self) -> int:
        """Number of states of one latent."""

    @property
    def error(self) -> float:
        """Largest deviation of h' A h from the kernel's correlation; 0 if the lift is exact."""

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        """Compute A(lag), (..., latent, state, state), for ``lag`` >= 0 in bins, (..., latent)."""

    def read(self) -> np.ndarray:
        """h, (state,), equal for all latents."""


@dataclass(frozen=True)
class WhiteLift:
    """Lift of white noise, one state without memory: A(0) = 1, A(a) = 0 for a > 0."""

    order: int = 1
    error: float = 0.0

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        u = lag / hyper["timescale"]
        xp = u.__array_namespace__()
        return xp.where(u == 0, 1.0, 0.0)[..., None, None]

    def read(self) -> np.ndarray:
        return np.ones(1)


@dataclass(frozen=True, eq=False)
class RotatingLift:
    """Lift of base x cos(2 pi frequency lag): the base's states in a rotating plane.

    Such a kernel is quasi-periodic.
    """

    base: Lift
    frequency: float | None

    @property
    def order(self) -> int:
        return 2 * self.base.order

    @property
    def error(self) -> float:
        return self.base.error

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        A = self.base.propagate(lag, hyper)
        xp = A.__array_namespace__()
        angle = 2 * xp.pi * hyper["frequency"] * lag
        cos, sin = xp.cos(angle), xp.sin(angle)
        turn = xp.stack([xp.stack([cos, -sin], axis=-1), xp.stack([sin, cos], axis=-1)], axis=-2)
        product = A[..., :, None, :, None] * turn[..., None, :, None, :]
        return product.reshape(*A.shape[:-2], self.order, self.order)

    def read(self) -> np.ndarray:
        return np.kron(self.base.read(), np.array([1.0, 0.0]))


@dataclass(frozen=True, eq=False)
class StretchedLift:
    """Lift of a kernel whose timescale is a fixed multiple of the latent's."""

    base: Lift
    kernel: Stretched

    @property
    def order(self) -> int:
        return self.base.order

    @property
    def error(self) -> float:
        return self.base.error

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        return self.base.propagate(lag, stretched(self.kernel, hyper))

    def read(self) -> np.ndarray:
        return self.base.read()


@dataclass(frozen=True, eq=False)
class StackedLift:
    """Lift of a sum of kernels: independent states side by side."""

    parts: tuple[Lift, ...]
    weights: tuple[float, ...]

    @property
    def order(self) -> int:
        return sum(part.order for part in self.parts)

    @property
    def error(self) -> float:
        return sum(w * part.error for w, part in zip(self.weights, self.parts, strict=True))

    def propagate(self, lag: Any, hyper: Hyperparameters) -> Any:
        rows, before = [], 0
        for part in self.parts:
            block = part.propagate(lag, hyper)
            xp = block.__array_namespace__()
            after = self.order - before - part.order
            rows.append(xp.pad(block, [(0, 0)] * (block.ndim - 1) + [(before, after)]))
            before += part.order
        return xp.concatenate(rows, axis=-2)

    def read(self) -> np.ndarray:
        return np.concatenate([np.sqrt(w) * part.read() for w, part in zip(self.weights, self.parts, strict=True)])


@lru_cache
def build_lift(kernel: Kernel, order: int = DEFAULT_ORDER) -> Lift:
    """Build the state space of ``kernel``.

    ``order`` is the number of states of each approximated term, 2 to 6.

    Built once per kernel and order, so that models built anew share what was compiled for them.

    Raises:
        ValueError: the kernel is not a correlation function (the message says which property fails), or the order
            is not on offer.
    """
    with jax.ensure_compile_time_eval():  # a fit to numbers, also where the first call is inside a traced function
        return _build(kernel, order)


@singledispatch
def _build(kernel: Kernel, order: int) -> Lift:
    check_correlation(kernel)
    return modal(fit_kernel(lambda tau: np.asarray(kernel.cov(jnp.asarray(tau)), float), order))


@_build.register
def _(kernel: SquaredExponential, order: int) -> Lift:
    if type(kernel) is not SquaredExponential:  # a subclass with a covariance of its own
        return _build.dispatch(Kernel)(kernel, order)
    return modal(squared_exponential(order))


@_build.register
def _(kernel: Matern12 | Matern32 | Matern52, order: int) -> Lift:
    exact = {Matern12: 1, Matern32: 2, Matern52: 3}
    if type(kernel) not in exact:
        return _build.dispatch(Kernel)(kernel, order)
    return modal(matern(exact[type(kernel)]))


@_build.register
def _(kernel: White, order: int) -> Lift:
    return WhiteLift()


@_build.register
def _(kernel: Spectral, order: int) -> Lift:
    return RotatingLift(build_lift(kernel.base, order), kernel.frequency)


@_build.register
def _(kernel: Stretched, order: int) -> Lift:
    return StretchedLift(build_lift(kernel.kernel, order), kernel)


@_build.register
def _(kernel: Weighted, order: int) -> Lift:
    return build_lift(kernel.kernel, order)


@_build.register
def _(kernel: Sum, order: int) -> Lift:
    return StackedLift(tuple(build_lift(term, order) for term in kernel.terms), kernel.weights)


@singledispatch
def is_white(kernel: Kernel) -> bool:
    """True if bins are independent of each other, whatever the parameters of latents."""
    return False


@is_white.register
def _(kernel: White) -> bool:
    return type(kernel) is White


@is_white.register
def _(kernel: Spectral) -> bool:
    return is_white(kernel.base)


@is_white.register
def _(kernel: Weighted | Stretched) -> bool:
    return is_white(kernel.kernel)


@is_white.register
def _(kernel: Sum) -> bool:
    return all(map(is_white, kernel.terms))


def check_own(kernel: Kernel) -> None:
    """Check a user's own kernel by :func:`check_correlation`.

    Kernels that come with the package, and sums, are valid.
    """
    if _build.dispatch(type(kernel)) is _build.dispatch(Kernel):
        with jax.ensure_compile_time_eval():
            check_correlation(kernel)


def check_correlation(kernel: Kernel) -> None:
    """Raise ValueError unless ``kernel.cov`` is a correlation function.

    It must be even, 1 at 0, finite, and positive definite on a fine grid of lags.
    """
    name = type(kernel).__name__
    lags = np.concatenate([np.linspace(0.0, 8.0, 161), np.linspace(8.1, LONGEST_GRID, 120)])
    values = np.asarray(kernel.cov(jnp.asarray(lags)), float)
    if values.shape != lags.shape:
        raise ValueError(f"{name}.cov must return one value per lag: shape {lags.shape}, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}.cov is not finite at lag {lags[~np.isfinite(values)][0]:.3g} timescales")
    if abs(values[0] - 1) > 1e-8:
        raise ValueError(f"{name}.cov(0) is {values[0]:.4g}; it must be 1, since scale lives in the loadings")
    if np.abs(np.asarray(kernel.cov(jnp.asarray(-lags)), float) - values).max() > 1e-8:
        raise ValueError(f"{name}.cov must be even in the lag: write it with jnp.abs(tau) or tau**2")
    grid = lags[:161]
    lowest = np.linalg.eigvalsh(np.asarray(kernel.cov(jnp.asarray(grid[:, None] - grid)), float))[0]
    if lowest < -1e-6:
        raise ValueError(
            f"{name}.cov is not positive definite (an eigenvalue of its matrix is {lowest:.2g}): no process has it"
        )
