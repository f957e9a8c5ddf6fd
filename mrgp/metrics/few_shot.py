r"""Few-shot co-smoothing: hidden neurons regressed on latents in few trials.

It was proposed by Dabholkar & Barak (2025). Latents of all trials are inferred from the neurons that are not hidden. In
k training trials the counts of each hidden neuron are regressed on them, log rate = b + w' x, with the prior of
:mod:`mrgp.metrics.component_regression`; the score is of test trials, and of neurons that fire in training trials,

.. math::
    \frac{\log p(y \mid \mathrm{rate}) - \log p(y \mid \mathrm{training\ mean})}{\log 2 \; \mathrm{spikes}}.

A model predicts hidden neurons well though its latents hold dynamics that are not there: loadings learn to read past
them. Those of a few trials do not. The model's own loadings of the hidden neurons are not used.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import xlogy

from mrgp.metrics.component_regression import poisson_regression, principal_directions
from mrgp.metrics.metric import Metric, ScoredTrials
from mrgp.parts.emissions.counts import require_counts, uncounted
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.splits import checked_held_out, hold_out_neurons

SHOTS = 8, 32  # trials of a regression
DRAWS = 5  # choices of these trials, of whose scores the mean is taken
REMEDY = ("few-shot scores are of spike counts",)


class WithLatents(Protocol):
    """Anything that infers latents: a fit of any model."""

    def latents(self, data: MultiRegionData) -> xr.Dataset:
        """Posterior means of latents by name, ``*_mean`` (trial, time, ...)."""
        ...


def few_shot(
    fit: WithLatents,
    train: MultiRegionData,
    test: MultiRegionData,
    held_out: Mapping[str, ArrayLike],
    n_trials: Sequence[int] = SHOTS,
    n_draws: int = DRAWS,
    seed: int = 0,
) -> xr.Dataset:
    """Score latents by hidden neurons that are regressed on them in few trials.

    Args:
        fit: What infers latents.
        train: Trials of which some are drawn for the regression, the fewer among the more. None of those that are
            scored is: a regression knows the spikes that it was made from.
        test: Trials that are scored.
        held_out: Region -> neurons by position, hidden where latents are inferred.
        n_trials: Numbers k of trials; those beyond the trials of ``train`` are left out.
        n_draws: Choices of trials.
        seed: Of the choices.

    Returns:
        ``few_shot`` (shot,) in bits per spike of all hidden neurons together, the mean over choices, and its ``spread``
        (shot,), their sd; coordinate ``shot``, the number of trials.

    Raises:
        DataError: values are no counts, hidden neurons are silent, or training trials are too few.
    """
    for data in (train, test):
        require_counts(data, *REMEDY)
    if len(apart := beside(train, test)) < train.n_trials and len(apart):
        train = train.select_trials(apart)
    held = checked_held_out(test, held_out)
    shots = [k for k in sorted(n_trials) if k <= len(apart)]
    if not shots:
        few = f"few-shot scores need {min(n_trials)} training trials that are not scored, not {len(apart)}"
        raise DataError(f"{few}: give more")
    rng = np.random.default_rng(seed)
    draws = [rng.choice(train.n_trials, shots[-1], replace=False) for _ in range(n_draws)]
    used = np.unique(draws)
    place = np.searchsorted(used, draws)
    some = train.select_trials(used)
    known, there, counts = _pairs(fit, some, held)
    new, scored, target = _pairs(fit, test, held)
    every = np.concatenate([train.region(name)[..., own] for name, own in held.items()], -1)
    fires = np.nansum(every, (0, 1)) > 0  # of the others a mean of 0 says that a spike is impossible
    new, target, mean = new[scored], target[scored][:, fires], np.nanmean(every[..., fires], (0, 1))
    if not target.sum():
        raise DataError("hidden neurons are silent: few-shot scores need spikes")
    bits = np.empty((len(shots), n_draws))
    for s, k in enumerate(shots):
        for d, own in enumerate(place[:, :k]):
            bits[s, d] = _bits(known[own][there[own]], counts[own][there[own]][:, fires], new, target, mean)
    units = {"units": "bits per spike"}
    arrays = {"few_shot": ("shot", bits.mean(1), units), "spread": ("shot", bits.std(1), units)}
    return xr.Dataset(arrays, {"shot": shots}, {"n_draws": n_draws, "n_hidden": len(mean)})


def beside(train: MultiRegionData, test: MultiRegionData) -> np.ndarray:
    """Positions of the trials of ``train`` that are not among those of ``test``."""
    return np.flatnonzero(~np.isin(train.trial_fingerprints, test.trial_fingerprints))


def divided(case: ScoredTrials) -> tuple[MultiRegionData, MultiRegionData]:
    """Trials for regressions, and trials to be scored.

    Where too few training trials are not scored, as where nobody knows the training trials, half of the trials scored
    take their place, drawn at random.
    """
    half = case.test.n_trials // 2
    if len(beside(case.train, case.test)) >= SHOTS[0] or half < SHOTS[0]:
        return case.train, case.test
    order = np.random.default_rng(0).permutation(case.test.n_trials)
    return case.test.select_trials(np.sort(order[:half])), case.test.select_trials(np.sort(order[half:]))


def posterior_means(latents: xr.Dataset) -> np.ndarray:
    """Posterior means of all latents of a fit side by side, (trial, time, latent)."""
    means = [array.values for name, array in latents.data_vars.items() if str(name).endswith("_mean")]
    return np.concatenate([mean.reshape(*mean.shape[:2], -1) for mean in means], -1)


def _pairs(
    fit: WithLatents, data: MultiRegionData, held: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents inferred without hidden neurons, bins with all of these, and their counts.

    They are (trial, time, latent), (trial, time) and (trial, time, hidden).
    """
    latents = posterior_means(fit.latents(data.without(held)))
    counts = np.concatenate([data.region(name)[..., own] for name, own in held.items()], -1)
    there = ~np.isnan(counts).any(-1)
    return latents, there, np.nan_to_num(counts)


