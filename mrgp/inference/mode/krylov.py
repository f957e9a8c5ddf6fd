r"""Functions of a large symmetric matrix of which only products are known, by Lanczos.

See Golub & Meurant 2010, ch. 4. From v, j products give an orthonormal Q with A Q about Q T, T tridiagonal; then f(A) v
is about |v| Q f(T) e_1, and v' f(A) v about |v|^2 (f(T))_11. Both converge as fast as polynomials approximate f on A's
spectrum: within some tens of products for matrices near the identity, such as Hessians in posterior units.
"""

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from tqdm import tqdm

type Product = Callable[[np.ndarray], np.ndarray]

STEPS = 20
EXACT = 400  # rows: below it as many products give the matrix itself, which costs no more than probing it
MOST_PRODUCTS = 40  # for every column of a system
FLAT = 1e-3  # of the largest curvature
REPEATED = 1e-8  # length of a direction that the basis has already
INDEFINITE = 1e-4  # of the largest eigenvalue: what differences of gradients may make of one of 0
SOFTEST = 1e-3  # what is softer than this in scaled coordinates is no maximum that a Gaussian fits
PROBES = 12
SOFT = 60  # directions: loadings are known least along mixtures of latents, a few per region


def lanczos(product: Product, start: np.ndarray, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute Q (row, step), and eigenvalues (step,) and eigenvectors (step, step) of T.

    Q is fully reorthogonalised.
    """
    basis = np.zeros((start.size, min(steps, start.size)))
    alpha, beta = np.zeros(basis.shape[1]), np.zeros(basis.shape[1])
    vector = start / np.linalg.norm(start)
    for j in range(basis.shape[1]):
        basis[:, j] = vector
        vector = product(vector)
        alpha[j] = basis[:, j] @ vector
        for _ in range(2):
            vector = vector - basis[:, : j + 1] @ (basis[:, : j + 1].T @ vector)
        beta[j] = np.linalg.norm(vector)
        if beta[j] < 1e-6 * abs(alpha[0]):  # an invariant subspace: nothing is left to find
            basis, alpha, beta = basis[:, : j + 1], alpha[: j + 1], beta[: j + 1]
            break
        vector = vector / beta[j]
    T = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    return basis, *np.linalg.eigh(T)


def solve_for_schur(
    product: Product, corner: np.ndarray, columns: np.ndarray, accuracy: float, progress: bool = False
) -> tuple[np.ndarray, bool]:
    """Compute X = A^-1 B for several columns B at once, as exactly as S = D - B' X asks for.

    Returns X, and True if it did not get there, or A is not positive definite. D is ``corner``.

    All columns share one basis, in which A X = B is solved exactly, so that what a product found for one column serves
    the others (as in block conjugate gradients, O'Leary 1980). With the residuals R of B, S is then too large by
    R' A^-1 R. The next product is of the mixture of residuals that matters most to S. They end where no variance under
    S would change by more than a share ``accuracy`` if all of R were along A's softest direction in the basis. Where S
    is flatter than a share FLAT of its largest curvature, it is as exact as there.
    """
    size, count = columns.shape
    basis, image = np.zeros((size, 0)), np.zeros((size, 0))
    answer, residual, softest_seen, failed = np.zeros_like(columns), columns, 1.0, False
    bar = tqdm(desc="profiling", unit=" products", disable=not progress, leave=False)
    while basis.shape[1] < size:
        schur = corner - columns.T @ answer
        values, vectors = np.linalg.eigh(0.5 * (schur + schur.T))
        weighted = residual @ vectors / np.sqrt(np.maximum(values, FLAT * max(values.max(initial=0.0), 1.0)))
        left, sizes, _ = np.linalg.svd(weighted, full_matrices=False)
        left_over = sizes.max(initial=0.0) ** 2
        if left_over == 0 or (basis.shape[1] >= count and left_over <= accuracy * softest_seen):
            break
        vector = left[:, 0]
        for _ in range(2):
            vector = vector - basis @ (basis.T @ vector)
        length = np.linalg.norm(vector)
        failed = failed or basis.shape[1] >= MOST_PRODUCTS * count
        if length < REPEATED or failed:
            break
        vector = vector / length
        basis, image = np.column_stack([basis, vector]), np.column_stack([image, product(vector)])
        known, turned = np.linalg.eigh(0.5 * (basis.T @ image + image.T @ basis))
        failed = failed or known[0] < -INDEFINITE * known[-1]
        softest_seen = float(np.clip(known[0], SOFTEST, 1.0))
        weights = turned / known @ (turned.T @ (basis.T @ columns))
        answer, residual = basis @ weights, columns - image @ weights
        bar.update()
    bar.close()
    return answer, failed


def dense(product: Product, size: int) -> np.ndarray:
    """Compute the matrix itself, (row, row), made symmetric."""
    matrix = np.stack([product(row) for row in np.eye(size)], 1)
    return 0.5 * (matrix + matrix.T)


def softest(product: Product, size: int, most: int = SOFT) -> tuple[np.ndarray, np.ndarray]:
    """Find the smallest eigenvalues (pair,) and their eigenvectors (row, pair).

    All of them are found where A is small.
    """
    if size <= EXACT:
        values, vectors = np.linalg.eigh(dense(product, size)) if size else (np.ones(0), np.zeros((0, 0)))
    else:
        operator = LinearOperator((size, size), matvec=lambda v: product(np.ravel(v)), dtype=float)
        values, vectors = eigsh(operator, k=min(most, size - 1), which="SA", tol=1e-2)
    return values, vectors


def log_determinant(product: Product, size: int, seed: int = 0, progress: bool = False) -> tuple[float, float]:
    """Compute log |A| of a positive definite A, and its standard error.

    It is exact, with error 0, where A is small. The softest directions count by their eigenvalues, all others by
    stochastic Lanczos quadrature with random probes orthogonal to those (Meyer et al. 2021). The same ``seed`` gives
    similar matrices similar errors, so that differences of log-determinants are known better than each.

    Raises:
        FloatingPointError: A is not positive definite.
    """
    soft, directions = softest(product, size)
    value = float(np.log(_positive(soft)).sum())
    if len(soft) == size:
        return value, 0.0
    rng = np.random.default_rng(seed)
    found = []
    for _ in tqdm(range(PROBES), desc="log-determinant", unit=" probes", disable=not progress, leave=False):
        probe = rng.choice([-1.0, 1.0], size)
        probe -= directions @ (directions.T @ probe)
        _, values, vectors = lanczos(product, probe)
        found.append(probe @ probe * (vectors[0] ** 2 @ np.log(_positive(values))))
    return value + float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(PROBES))


def _positive(values: np.ndarray) -> np.ndarray:
    if values.size and values.min() <= 0:
        raise FloatingPointError("the curvature is not positive definite here: this is no maximum, or a flat one")
    return values
