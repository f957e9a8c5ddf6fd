"""Evidence of hypotheses whose delays vary, with unknown spreads integrated out.

The spread of a delay is how far it moves.

A fit has one spread for every course, the most likely one. Its evidence would not count what a hypothesis allowed for;
and a spread found to be 0 says nothing of larger ones. So the model is fitted once more with typical spreads, and the
courses found there tell of all others (see :func:`mrgp.studies.compare.unknown_spread.spread_evidence`).
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import norm

from mrgp.parts.delays.varying import DELAY_CHANGE, DELAY_SPREAD, usual_spread
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import of_processes
from mrgp.results.gaussian_process_fit import GaussianProcessFit

RATIOS = np.geomspace(1e-3, 8.0, 200)  # of the typical spread, over which spreads are integrated


def with_typical_spreads(fit: GaussianProcessFit, data: MultiRegionData, progress: bool) -> GaussianProcessFit | None:
    """Fit a model whose delays vary again, with typical spreads; None for other models.

    They replace the most likely spreads.

    A spread found to be 0 says nothing of larger ones; a typical one lets the recording speak of all.
    """
    if not fit.delays_vary or DELAY_SPREAD.name in fit.fixed:
        return None
    delays: Any = fit.model.delays  # of the kind that varies
    typical = usual_spread(delays, data.bin_width)
    fixed = {name: fit.sites[name] for name in fit.fixed} | {DELAY_SPREAD.name: typical}
    again = fit.model.fit(data, "map", start=fit, fixed=fixed, progress=progress).raise_if_interrupted()
    assert of_processes(again)
    return again


def evidence_of(
    fit: GaussianProcessFit, typical: GaussianProcessFit | None, data: MultiRegionData, progress: bool
) -> tuple[float, float]:
    """log p(y | hypothesis) in nats, and its error.

    Spreads of delays that vary are integrated out, one by one.

    NaN where the maximum is not one that a Gaussian fits.
    """
    try:
        value, error = (fit if typical is None else typical).log_evidence(data, progress)
    except FloatingPointError as problem:
        warn(f"its evidence is not known: {problem}")
        return np.nan, np.nan
    return value + (0.0 if typical is None else sum(part for part, _ in _integrated(typical))), error


def _integrated(typical: GaussianProcessFit) -> list[tuple[float, float]]:
    """Gain in log evidence from integrating a course's spread, and P(the delay varies).

    One pair for every course, by region, then latent.
    """
    curvature = typical.curvature()
    first = 0
    for name in curvature.names:
        size = typical.sites[name].size
        if name == DELAY_CHANGE.name:
            break
        first += size
    shape = typical.sites[DELAY_CHANGE.name].shape
    n_modes = shape[-1]
    density = 2 * norm.pdf(RATIOS) * np.gradient(RATIOS)  # half-normal, of the typical spread
    weights = np.log(density / density.sum())
    found = []
    for course in range(shape[0] * shape[1]):
        own = slice(first + course * n_modes, first + (course + 1) * n_modes)
        evidence = spread_evidence(curvature.mean[own], curvature.covariance[own, own], RATIOS)
        at_typical = spread_evidence(curvature.mean[own], curvature.covariance[own, own], np.ones(1))[0]
        total = logsumexp(evidence + weights)
        found.append((float(total - at_typical), float(1 / (1 + np.exp(-total)))))
    return found


def changes_of(name: str, fit: GaussianProcessFit, typical: GaussianProcessFit | None) -> pd.DataFrame:
    """Rows of ``changes`` for one hypothesis (see :class:`mrgp.DelayComparison`)."""
    if typical is None:
        return pd.DataFrame(columns=["hypothesis", "region", "latent", "spread_ms", "varies"])
    moved = 1e3 * fit.delays.std("time")
    pairs = [(region, k) for region in fit.populations[1:] for k in range(fit.assignment.n_across)]
    rows = [
        {
            "hypothesis": name, "region": region, "latent": k,
            "spread_ms": float(moved.sel(region=region, across_latent=k)), "varies": varies,
        }
        for (region, k), (_, varies) in zip(pairs, _integrated(typical), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def spread_evidence(mean: np.ndarray, covariance: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    r"""Log evidence of spreads s' = ratio s, up to a constant, (ratio,).

    s is the spread that the course was inferred with.

    A course is s sum_m z_m mode_m, z ~ N(0, I). A posterior N(m, S) of z at spread s means a likelihood of precision
    Lambda = S^-1 - I and a natural vector v = S^-1 m; at s' the evidence is then

        -log|I + ratio^2 Lambda| / 2 + ratio^2 v' (I + ratio^2 Lambda)^-1 v / 2,

    0 for a delay that does not move.
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.clip(values, 1e-12, 1.0)  # no likelihood widens a prior
    natural, gained = (vectors.T @ mean) / values, 1 / values - 1
    spread = 1 + ratios[:, None] ** 2 * gained
    return 0.5 * (ratios[:, None] ** 2 * natural**2 / spread - np.log(spread)).sum(-1)
