r"""Contractions (singular values below 1): a transform to them, and the uniform distribution.

A stable linear process has a contraction as its transition in coordinates where its stationary covariance is I, since
its process noise I - A A' is positive definite. All of them, and only they, are Cayley transforms

    A = (I + X)^-1 (I - X),      X + X' > 0,

of matrices X whose symmetric part (rates of decay, in half an inverse bin) is positive and whose skew part (rates of
rotation) is free: A is near expm(-2 X).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.scipy.special import multigammaln
from numpyro.distributions import Distribution, biject_to, constraints, transforms
from numpyro.distributions.util import validate_sample
from numpyro.util import is_prng_key


class _Contraction(constraints._SingletonConstraint[Array]):
    """Constraint to square matrices with largest singular value below 1."""

    event_dim = 2

    def __call__(self, x: Array) -> Array:
        return jnp.linalg.norm(x, 2, axis=(-2, -1)) < 1

    def feasible_like(self, prototype: Array) -> Array:
        return jnp.zeros_like(prototype)


contraction = _Contraction()


class CayleyTransform(transforms.ParameterFreeTransform[Array]):
    r"""Transform of a vector of n^2 numbers to a contraction A (n, n).

        A = (I + X)^-1 (I - X),      X = D (M M' + S) D.

    The vector holds log D (diagonal), the strictly lower part of the unit triangular M, and that of the skew S, so that
    rotation and coupling are measured in units of the decay rates D^2 and no entry has a bound.
    """

    domain = constraints.real_vector
    codomain = contraction

    def __call__(self, x: Array) -> Array:
        lead = x.shape[:-1]
        flat = jax.vmap(_contract)(x.reshape(int(np.prod(lead)), x.shape[-1]))
        return flat.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Array) -> Array:
        lead = y.shape[:-2]
        flat = jax.vmap(_expand)(y.reshape(int(np.prod(lead)), *y.shape[-2:]))
        return flat.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        def one(x: Array) -> Array:
            square = jax.jacfwd(lambda v: _contract(v).ravel())(x)
            return jnp.linalg.slogdet(square)[1]

        return jnp.vectorize(one, signature="(m)->()")(x)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = round(np.sqrt(shape[-1]))
        return (*shape[:-1], size, size)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], shape[-1] ** 2)


def _contract(x: Array) -> Array:
    size = round(np.sqrt(len(x)))
    below, lower = np.tril_indices(size, -1), size * (size - 1) // 2
    scale = jnp.exp(x[:size])
    M = jnp.eye(size, dtype=x.dtype).at[below].set(x[size : size + lower])
    half = jnp.zeros((size, size), x.dtype).at[below].set(x[size + lower :])
    X = scale[:, None] * (M @ M.T + half - half.T) * scale
    eye = jnp.eye(size, dtype=x.dtype)
    return jnp.linalg.solve(eye + X, eye - X)


def _expand(A: Array) -> Array:
    size = A.shape[-1]
    below, eye = np.tril_indices(size, -1), jnp.eye(size, dtype=A.dtype)
    X = jnp.linalg.solve(eye + A, eye - A)
    root = jnp.linalg.cholesky(0.5 * (X + X.T))
    scale = jnp.diagonal(root)
    skew = 0.5 * (X - X.T) / scale / scale[:, None]
    return jnp.concatenate([jnp.log(scale), (root / scale[:, None])[below], skew[below]])


@biject_to.register(_Contraction)
def _to_contraction(constraint: Any) -> CayleyTransform:
    return CayleyTransform()


class UniformContraction(Distribution):
    """Uniform distribution of contractions (size, size).

    No choice of orthonormal coordinates changes the density.

    The volume is pi^(n^2 / 2) Gamma_n((n + 1) / 2) / Gamma_n(n + 1/2) (Gupta & Nagar 2000, Matrix Variate
    Distributions, ch. 4: the inverted matrix t with n + 1 degrees of freedom).
    """

    support = contraction
    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_aux_fields = ("size",)

    def __init__(self, size: int, *, validate_args: bool | None = None) -> None:
        self.size = size
        super().__init__((), (size, size), validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        n = self.size
        first, second = random.split(key)
        Z = random.normal(first, (*sample_shape, n, n))
        W = random.normal(second, (*sample_shape, n + 1, n))
        root = jnp.linalg.cholesky(jnp.swapaxes(Z, -1, -2) @ Z + jnp.swapaxes(W, -1, -2) @ W)
        return Z @ jnp.linalg.inv(jnp.swapaxes(root, -1, -2))

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        n = self.size
        volume = 0.5 * n**2 * np.log(np.pi) + multigammaln(0.5 * (n + 1), n) - multigammaln(n + 0.5, n)
        return jnp.broadcast_to(-volume, jnp.shape(value)[:-2])
