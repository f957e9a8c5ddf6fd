"""How well a fitted model predicts trials it has not seen: leave-one-out by Pareto-smoothed importance sampling.

Draws of the posterior are reweighted to what they would be without one trial (Vehtari, Gelman & Gabry 2017). Where the
weights cannot be trusted, the model is fitted again without that trial. In draws of methods "map" and "laplace" the
loadings follow delays and timescales and have no spread of their own, so that what loadings gain by having seen a trial
stays in its score: compare models whose loadings are alike, such as hypotheses on delays.
"""

import warnings
from typing import Any

import numpy as np
from arviz import from_dict, loo
from arviz_stats.utils import ELPDData
from scipy.special import logsumexp
from tqdm import tqdm

from mrgp.arviz_tree import trial_scores
from mrgp.checks import DataError
from mrgp.data import MultiRegionData
from mrgp.workers import TRACING

MOST_REFITS = 10  # trials: of more, importance sampling is no way to leave trials out, and a note says so


def leave_one_out(
    fit: Any,
    data: MultiRegionData | None = None,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    refit: bool = True,
    progress: bool = True,
) -> ELPDData:
    """Expected log predictive density of a trial, summed over trials, with its pointwise values and Pareto k.

    Args:
        fit: A :class:`mrgp.Fit` with draws of its own, or of method "map".
        data: Its recording, where the fit was loaded from a file.
        n_draws: Draws of the posterior, at most.
        seed: Of the draws.
        refit: Fit again, by method "map", without each trial whose Pareto k is too high, up to ten of them; its k is
            then 0. Not after variational Bayes.
        progress: Show a progress bar over refits.

    Returns:
        What ``arviz.loo`` does, for ``arviz.compare`` and ``arviz.plot_khat``.
    """
    if fit.samples is None and not fit.uncertain_sites:
        raise ValueError(f"{type(fit.model).__name__} has no delays or timescales to draw: nothing to reweight")
    data = fit.recording(data)
    draws = fit.draws(n_draws, seed, data)
    with TRACING:
        scores = trial_scores(fit.model, data, draws)
    tree = from_dict({"posterior": {"number": np.arange(len(scores))[None]}, "log_likelihood": {"y": scores[None]}})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")  # what follows tells, and mends
        result = loo(tree, pointwise=True, reff=1.0)
    poor = np.flatnonzero(result.pareto_k.values > result.good_k)
    if not poor.size or not refit or fit.method == "vb":
        return result
    if poor.size > MOST_REFITS:
        warnings.warn(
            f"{poor.size} of {data.n_trials} trials have a Pareto k above {result.good_k:.2f}: their scores are "
            "optimistic; more draws, or held-out trials, tell more",
            stacklevel=2,
        )
        return result
    left: list[int] = []
    for trial in tqdm(poor, desc="leaving out", unit=" trials", disable=not progress, leave=False):
        others = data.select_trials(np.delete(np.arange(data.n_trials), trial))
        fixed = {name: fit.sites[name] for name in fit.fixed}
        try:
            again = fit.model.fit(others, "map", start=fit, fixed=fixed, seed=seed, progress=False).ended()
        except DataError as error:  # a neuron that speaks in this trial alone
            which = data.name_trial(trial)
            warnings.warn(f"{which} cannot be left out, its score is optimistic: {error}", stacklevel=2)
            left.append(trial)
            continue
        with TRACING:
            unseen = trial_scores(again.model, data.select_trials([trial]), again.draws(n_draws, seed))
        result.elpd_i[trial] = logsumexp(unseen) - np.log(len(unseen))
        result.pareto_k[trial] = 0.0
    result.elpd, result.warning = float(result.elpd_i.sum()), bool(left)
    result.se = float(np.sqrt(data.n_trials * np.var(result.elpd_i.values)))
    seen = logsumexp(scores, axis=0).sum() - data.n_trials * np.log(len(scores))
    result.p = float(seen - result.elpd)
    return result
