"""Simulation-based calibration of the latents that a guide infers.

Trials are drawn from a fitted program, with their latents; the fit infers the latents from the values; and ranks of the
true ones among draws of the posterior are noted, a rank per trial. They are uniform if the posterior of a trial is
right for the model at its parameters (Talts et al. 2018). Of sites of many numbers some random projections are ranked,
and so is log p(y | latents): a quantity that depends on the values too, which finds out posteriors that projections do
not, such as the prior (Modrak et al. 2023).
"""

from typing import Any

import numpy as np
from jax import random

from mrgp.results.amortised_fit import AmortisedFit
from mrgp.results.draws import ETA, VALUES
from mrgp.results.frames import filled, frame_of
from mrgp.results.projections import projected, projected_at
from mrgp.studies.calibration.rank_tests import judged
from mrgp.studies.calibration.result import Calibration, tabulated

LIKELIHOOD = "log p(y | latents)"
MORE = 4  # draws for each that is ranked among: intervals of few draws are too narrow


def calibrate_latents(
    fit: AmortisedFit,
    n: int = 200,
    *,
    n_bins: int | None = None,
    draws: int = 99,
    projections: int = 3,
    seed: int = 0,
) -> Calibration:
    """Draw n trials from a fit with a guide, and rank their latents among posterior draws.

    Ranked are projections of every latent site of the trials and of eta, the linear predictor of the values, and
    log p(y | latents), each by itself: those of a trial depend on each other. ``calibrate_latents(fit.refined(100))``
    says what gradient steps after the guide mend. The posterior of which it speaks is that of the model as it was
    fitted: whether the model is one of the recording, it cannot tell.

    Args:
        fit: Of a model with a guide, such as :class:`mrgp.models.LFADS`.
        n: Trials, of all conditions in turn.
        n_bins: Of each; None for those of the fit.
        draws: Of the posterior, that the truth is ranked among.
        projections: Random projections of each site; sites of no more numbers are ranked number by number.
        seed: Of everything.

    Raises:
        ValueError: the fit has no guide that draws latents, or something is counted that is not at least 1.
    """
    if not fit.method_class.trains_guide:
        name = type(fit.model).__name__
        raise ValueError(f"{name} has no guide that infers latents: use mrgp.calibrate for delays and timescales")
    if fit.model.is_autoencoder:
        instead = "simulate a recording, and compare fit.latents() with its truth"
        raise ValueError(f"{type(fit.model).__name__} has no posterior of latents to calibrate: {instead}")
    bins = fit.n_bins if n_bins is None else n_bins
    for what, count in (("n", n), ("n_bins", bins), ("draws", draws), ("projections", projections)):
        if count < 1:
            raise ValueError(f"{what} counts at least 1, not {count}")
    rng = np.random.default_rng(seed)
    frame = frame_of(fit, n, bins)
    made = fit.conditional(frame).drawn(random.key(seed))
    given = fit.conditional(filled(frame, made[VALUES]))
    directions = {name: _directions(rng, made[name][0].size, projections) for name in (*given.latent_sites, ETA)}
    truth, posterior = projected_at(given, made, directions), projected(given, directions, MORE * draws, seed + 1)
    names = [f"{name} {place}" for name, along in directions.items() for place in range(len(along))]
    quantities = {name: name for name in (*names, LIKELIHOOD)}
    wanted, found = (np.concatenate([part[name] for name in (*directions, VALUES)], -1) for part in (truth, posterior))
    records: list[dict[str, Any]] = [
        {"truth": wanted[trial], **judged(wanted[trial], found[:, trial], draws, rng)} for trial in range(n)
    ]
    settings = {
        "model": fit.model.to_settings(), "n_trials": n, "n_bins": bins, "draws": draws, "projections": projections,
        "seed": seed,
    }  # fmt: skip
    about = {"draws": draws, "counted": "trials", "independent": 0}
    return Calibration(tabulated(records, quantities, about), settings, {})


def _directions(rng: np.random.Generator, size: int, most: int) -> np.ndarray:
    """Directions along which a site of some numbers is ranked, (direction, number)."""
    return np.eye(size) if size <= most else rng.normal(size=(most, size)) / np.sqrt(size)
