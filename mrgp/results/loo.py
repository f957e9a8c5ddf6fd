"""Leave-one-out cross-validation: how well a fit predicts trials that it has not seen.

A maximum without draws has a Gaussian around it, of which each trial's part is taken away (see ``mode.left_out``).
Draws of the whole posterior are reweighted to what they would be without one trial (Vehtari, Gelman & Gabry 2017).
Where the weights cannot be trusted, the draws are carried to the posterior without that trial by Hamiltonian moves (see
``mode.moves``) and score it from there.
"""

import warnings
from typing import Literal

import numpy as np
from arviz import from_dict, loo
from arviz_stats.utils import ELPDData, ELPDDataLOO
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from tqdm import tqdm
from xarray import DataArray

from mrgp.inference.mode.left_out import left_out
from mrgp.inference.mode.mode import FEW
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.results import uncertainty
from mrgp.results.arviz import MOST_DRAWS, TrialScores, trial_scores, why_no_log_likelihood
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.runtime.workers import TRACING

MOST_PARAMETERS = 2000  # of a Gaussian at the maximum, whose covariance is a table
MOST_LEFT_OUT = 20  # trials: of more, importance sampling is no way to leave trials out, and a note says so
LEFT_OUT_DRAWS = 250  # without a trial: with those of the whole posterior they tell its score to a tenth of a nat
LEAST_SHARED = 5.0  # of them


def leave_one_out(
    fit: GaussianProcessFit,
    data: MultiRegionData | None = None,
    *,
    n_draws: int | None = None,
    seed: int = 0,
    refit: bool = True,
    loadings: Literal["drawn", "following"] = "drawn",
    progress: bool = True,
) -> ELPDData:
    """Estimate how well each trial is predicted from all others.

    The estimate is the expected log predictive density of a trial, summed over trials, with its pointwise values.

    Args:
        fit: A :class:`mrgp.Fit` with draws of everything that was inferred, or of method "map" or "laplace".
        data: Its recording, where the fit was loaded from a file.
        n_draws: Draws of the posterior, at most, which are weighted by PSIS and have a Pareto k. After methods "map"
            and "laplace" of values, where there are no draws, None takes a Gaussian at the maximum instead, and each
            trial's part of it away: a sum within a nat of that of draws, in a small part of the time, and without
            chance. Elsewhere None stands for 1000: with means of several conditions, neurons that some trials have not
            observed, more than 2000 parameters, or, up to 400 parameters, a trial without which there is no maximum
            nearby.
        seed: Of the draws.
        refit: Draw again without each trial whose Pareto k is too high, up to twenty of them; its k is then 0.
        loadings: "drawn": with noise and offsets part of the posterior; of draws at the cost of some fifteen
            likelihoods each. "following", after methods "map" and "laplace": at their best values given delays and
            timescales, in no time; what they gained by having seen a trial stays in its score, so that only differences
            between models whose loadings are alike have a meaning, such as between hypotheses on delays.
        progress: Show progress bars.

    Returns:
        What ``arviz.loo`` does, for ``arviz.compare`` and, of draws, ``arviz.plot_khat``.

    Raises:
        ValueError: the fit has draws of some parameters only, or of none; or draws of all do not settle, as where a
            latent is one too many.
        FloatingPointError: there are no draws, and the maximum is none that a Gaussian fits.
    """
    lacking = why_no_log_likelihood(fit)
    if lacking is not None and not (fit.method_class.ends_at_maximum and fit.uncertain_sites):
        raise ValueError(f"{type(fit.model).__name__} has no draws to leave trials out of: {lacking}")
    data = fit.recording(data)
    if n_draws is None and loadings == "drawn" and lacking is not None and is_left_out_at_maximum(fit, data):
        found = _from_maximum(fit, data, progress)
        if not found.warning:
            return found
        if fit.n_parameters > FEW:
            warn(
                "some trials say so much of the parameters that these have no maximum nearby without them: their "
                "scores are doubtful; fit one latent fewer, or score held-out trials"
            )
            return found
    n_draws = MOST_DRAWS if n_draws is None else n_draws
    with TRACING:
        if loadings == "following":
            if not fit.method_class.ends_at_maximum:
                raise ValueError(f"loadings follow a maximum: fit with method 'map' or 'laplace', not {fit.method!r}")
            refit = False
            draws = uncertainty.draws(fit, fit.curvature(data, follow=True), n_draws, seed)
        elif lacking is None and not refit:
            draws = fit.draws(n_draws, seed, data)
        else:
            whole = uncertainty.whole_posterior(fit, data, n_draws, seed, progress)
            draws = whole.sites(data)
        scores = trial_scores(fit.model, data, draws)
    tree = from_dict({"posterior": {"number": np.arange(len(scores))[None]}, "log_likelihood": {"y": scores[None]}})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")  # what follows tells, and mends
        result = loo(tree, pointwise=True, reff=1.0)
    poor = np.flatnonzero(~(result.pareto_k.values <= result.good_k))
    if not poor.size or not refit:
        return result
    if poor.size > MOST_LEFT_OUT:
        warn(
            f"{poor.size} of {data.n_trials} trials have a Pareto k above {result.good_k:.2f}: their scores are "
            "optimistic; more draws, or held-out trials, tell more"
        )
        return result
    doubtful = 0
    for trial in tqdm(poor, desc="leaving out", unit=" trials", disable=not progress, leave=False):
        others = fit.recording(data.select_trials(np.delete(np.arange(data.n_trials), trial)))
        alone = fit.recording(data.select_trials([trial]))
        with_it = scores[:, trial]
        with TRACING:
            without = whole.carried_to(others, _weights(with_it), min(n_draws, LEFT_OUT_DRAWS), seed + 1)
            if without is None:
                doubtful += 1
                continue
            unseen = trial_scores(fit.model, alone, without.sites(others))
        result.elpd_i[trial] = _bridged(unseen[:, 0], with_it)
        result.pareto_k[trial] = 0.0
    if doubtful:
        warn(
            f"draws without a trial have not settled for {doubtful} of {data.n_trials} trials: their scores are "
            "optimistic; fit one latent fewer, or score held-out trials"
        )
    result.elpd, result.warning = float(result.elpd_i.sum()), bool(doubtful)
    result.se = float(np.sqrt(data.n_trials * np.var(result.elpd_i.values)))
    seen = logsumexp(scores, axis=0).sum() - data.n_trials * np.log(len(scores))
    result.p = float(seen - result.elpd)
    return result


