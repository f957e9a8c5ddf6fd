r"""Normalizer of readouts whose frequencies are independent, with derivatives of its own.

At a frequency readouts x have the covariance V, and what the data say of them is b and Lambda. With the roots V = R R*
and F F* = H = I + R* Lambda R,

    log E exp(Re(b* x) - x* Lambda x / 2) = (b* G b - log det H) / 2,      G = (V^-1 + Lambda)^-1 = R H^-1 R*,

and its differential needs no derivative of a root:

    Re(m* db) - (m* dLambda m - u* dV u + tr G dLambda + tr W dV) / 2,
    m = G b,      u = V^-1 m,      W = (V + Lambda^-1)^-1 = R^-* (I - H^-1) R^-1,

where no difference is one of large numbers, however small the noise. The copies of a latent are correlated with each
other alone, so that V and R are blocks of a latent's copies, and products with them cost next to nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular


class Blocks(NamedTuple):
    """Matrices of readouts at each frequency that are zero between latents.

    Attributes:
        shared: Between the copies of an across latent, (frequency, region, region, across_latent).
        own: Of within latents, (frequency, within_latent).
    """

    shared: Array
    own: Array

    def dense(self) -> Array:
        """All entries, (frequency, readout, readout)."""
        frequencies, regions, _, across = self.shared.shape
        copies = jnp.einsum("frsk,kl->frksl", self.shared, jnp.eye(across))
        copies = copies.reshape(frequencies, regions * across, regions * across)
        extra = self.own.shape[1]
        alone = jnp.pad(self.own, [(0, 0), (regions * across, 0)])
        whole = jnp.pad(copies, [(0, 0), (0, extra), (0, extra)])
        return whole + alone[:, :, None] * jnp.eye(whole.shape[-1])

    def of(self, dense: Array) -> "Blocks":
        """Blocks of other matrices (frequency, readout, readout), where these have theirs."""
        frequencies, regions, _, across = self.shared.shape
        copies = regions * across
        table = dense[:, :copies, :copies].reshape(frequencies, regions, across, regions, across)
        return Blocks(jnp.einsum("frksk->frsk", table), jnp.diagonal(dense, axis1=1, axis2=2)[:, copies:])

    def adjoint(self) -> "Blocks":
        """Conjugate transposes."""
        return Blocks(jnp.conj(jnp.swapaxes(self.shared, 1, 2)), jnp.conj(self.own))

    def times(self, columns: Array) -> Array:
        """Products with columns (frequency, readout, column)."""
        frequencies, regions, _, across = self.shared.shape
        copies, rest = jnp.split(columns, [regions * across], axis=1)
        copies = copies.reshape(frequencies, 1, regions, across, columns.shape[2])
        rows = (self.shared[..., None] * copies).sum(2).reshape(frequencies, regions * across, columns.shape[2])
        return jnp.concatenate([rows, self.own[..., None] * rest], axis=1)

    def around(self, other: "Blocks") -> "Blocks":
        """These A, and others B: A* B A."""
        shared = jnp.einsum("fpik,fpqk,fqjk->fijk", jnp.conj(self.shared), other.shared, self.shared)
        return Blocks(shared, (jnp.conj(self.own) * self.own).real * other.own)

    def trace(self, other: "Blocks") -> Array:
        """Real part of the trace of products, (frequency,)."""
        shared = (self.shared * jnp.swapaxes(other.shared, 1, 2)).real.sum((1, 2, 3))
        return shared + (self.own * other.own).real.sum(1)

    def roots(self) -> tuple["Blocks", "Blocks"]:
        """Lower Cholesky factors, and their inverses."""
        lower = jnp.linalg.cholesky(jnp.moveaxis(self.shared, -1, 1))
        eye = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
        inverse, own = solve_triangular(lower, eye, lower=True), jnp.sqrt(self.own)
        return Blocks(jnp.moveaxis(lower, 1, -1), own), Blocks(jnp.moveaxis(inverse, 1, -1), 1 / own)


def _adjoint(dense: Array) -> Array:
    return jnp.conj(jnp.swapaxes(dense, -1, -2))


def _inverse_factor(root: Blocks, precision: Array) -> tuple[Array, Array]:
    """F^-1, (frequency, readout, readout), and log det F, (frequency,)."""
    adjoint, dtype = root.adjoint(), jnp.result_type(root.shared, root.own)
    half = adjoint.times(jnp.broadcast_to(precision.astype(dtype), (len(root.own), *precision.shape)))
    factor = jnp.linalg.cholesky(jnp.eye(len(precision)) + adjoint.times(_adjoint(half)))
    eye = jnp.broadcast_to(jnp.eye(len(precision), dtype=dtype), factor.shape)
    log_determinant = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1).real).sum(-1)
    return solve_triangular(factor, eye, lower=True), log_determinant


@jax.custom_jvp
def log_normalizers(covariance: Blocks, precision: Array, vectors: Array, count: Array) -> Array:
    """log E exp(b'x - x' Lambda x / 2) of each trial, (trial,).

    Args:
        covariance: V of the readouts x at each frequency.
        precision: Lambda, (readout, readout), symmetric.
        vectors: b at each frequency, (frequency, readout, trial).
        count: Number of frequencies that each stands for, (frequency,).
    """
    root, _ = covariance.roots()
    inverse, log_determinant = _inverse_factor(root, precision)
    white = inverse @ root.adjoint().times(vectors)
    return 0.5 * jnp.einsum("f,fib->b", count, white.real**2 + white.imag**2) - count @ log_determinant


@log_normalizers.defjvp
def _differential(primals: tuple, tangents: tuple) -> tuple[Array, Array]:  # type: ignore[type-arg]
    covariance, precision, vectors, count = primals
    d_covariance, d_precision, d_vectors, _ = tangents
    root, inverse_root = covariance.roots()
    inverse, log_determinant = _inverse_factor(root, precision)
    white = inverse @ root.adjoint().times(vectors)
    value = 0.5 * jnp.einsum("f,fib->b", count, white.real**2 + white.imag**2) - count @ log_determinant
    back = _adjoint(inverse) @ white
    mean, forced = root.times(back), inverse_root.adjoint().times(back)
    left = _adjoint(inverse) @ inverse  # H^-1
    posterior = root.times(_adjoint(root.times(left)))  # R (R H^-1)*, as H is Hermitian
    blocks = root.of(left)
    told = Blocks(jnp.eye(root.shared.shape[1])[:, :, None] - blocks.shared, 1 - blocks.own)
    weights = inverse_root.around(told)
    moved = (jnp.conj(mean) * d_vectors).real
    for part in (mean.real, mean.imag):
        moved = moved - 0.5 * part * jnp.einsum("ij,fjb->fib", d_precision, part)
    moved = moved + 0.5 * (jnp.conj(forced) * d_covariance.times(forced)).real
    of_all = jnp.einsum("f,fij->ij", count, posterior.real)
    constant = (of_all * d_precision.T).sum() + count @ weights.trace(d_covariance)
    return value, jnp.einsum("f,fib->b", count, moved) - 0.5 * constant