def _bits(
    known: Float[np.ndarray, "bin latent"],
    counts: Float[np.ndarray, "bin hidden"],
    new: Float[np.ndarray, "other latent"],
    target: Float[np.ndarray, "other hidden"],
    mean: Float[np.ndarray, "hidden"],
) -> float:
    """Bits per spike of ``target``, by the regression of ``counts`` on latents."""
    center = known.mean(0)
    directions = principal_directions(known - center)
    design = np.concatenate([np.ones((len(known), 1)), (known - center) @ directions], 1)
    weights = np.stack([poisson_regression(design, own) for own in counts.T], -1)
    fitted = design @ weights
    log_rate = weights[0] + (new - center) @ directions @ weights[1:]
    rate = np.exp(np.clip(log_rate, fitted.min(0), fitted.max(0)))  # nothing is known beyond
    gained = (xlogy(target, rate) - rate).sum() - (xlogy(target, mean) - mean).sum()
    return float(gained / (target.sum() * np.log(2)))


class FewShot(Metric):
    """Hidden neurons regressed on latents in few trials, in bits per spike."""

    needs = ScoredTrials
    heading = "few-shot co-smoothing"
    unit = "bits per spike"

    def suits(self, case: ScoredTrials) -> bool:
        return all(uncounted(data) is None for data in (case.train, case.test))

    def score(self, case: ScoredTrials) -> xr.Dataset:
        train, test = divided(case)
        return few_shot(case.fit, train, test, hold_out_neurons(case.test.layout))

    def remark(self, case: ScoredTrials) -> str:
        train, test = divided(case)
        if test is case.test:
            return ""
        said = f"no {SHOTS[0]} training trials are known beside those scored: {train.n_trials} of these were taken for"
        return f"{said} regressions, and only the other {test.n_trials} scored"

    def sentence(self, table: xr.Dataset) -> str:
        trials = " / ".join(map(str, table["shot"].values))
        scores = " / ".join(f"{value:.{self.digits}f}" for value in table["few_shot"].values)
        return f"{self.title} from {trials} trials {scores} {self.unit}"