def is_left_out_at_maximum(fit: GaussianProcessFit, data: MultiRegionData) -> bool:
    """Tell if trials can be taken away from a Gaussian at the maximum.

    They have to tell of the same parameters. A condition has courses of its own, and a neuron that some trials have
    not observed has loadings: what the others know of these is more than their share.
    """
    observed = data.mask.any(1)
    exchangeable = not fit.model.knows_conditions or len(data.layout.conditions) < 2
    return bool(
        fit.method_class.ends_at_maximum and not fit.model.emission.is_of_counts and exchangeable
        and (observed == observed.any(0)).all() and data.n_trials > 1 and fit.n_parameters <= MOST_PARAMETERS
    )  # fmt: skip


def _from_maximum(fit: GaussianProcessFit, data: MultiRegionData, progress: bool) -> ELPDData:
    """Score trials by a Gaussian at the maximum from which each is taken away."""
    with TRACING:
        program, coordinates, _ = uncertainty.around_maximum(fit, data, progress)
        observed = np.broadcast_to(data.mask, data.values.shape).sum((1, 2))
        found = left_out(program, TrialScores(fit.model), data, coordinates, observed / observed.sum(), progress)
    score = DataArray(found.score, dims="trial")
    return ELPDDataLOO(
        elpd=float(found.score.sum()), se=float(np.sqrt(data.n_trials * np.var(found.score))),
        p=float((found.seen - found.score).sum()), n_samples=0, n_data_points=data.n_trials, scale="log",
        warning=not found.settled.all(), good_k=np.nan, elpd_i=score, approx_posterior=True,
    )  # fmt: skip


def _bridged(without: np.ndarray, with_it: np.ndarray) -> float:
    """Combine draws with and without a trial into its log predictive density (Bennett 1976).

    It is the log of the mean of exp(score) over draws without the trial.

    The trial's predictive density is the ratio of the normalizers of both; draws from either side tell it far better
    than those of one, unless they have nothing in common: then those without the trial speak alone.
    """
    many = np.log(len(with_it) / len(without))

    def balance(value: float) -> float:
        up = expit(without - value + many).sum()
        return float(up - expit(value - many - with_it).sum())

    both = np.concatenate([without, with_it])
    value = float(brentq(balance, both.min() + many - 50.0, both.max() + many + 50.0))
    shared = expit(without - value + many).sum()  # draws, as it were, that either posterior might have given
    return value if shared > LEAST_SHARED else float(logsumexp(without) - np.log(len(without)))


def _weights(scores: np.ndarray) -> np.ndarray:
    """Importance weights for leaving out a trial, truncated (Ionides 2008), (draw,).

    ``scores`` are that trial's log-likelihoods, (draw,).
    """
    weights = np.exp(scores.min() - scores)
    return np.minimum(weights, weights.mean() * np.sqrt(len(weights)))
