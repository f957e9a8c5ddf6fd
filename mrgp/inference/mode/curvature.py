r"""Gaussian uncertainty at a maximum, of a few parameters with all others profiled out.

With theta the few (delays, kernel parameters) and c the many (loadings, noise, offsets), the profile curvature is the
Schur complement

    S = H_tt - H_tc H_cc^-1 H_ct

of the Hessian of -log p(y, parameters). No dense Hessian over c is formed: its products are differences of gradients
(see ``products``), and H_cc^-1 is applied in a Krylov space, small because the objective's coordinates make H_cc nearly
the identity. Of counts, of which products are dear, that space is made by those of a similar Hessian.
Where theta are many (the courses of delays in time), H_cc is taken as the identity for those, which costs nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mrgp.inference.mode.krylov import Product, Subspace, symmetric, weighted_by_variance
from mrgp.inference.mode.products import held_product, hessian_product
from mrgp.inference.optimise import Objective
from mrgp.parts.readout import NOISE
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData

MOST_SOLVED = 60  # parameters; of more, H_cc is taken as the identity (standard deviations 1.3% off at the most, on the
# small benchmark with varying delays)
ACCURACY = 2e-2  # of variances: what is left of the solutions with H_cc changes them by less (see krylov)
MOST_ROUNDS, LEFT_OVER = 6, 0.02  # of corrections by exact products, and the share of variances in the last of them
VANISHED = 1e-4  # of a neuron's variance: a tenth of what the default GP noise adds where latents explain it
ROUGH = 1e-3  # of the largest curvature: what the approximations of a likelihood may bend an undetermined direction

type Diagonal = Callable[[str], np.ndarray]
"""The negative log density's second derivative by each free coordinate of a site, by the site's name."""


@dataclass(frozen=True)
class Curvature:
    """Gaussian approximation of the unconstrained coordinates of some sites.

    The sites are in the order of ``names``.

    Attributes:
        names: Sites, raveled one after the other.
        mean: (parameter,), unconstrained.
        covariance: (parameter, parameter).
        positive: Whether the curvature was positive definite and all solves converged; if not, trust no width.
        response: How the other sites' unconstrained coordinates follow, (parameter, ...) per site; None if unknown.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    positive: bool
    response: dict[str, np.ndarray] | None = None


def profile_curvature(
    objective: Objective,
    names: Sequence[str],
    progress: bool = False,
    still: Mapping[str, np.ndarray] | None = None,
    known: Mapping[str, float] | None = None,
    most_solved: int = MOST_SOLVED,
) -> Curvature:
    """Covariance of the sites ``names`` at the objective's start, which must be a maximum.

    Args:
        objective: The negative of a log density, or of a lower bound of one.
        names: The few sites.
        progress: Show a progress bar.
        still: Entries of other sites that do not follow, bool of the site's shape.
        known: Precision of a prior that is added to the unconstrained coordinates of a site, so that what the
            recording says nothing of is as wide as its prior.
        most_solved: Parameters for which H_cc is inverted; for more it is taken as the identity.
    """
    few = np.flatnonzero(objective.marks(names))
    if few.size == 0:  # a model of white latents: nothing is asked for
        nothing = {site: np.zeros((0, *np.shape(value))) for site, value in objective.origin.items()}
        return Curvature((), np.zeros(0), np.zeros((0, 0)), True, nothing)
    rest = {site: np.zeros(np.shape(value)) for site, value in objective.origin.items()}
    held = objective.ravel(rest | {site: np.asarray(mask, float) for site, mask in (still or {}).items()})
    many = np.setdiff1d(np.flatnonzero(held == 0), few)
    product = hessian_product(objective)
    schur = np.empty((len(few), len(few)))
    columns = np.empty((len(many), len(few)))
    for j, index in enumerate(tqdm(few, desc="curvature", unit=" parameters", disable=not progress, leave=False)):
        whole = np.zeros(objective.size)
        whole[index] = 1.0
        column = product(whole)
        schur[:, j], columns[:, j] = column[few], column[many]
    solutions, solved = columns.copy(), _solved(objective, names, most_solved)
    corner = schur[np.ix_(solved, solved)]
    exact, quick = _within(product, objective.size, many), held_product(objective)
    cheap = exact if quick is None else _within(quick, objective.size, many)
    profiled = profile(exact, cheap, corner, columns[:, solved], progress)
    solutions[:, solved], failed = profiled.solutions, profiled.failed
    schur -= columns.T @ solutions
    schur[np.ix_(solved, solved)] = profiled.schur
    width = objective.ravel(objective.scale)[few]
    values, vectors = np.linalg.eigh(symmetric(schur))
    floor = 1e-8 * max(values[-1], 1.0)
    sound = bool(values[0] > floor) and not failed
    if known:
        prior = {site: np.full(np.shape(value), known.get(site, 0.0)) for site, value in objective.origin.items()}
        precision = objective.ravel(prior)[few] * width**2
        sound = bool(values[0] > -ROUGH * values[-1]) and not failed
        values, vectors = np.linalg.eigh(vectors * np.maximum(values, 0.0) @ vectors.T + np.diag(precision))
    covariance = vectors / np.maximum(values, floor) @ vectors.T
    center = objective.ravel(objective.origin)[few]
    ordered = tuple(site for site in sorted(objective.origin) if site in names)  # the order of raveled trees
    if not sound:
        warn("the curvature at the maximum is not sound: intervals may be meaningless")
    moves = np.zeros((len(few), objective.size))
    moves[:, many] = -solutions.T
    steps = [objective.unravel(move / w) for move, w in zip(moves, width, strict=True)]
    others = [site for site in objective.origin if site not in names]
    response = {site: np.stack([np.asarray(step[site] * objective.scale[site]) for step in steps]) for site in others}
    return Curvature(ordered, center, covariance * width[:, None] * width, sound, response)


