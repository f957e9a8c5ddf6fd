"""Functions of matrices known by their products: solutions for a Schur complement."""

import numpy as np
import pytest

from mrgp.inference.mode.krylov import Subspace


def system(curvatures, seed=0, size=40):
    """A of eigenvalues 0.02 to 1.5, columns B, and D with D - B' A^-1 B of the eigenvalues given."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    A = turn * np.geomspace(0.02, 1.5, size) @ turn.T
    count = len(curvatures)
    B = 0.3 * rng.standard_normal((size, count))
    axes = np.linalg.qr(rng.standard_normal((count, count)))[0]
    return A, B, axes * curvatures @ axes.T + B.T @ np.linalg.solve(A, B)


@pytest.mark.parametrize("curvatures", [[1.0, 0.5, 0.1], [30.0, 1.0, 0.1], [1000.0, 5.0, 2.0], [0.7]])
def test_variances_are_as_exact_as_asked(curvatures):
    A, B, D = system(np.array(curvatures))
    asked = []

    def product(v):
        asked.append(v)
        return A @ v

    answer, failed = Subspace(product, len(A)).solve(D, B, 0.02)
    assert not failed
    exact = np.linalg.inv(D - B.T @ np.linalg.solve(A, B))
    ratio = np.diag(np.linalg.inv(D - B.T @ answer)) / np.diag(exact)
    assert (ratio > 0.98).all()
    assert (ratio < 1 + 1e-9).all()  # what is left makes S too large, never too small
    assert len(asked) <= len(A)


def test_what_is_not_coupled_needs_no_product():
    for size, count in ((30, 2), (0, 2), (5, 0)):
        answer, failed = Subspace(lambda v: 2 * v, size).solve(np.eye(count), np.zeros((size, count)), 0.02)
        assert answer.shape == (size, count)
        assert not failed
        assert not answer.any()


def test_a_few_directions_end_where_they_are_all():
    """Columns that are copies of each other, in a space that A keeps: the basis is soon complete."""
    A = np.diag([0.5, 1.0, 2.0, 3.0])
    B = np.eye(4)[:, [0, 0, 1]]
    answer, failed = Subspace(lambda v: A @ v, 4).solve(5 * np.eye(3), B, 1e-12)
    assert not failed
    np.testing.assert_allclose(answer, np.linalg.solve(A, B), atol=1e-12)


def test_a_saddle_is_told():
    A = np.diag([-0.5, 1.0, 1.0, 1.0])
    assert Subspace(lambda v: A @ v, 4).solve(np.eye(1), np.eye(4)[:, :1], 0.02)[1]


@pytest.mark.parametrize(("size", "fine"), [(1e-4, True), (1e-3, False)])
def test_products_that_are_not_quite_symmetric_do_as_long_as_variances_do_not_hang_on_it(size, fine):
    A, B, D = system(np.array([1.0, 0.5, 0.1]), size=200)
    B, D = 0.1 * B, D - 0.99 * B.T @ np.linalg.solve(A, B)
    A_found = A + size * np.random.default_rng(1).standard_normal(A.shape)
    space = Subspace(lambda v: A_found @ v, len(A))
    answer, failed = space.solve(D, B, 0.02)
    assert failed is not fine
    assert space.count < 60  # it ends, though residuals inside the space stay
    ratio = np.diag(np.linalg.inv(D - B.T @ answer)) / np.diag(np.linalg.inv(D - B.T @ np.linalg.solve(A, B)))
    assert (np.abs(ratio - 1) < 0.1).all() is np.bool_(fine)
    outside = space.outside(space.within(B)[1])
    np.testing.assert_allclose(space.basis @ outside, 0, atol=1e-12)
