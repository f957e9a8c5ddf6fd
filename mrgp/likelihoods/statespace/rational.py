r"""Best rational state spaces for correlation functions.

Constants, and the fit that derives them.

A process of unit stationary covariance, g = h' z, dz = F z dt + dW, with F in Schwarz form

    F = tridiagonal skew(s_1 .. s_{p-1}) - (l^2 / 2) e_p e_p',        F + F' = -l^2 e_p e_p',

is stationary for every value of its 2 p numbers (s, l, h), |h| = 1. They are fitted once, by least squares of
h' expm(F tau) h to k(tau), and serve every timescale. The squared exponential's are kept as a table; another
kernel's are fitted when a model is built.

``python -m mrgp.likelihoods.statespace.rational`` derives the table of the squared exponential anew and prints it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

GRID_END = 6.0  # exp(-6^2 / 2) = 1.5e-8: the squared exponential has nothing further out
LONGEST_GRID = 40.0  # timescales; a heavier tail than this is left to the offset of the neurons
NEGLIGIBLE = 1e-3  # a correlation below this ends the grid of a kernel that is not in the table

# order: skew entries, l, h of the squared exponential, as this module derives them (errors vary by a
# few percent along the flat bottom of the fit); largest errors of k 3.7e-2, 4.5e-3, 5.1e-4, 5.0e-5, 5.3e-6.
SQUARED_EXPONENTIAL: dict[int, tuple[tuple[float, ...], float, tuple[float, ...]]] = {
    2: ((1.2972897715187526,), 2.015899286496469, (1.0, 4.161298008082199e-05)),
    3: (
        (1.1613582031341116, 2.4796115574607),
        2.8223537966749226,
        (0.9935145993965633, -6.0114439265910024e-05, 0.11370460488538142),
    ),
    4: (
        (1.1410610129704108, 1.825490134571942, 3.725338690139575),
        3.495666961401688,
        (0.9955749717493341, -0.00014743519162455782, 0.09396464193302084, 0.0010487876697194097),
    ),
    5: (
        (1.1572754962599165, 1.7595076218467465, 2.6109645931132297, 5.478729729495658),
        4.290921060271057,
        (
            0.9947763442623807,
            0.0013416993732326204,
            0.10157872979090361,
            0.00020892944364483976,
            0.00999713665603515,
        ),
    ),
    6: (
        (1.1497127657828017, 1.6958158445464075, 2.2809351296460303, 3.293817711830342, 6.92876314817198),
        4.836256317147222,
        (
            0.9952292570780052,
            -0.008706174101539095,
            0.09666204454116255,
            -0.0045353209488208646,
            0.00883585650281344,
            -0.0008579261917999104,
        ),
    ),
}


@dataclass(frozen=True)
class Rational:
    """State space at unit timescale: dz = F z dt + dW, g = h' z.

    Its stationary covariance is I.

    ``error`` is the largest deviation of h' expm(F tau) h from the kernel it stands for.
    """

    F: np.ndarray
    h: np.ndarray
    error: float = 0.0


def schwarz(skew: np.ndarray, dissipation: float) -> np.ndarray:
    """Build the Schwarz matrix F (state, state) of skew (state - 1,) and dissipation l."""
    transition = np.diag(skew, 1) - np.diag(skew, -1)
    transition[-1, -1] = -0.5 * dissipation**2
    return transition


def rational_correlation(F: np.ndarray, h: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """h' expm(F tau) h at ``lags`` (lag,) >= 0, for an F with distinct eigenvalues."""
    values, vectors = np.linalg.eig(F)
    weights = (h @ vectors) * np.linalg.solve(vectors, h.astype(complex))
    return np.real(np.exp(np.outer(lags, values)) @ weights)


def squared_exponential(order: int) -> Rational:
    """Tabulated state space of exp(-tau^2 / 2) with ``order`` states (2 to 6)."""
    if order not in SQUARED_EXPONENTIAL:
        raise ValueError(f"the squared exponential has state spaces of order 2 to 6, not {order}")
    skew, dissipation, h = SQUARED_EXPONENTIAL[order]
    F, readout = schwarz(np.array(skew), dissipation), np.array(h) / np.linalg.norm(h)
    return Rational(F, readout, _largest_error(F, readout, lambda tau: np.exp(-(tau**2) / 2)))


