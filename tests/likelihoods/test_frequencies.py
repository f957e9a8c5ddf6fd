"""Normalizers of independent frequencies: values and slopes against inverses of whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mrgp.likelihoods.frequencies import Blocks, log_normalizers

FREQUENCIES, TRIALS = 3, 4
COUNT = np.array([1.0, 2.0, 1.0])
SLOW = {"across": (2, 3, 0), "within": (2, 0, 3), "one_region": (1, 2, 0)}
SIZES = [pytest.param((3, 2, 2), id="across_and_within")]
SIZES += [pytest.param(sizes, id=name, marks=pytest.mark.slow) for name, sizes in SLOW.items()]


def drawn(regions, across, extra, noise=1.0):
    """Covariances of random processes, and what data say: everything of real parameters."""
    rng = np.random.default_rng(0)
    readouts = regions * across + extra
    mixing = rng.standard_normal((FREQUENCIES, across, regions, regions, 2)) @ [1.0, 1j]
    shared = np.einsum("fkri,fksi->frsk", mixing, mixing.conj()) + 0.3 * np.eye(regions)[:, :, None]
    own = rng.gamma(2.0, size=(FREQUENCIES, extra)) + 0j
    loadings = rng.standard_normal((readouts + 2, readouts))
    vectors = rng.standard_normal((FREQUENCIES, readouts, TRIALS, 2)) @ [1.0, 1j]
    return Blocks(jnp.array(shared), jnp.array(own)), jnp.array(loadings.T @ loadings / noise), jnp.array(vectors)


def whole(covariance, precision, vectors):
    """The same by inverses of dense matrices."""
    V = covariance.dense()
    posterior = jnp.linalg.inv(jnp.linalg.inv(V) + precision)
    square = jnp.einsum("f,fib,fij,fjb->b", COUNT, vectors.conj(), posterior, vectors).real
    return 0.5 * (square - COUNT @ jnp.linalg.slogdet(jnp.eye(len(precision)) + V @ precision)[1])


def changed(step, covariance, precision, vectors):
    """All of them as functions of one number and of their parameters."""
    scaled = Blocks(covariance.shared * jnp.exp(step), covariance.own * jnp.exp(-step))
    return scaled, precision * (1 + step**2) + step * jnp.eye(len(precision)), vectors * jnp.exp(1j * step)


@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_slopes_are_those_of_whole_matrices(sizes):
    own, precision, vectors = given = drawn(*sizes)
    weights = jnp.arange(1.0, TRIALS + 1)

    def found(function):
        """Value, slopes and bend along a way, and slopes by Lambda and the parts of the vectors."""

        def total(*parts):
            return function(*parts) @ weights

        def along(step):
            return total(*changed(step, *given))

        def parts(precision, real, imaginary):
            return total(own, precision, real + 1j * imaginary)

        of_parts = jax.grad(parts, (0, 1, 2))(precision, vectors.real, vectors.imag)
        return total(*given), jax.grad(along)(0.1), jax.jacfwd(jax.grad(along))(0.1), *of_parts

    ours = jax.jit(lambda: found(lambda *parts: log_normalizers(*parts, jnp.array(COUNT))))()
    for number, exact in zip(ours, jax.jit(lambda: found(whole))(), strict=True):
        np.testing.assert_allclose(number, exact, rtol=1e-9, atol=1e-10)


def test_slopes_keep_their_digits_where_noise_is_small():
    """Of noise of 1e-10: the slope by a scale of V is then that of the readouts' own density, which is known."""
    covariance, precision, vectors = drawn(1, 2, 0, noise=1e-10)
    vectors = jnp.einsum("ij,fjb->fib", precision, vectors)

    def value(scale):
        scaled = Blocks(covariance.shared * scale, covariance.own)
        return log_normalizers(scaled, precision, vectors, jnp.array(COUNT)).sum()

    # With b = Lambda x, all that is left to depend on V is log N(x; 0, V).
    at = jnp.linalg.solve(precision, jnp.moveaxis(vectors, 0, 1).reshape(2, -1)).reshape(2, FREQUENCIES, -1)
    inverse = jnp.linalg.inv(covariance.dense())
    square = jnp.einsum("f,ifb,fij,jfb->", COUNT, at.conj(), inverse, at).real
    exact = float(0.5 * square - 0.5 * COUNT.sum() * 2 * TRIALS)
    assert float(jax.jit(jax.grad(value))(1.0)) == pytest.approx(exact, rel=1e-6)