class Profiled(NamedTuple):
    """Schur complement S = D - B' A^-1 B of a matrix that has the block A.

    Attributes:
        schur: S, (column, column).
        solutions: A^-1 B, (row, column).
        failed: True if they were not found, or A is not positive definite.
    """

    schur: np.ndarray
    solutions: np.ndarray
    failed: bool


def profile(
    exact: Product, cheap: Product, corner: np.ndarray, columns: np.ndarray, progress: bool = False
) -> Profiled:
    """Compute the Schur complement of a block A in a matrix of corner D and columns B.

    A is known by ``exact`` products. Systems are solved with ``cheap`` products of a similar matrix, no smaller than A,
    which may be A itself. Its X, and what is found of later residuals R = B - A X, span a space in which A X = B is
    solved by exact products. There S is too large by R' A^-1 R, of which the similar matrix tells most: once that is
    small, it is taken from S.
    """
    inner, outer = Subspace(cheap, len(columns)), Subspace(exact, len(columns))
    step, failed = inner.solve(corner, columns, ACCURACY, progress)
    if cheap is exact:
        return Profiled(corner - columns.T @ step, step, failed)
    for _ in range(MOST_ROUNDS):
        for column in step.T:
            outer.grow(column)
        solutions, residual = outer.within(columns)
        residual, schur = outer.outside(residual), symmetric(corner - columns.T @ solutions)
        step, lost = inner.solve(schur, residual, ACCURACY, progress)
        left, failed = symmetric(residual.T @ step), failed or lost
        schur, solutions = schur - left, solutions + step
        by_variance = weighted_by_variance(schur)
        if failed or np.linalg.eigvalsh(by_variance.T @ left @ by_variance).max(initial=0.0) <= LEFT_OVER:
            return Profiled(schur, solutions, failed)
    return Profiled(schur, solutions, True)


def _solved(objective: Objective, names: Collection[str], most: int) -> list[int]:
    """Choose for which of the few parameters H_cc is inverted; return their positions in order.

    They belong to the sites with the fewest entries, up to ``most`` parameters in all.
    """
    sizes = {site: np.size(objective.origin[site]) for site in sorted(objective.origin) if site in names}
    chosen, total = set(), 0
    for site in sorted(sizes, key=lambda site: sizes[site]):
        total += sizes[site]
        if total <= most:
            chosen.add(site)
    marks = np.concatenate([np.full(size, site in chosen) for site, size in sizes.items()])
    return np.flatnonzero(marks).tolist()


def diagonal(objective: Objective, name: str) -> np.ndarray:
    """Second derivatives by each free coordinate of one site, in the site's shape.

    They are taken at the objective's start.
    """
    product = hessian_product(objective)
    places = np.flatnonzero(objective.marks([name]))
    width = objective.ravel(objective.scale)
    second = [product(np.eye(1, objective.size, place)[0])[place] / width[place] ** 2 for place in places]
    return np.reshape(second, np.shape(objective.origin[name]))


def vanished_noise(sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, np.ndarray]:
    """Mark noise that has vanished: entries of the site ``noise`` that do not follow others.

    Below the noise of the latents themselves a neuron is explained altogether, whatever its own noise is: there the
    density is level, and bends either way.
    """
    if NOISE.name not in sites:
        return {}
    return {NOISE.name: np.asarray(sites[NOISE.name]) < VANISHED * np.asarray(data.scale) ** 2}


def product_on(objective: Objective, names: Collection[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function v -> H v for the block of the sites ``names``.

    H is the Hessian at the objective's start, in scaled coordinates, raveled.
    """
    return _within(hessian_product(objective), objective.size, np.flatnonzero(objective.marks(names)))


def _within(product: Product, size: int, places: np.ndarray) -> Product:
    """Restrict products of a matrix of ``size`` rows to the block of some of them."""

    def inside(v: np.ndarray) -> np.ndarray:
        whole = np.zeros(size)
        whole[places] = v
        return product(whole)[places]

    return inside