def _largest_error(F: np.ndarray, h: np.ndarray, cov: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest error of h' expm(F tau) h, also well beyond the lags of the fit."""
    lags = np.concatenate([np.linspace(0.0, 10.0, 4001), np.linspace(10.0, 2 * LONGEST_GRID, 1401)])
    return float(np.abs(rational_correlation(F, h, lags) - cov(lags)).max())


def fit_schwarz(
    cov: Callable[[np.ndarray], np.ndarray], start: tuple[np.ndarray, float, np.ndarray], lags: np.ndarray
) -> Rational:
    """Fit a Schwarz form to the correlation ``cov`` at ``lags`` (lag,) by least squares.

    ``start`` is (skew, l, h).
    """
    target = cov(lags)
    order = len(start[2])

    def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return schwarz(np.exp(x[: order - 1]), np.exp(x[order - 1])), x[order:] / np.linalg.norm(x[order:])

    def residual(x: np.ndarray) -> np.ndarray:
        return rational_correlation(*unpack(x), lags) - target

    x0 = np.concatenate([np.log(start[0]), [np.log(start[1])], start[2]])
    best = least_squares(residual, x0, x_scale="jac", ftol=1e-14, xtol=1e-14, gtol=1e-14, max_nfev=300)
    return Rational(*unpack(best.x), float(np.abs(best.fun).max()))


def best_of(
    cov: Callable[[np.ndarray], np.ndarray], start: tuple[np.ndarray, float, np.ndarray], lags: np.ndarray, tries: int
) -> Rational:
    """Return the best of ``tries`` fits from perturbed starts.

    Perturbations are fixed: the result is reproducible.
    """
    skew, dissipation, h = start
    rng = np.random.default_rng(0)
    fits = []
    for attempt in range(tries):
        jump = np.exp(0.03 * attempt * rng.standard_normal(len(skew) + 1))
        shift = 0.003 * attempt * rng.standard_normal(len(h))
        fits.append(fit_schwarz(cov, (skew * jump[:-1], dissipation * jump[-1], h + shift), lags))
    return min(fits, key=lambda fit: fit.error)


def fit_kernel(cov: Callable[[np.ndarray], np.ndarray], order: int) -> Rational:
    """Fit a state space of ``order`` states (2 to 6) to any correlation function.

    ``cov`` is a function of the dimensionless lag.

    The lags run as far as the correlation matters, denser near zero, where delays are read.
    """
    if order not in SQUARED_EXPONENTIAL:
        raise ValueError(f"a kernel has state spaces of order 2 to 6, not {order}")
    probe = np.linspace(0.0, LONGEST_GRID, 4001)
    values = cov(probe)
    far = probe[np.flatnonzero(np.abs(values) > NEGLIGIBLE)[-1]]
    half = probe[np.argmax(values < 0.5)] or LONGEST_GRID
    lags = far * np.linspace(0.0, 1.0, 301) ** 2
    speed = np.sqrt(2 * np.log(2)) / half  # match the lag at which the squared exponential has halved
    fits = []
    for smaller in range(max(2, order - 1), order + 1):
        skew, dissipation, h = SQUARED_EXPONENTIAL[smaller]
        fits.append(best_of(cov, (np.array(skew) * speed, dissipation * np.sqrt(speed), np.array(h)), lags, 4))
    if order > 2:  # a local optimum is escaped from the best with one state less
        fits.append(best_of(cov, _one_state_more(fits[0]), lags, 2))
    best = min(fits[-2:], key=lambda fit: fit.error)
    return Rational(best.F, best.h, _largest_error(best.F, best.h, cov))


def _one_state_more(fit: Rational) -> tuple[np.ndarray, float, np.ndarray]:
    """Make a start (skew, l, h) for the next order: the last pole is split in two."""
    skew = np.abs(np.diag(fit.F, 1))
    split = (0.62, 1.27) if len(skew) > 1 else (0.9, 1.9)
    return np.append(skew[:-1], skew[-1] * np.array(split)), 1.15 * np.sqrt(-2 * fit.F[-1, -1]), np.append(fit.h, 0.0)


def derive_squared_exponential(highest: int = 6) -> dict[int, Rational]:
    """Derive the table of the squared exponential anew.

    Each order starts from the one below with its last pole split in two.
    """
    start = (np.array([1.3]), 2.0, np.array([1.0, 0.0]))
    lags = np.linspace(0.0, GRID_END, 241)
    table = {}
    for order in range(2, highest + 1):
        table[order] = best_of(lambda tau: np.exp(-(tau**2) / 2), start, lags, 6)
        start = _one_state_more(table[order])
    return table


if __name__ == "__main__":
    for order, fit in derive_squared_exponential().items():
        print(order, f"largest error {fit.error:.2e}")
        print("    skew", np.diag(fit.F, 1).tolist())
        print("    l   ", float(np.sqrt(-2 * fit.F[-1, -1])))
        print("    h   ", fit.h.tolist())
