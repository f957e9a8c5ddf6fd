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
NOISY = 0.05  # of variances: what products that are not quite symmetric may make of them
OUTSIDE = 0.01  # of the next eigenvalue: what a direction that is found may make those not found softer by
PROBES = 12
ROOM = 64  # directions that a space has memory for when it begins
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


class Subspace:
    """Space in which systems A X = B of one symmetric A are solved.

    It grows by a direction at a time. What a product found for one column serves all others, and other systems (as in
    block conjugate gradients, O'Leary 1980).

    Attributes:
        product: v -> A v.
        size: Rows of A.
        count: Directions so far.
    """

    def __init__(self, product: Product, size: int) -> None:
        self.product, self.size, self.count = product, size, 0
        self._basis, self._image, self._inner = np.zeros((0, size)), np.zeros((0, size)), np.zeros((0, 0))

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal directions, (direction, row)."""
        return self._basis[: self.count]

    @property
    def image(self) -> np.ndarray:
        """Products of A with them, (direction, row)."""
        return self._image[: self.count]

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of A in the space, smallest first, and eigenvectors (direction, pair)."""
        values, vectors = np.linalg.eigh(self._inner[: self.count, : self.count])
        return values, vectors

    def grow(self, vector: np.ndarray) -> bool:
        """Add the direction of what a vector has outside the space; return False if that is nothing."""
        direction = vector / max(np.linalg.norm(vector), np.finfo(float).tiny)
        for _ in range(2):
            direction = direction - self.basis.T @ (self.basis @ direction)
        length = np.linalg.norm(direction)
        if length < REPEATED:
            return False
        if self.count == len(self._basis):
            room = min(max(2 * self.count, ROOM), self.size)
            self._basis, self._image = (_enlarged(old, (room, self.size)) for old in (self._basis, self._image))
            self._inner = _enlarged(self._inner, (room, room))
        here = self.count
        direction = direction / length
        self._basis[here], self._image[here] = direction, self.product(direction)
        self.count += 1
        both = self.basis @ self.image[here] + self.image @ self.basis[here]
        self._inner[here, : here + 1] = self._inner[: here + 1, here] = 0.5 * both
        return True

    def within(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve A X = B within the space; return X, and the residuals B - A X.

        Directions in which A is 0, but for what differences of gradients make of it, are left out.
        """
        known, turned = self.spectrum()
        turned = turned[:, told := known > INDEFINITE * known.max(initial=0.0)]
        weights = turned @ (turned.T @ (self.basis @ columns) / known[told, None])
        return self.basis.T @ weights, columns - self.image.T @ weights

    def outside(self, residual: np.ndarray) -> np.ndarray:
        """Take from residuals what they have inside the space.

        That is what makes products differ from symmetric ones; no further direction mends it.
        """
        return residual - self.basis.T @ (self.basis @ residual)

    def solve(
        self, corner: np.ndarray, columns: np.ndarray, accuracy: float, progress: bool = False
    ) -> tuple[np.ndarray, bool]:
        """Solve A X = B for several columns B, as exactly as S = D - B' X asks for.

        The space grows. Returns X, and True if it did not get there, or A is not positive definite where S depends on
        it. D is ``corner``.

        With the residuals R of B, S is too large by R' A^-1 R. The next product is of the mixture of residuals that
        matters most to S. They end where no variance under S would change by more than a share ``accuracy`` if all of R
        were along A's softest direction that is not in the space as a whole. Where S is flatter than a share FLAT of
        its largest curvature, it is as exact as there. Directions that :meth:`within` leaves out must not matter to S,
        nor must what makes products differ from symmetric ones: what is seen of it in S is as much as what is not.
        """
        n_columns, failed = columns.shape[1], False
        bar = tqdm(desc="profiling", unit=" products", disable=not progress, leave=False)
        while True:
            known, turned = self.spectrum()
            least = INDEFINITE * known.max(initial=0.0)
            failed = failed or bool((known < -least).any())
            answer, residual = self.within(columns)
            by_variance = weighted_by_variance(corner - columns.T @ answer)
            left, sizes, _ = np.linalg.svd(self.outside(residual) @ by_variance, full_matrices=False)
            left_over = sizes.max(initial=0.0) ** 2
            enough = self.count >= n_columns and left_over <= accuracy * self._softest(known, turned)
            if failed or enough or left_over == 0 or self.count == self.size:
                break
            failed = self.count >= MOST_PRODUCTS * n_columns
            if failed or not self.grow(left[:, 0]):
                break
            bar.update()
        bar.close()
        level = turned[:, known <= least].T @ (self.basis @ columns)
        depends = (np.square(level @ by_variance).sum(0) > accuracy * least).any()
        skew = by_variance.T @ (answer.T @ residual) @ by_variance
        return answer, bool(failed or depends or np.abs(skew - skew.T).max(initial=0.0) > 2 * NOISY)

    def _softest(self, values: np.ndarray, vectors: np.ndarray) -> float:
        """Smallest eigenvalue that directions outside the space may have, by those inside.

        An eigenvector that the space holds as a whole has no part outside: what A makes of it is itself, but for r, and
        makes A softer outside by r r' / eigenvalue at the most.
        """
        first = 0
        while first < len(values) - 1 and values[first] > 0:
            rest = self.image.T @ vectors[:, first] - values[first] * (self.basis.T @ vectors[:, first])
            if rest @ rest > OUTSIDE * values[first] * values[first + 1]:
                break
            first += 1
        return float(np.clip(values[first], SOFTEST, 1.0)) if values.size else 1.0


def _enlarged(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    larger = np.zeros(shape)
    larger[: len(array), : array.shape[1]] = array
    return larger


def weighted_by_variance(schur: np.ndarray) -> np.ndarray:
    """Find W with W' S W = I, or less where S is nearly flat."""
    values, vectors = np.linalg.eigh(symmetric(schur))
    return vectors / np.sqrt(np.maximum(values, FLAT * max(values.max(initial=0.0), 1.0)))


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Take the mean of a matrix and its transpose."""
    return 0.5 * (matrix + matrix.T)


def dense(product: Product, size: int) -> np.ndarray:
    """Compute the matrix itself, (row, row), made symmetric."""
    matrix = np.stack([product(row) for row in np.eye(size)], 1)
    return symmetric(matrix)


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
