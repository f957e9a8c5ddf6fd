"""Cross-validation: scores against fits by hand, the rule, executors, sweeps that are stopped, searches."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from mrgp.models import DLAG, FA, GPFA, LDS, PCCA

import mrgp
from mrgp.recordings.recording import Layout
from mrgp.simulations.simulate import simulate
from mrgp.studies.cross_validation import sweep
from mrgp.studies.cross_validation.candidate import LATENTS, Candidate
from mrgp.studies.cross_validation.cross_validate import cross_validate
from mrgp.studies.cross_validation.result import CrossValidation
from mrgp.studies.cross_validation.tabulated import tabulated

QUICK = {"n_starts": 1, "progress": False}
LAYOUT = Layout(("V1", "V2"), (6, 5), 0.02)


def recording(seed=3, **changes):
    design = {"n_across": 1, "n_within": (1, 0), "n_trials": 12, "n_bins": 15, "delay": [[0], [0.03]], "snr": 2.0}
    return simulate(regions={"V1": 6, "V2": 5}, seed=seed, **(design | changes)).data


def squared_error(fit, data):
    """A score of a user's own: minus the mean square of what the mean leaves."""
    offset = np.concatenate([offset.values for offset in fit.offset.values()])
    return -((data.values - offset) ** 2).mean((1, 2))


def same(one, other):
    """Whether two tables agree in all but the time they took."""
    return one.drop_vars("seconds").identical(other.drop_vars("seconds"))


@pytest.fixture(scope="module")
def swept():
    """Factor analysis with one and two factors in three folds."""
    return cross_validate(FA(), recording(), n_across=(1, 2), n_folds=3, **QUICK)


@pytest.fixture
def scripted(monkeypatch):
    """Instead of fits, scores that ``score(candidate, trial)`` gives; returns the tasks that were asked for."""

    def script(score):
        asked = []

        def evaluate(job, task):
            candidate, fold = task
            asked.append((str(candidate), fold))
            trials = np.flatnonzero(job.folds == fold)
            scores = [float(score(candidate, trial, job)) for trial in trials]
            told = {"converged": True, "failure": "", "notes": [], "seconds": 0.0}
            return {**candidate.written(), "fold": fold, "scores": scores, **told}

        monkeypatch.setattr(sweep, "evaluate", evaluate)
        return asked

    return script


# --- scores


def of_threads(fit, held_out):
    """A score that waits for threads of its own."""
    pool = ThreadPoolExecutor(2)
    parts = [held_out.select_trials([trial]) for trial in range(held_out.n_trials)]
    try:
        return [part.item() for part in pool.map(fit.log_likelihood, parts, timeout=60)]
    finally:
        pool.shutdown(wait=False)  # so that a lock that is held fails the test, and does not stop it


def test_a_score_may_wait_for_threads_of_its_own(swept):
    job = sweep.Job(FA(), recording(), swept.table["fold"].values, of_threads, {**QUICK, "seed": 0}, LATENTS)
    record = sweep.evaluate(job, (Candidate(1, (0, 0)), 0))
    assert record["failure"] == ""
    trials = np.flatnonzero(job.folds == 0)
    np.testing.assert_allclose(record["scores"], swept.table["trial_score"][0, trials], rtol=1e-8)


def test_scores_are_those_of_fits_by_hand(swept):
    data, folds = recording(), swept.table["fold"].values
    assert sorted(np.bincount(folds)) == [4, 4, 4]
    expected = np.full((2, 12), np.nan)
    for row, p in enumerate((1, 2)):
        for fold in range(3):
            fit = FA(p).fit(data.select_trials(folds != fold), seed=0, **QUICK)
            # A Gaussian written out: bins are independent, with covariance C C' + diag R.
            C, R, d = (fit.sites[name] for name in ("loadings", "noise", "offset"))
            covariance = C @ C.T + np.diag(R)
            centred = data.values[folds == fold] - d
            mahalanobis = np.einsum("btn,nm,btm->b", centred, np.linalg.inv(covariance), centred)
            constant = np.linalg.slogdet(2 * np.pi * covariance)[1]
            expected[row, folds == fold] = -0.5 * (mahalanobis + data.n_bins * constant)
    table = swept.table
    np.testing.assert_allclose(table["trial_score"], expected, rtol=1e-8)
    np.testing.assert_allclose(table["mean"], expected.mean(1))
    np.testing.assert_allclose(table["se"], expected.std(1, ddof=1) / np.sqrt(12))
    for fold in range(3):
        np.testing.assert_allclose(table["score"][:, fold], expected[:, folds == fold].mean(1))
    assert table["valid"].all()
    assert table["converged"].all()
    assert table["n_loadings"].values.tolist() == [11, 22]
    assert swept.candidates == (Candidate(1, (0,)), Candidate(2, (0,)))
    assert table.candidate.values.tolist() == ["1", "2"]
    assert table.region.values.tolist() == ["all"]


def test_the_chosen_model_is_fitted_to_all_trials(swept):
    fit = swept.fit()
    assert fit.data.n_trials == 12
    assert fit.model.n_across == swept.chosen.n_across
    again = FA(swept.chosen.n_across).fit(recording(), seed=0, **QUICK)
    np.testing.assert_allclose(fit.sites["loadings"], again.sites["loadings"])


def test_threads_give_the_same_table(swept):
    with ThreadPoolExecutor(2) as threads:
        found = cross_validate(FA(), recording(), n_across=(1, 2), n_folds=3, executor=threads, **QUICK)
    assert same(found.table, swept.table)


@pytest.mark.slow
def test_processes_give_the_same_table(swept):
    with mrgp.process_pool(1) as processes:
        found = cross_validate(FA(), recording(), n_across=(1, 2), n_folds=3, executor=processes, **QUICK)
    assert same(found.table, swept.table)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")   # those of another library's workings
def test_a_cluster_gives_the_same_table(swept):
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        executor = client.get_executor()
        found = cross_validate(FA(), recording(), n_across=(1, 2), n_folds=3, executor=executor, **QUICK)
    assert same(found.table, swept.table)


def test_a_score_of_ones_own_decides():
    found = cross_validate(FA(), recording(), (1,), n_folds=3, score=squared_error, **QUICK)
    data, folds = recording(), found.table["fold"].values
    for fold in range(3):
        offset = FA(1).fit(data.select_trials(folds != fold), **QUICK).sites["offset"]
        expected = -((data.values[folds == fold] - offset) ** 2).mean((1, 2))
        np.testing.assert_allclose(found.table["trial_score"][0, folds == fold], expected, rtol=1e-10)
    assert found.described["score"].endswith("squared_error")


@pytest.mark.slow
def test_no_latent_across_is_a_candidate_and_delays_are_found():
    model = DLAG(likelihood="dense", max_delay=0.1)
    data = recording(n_trials=10, n_bins=8, delay=[[0], [0.02]])
    found = cross_validate(model, data, (0, 1), [(1, 0)], n_folds=2, **QUICK)
    assert [str(one) for one in found.candidates] == ["0+1/0", "1+1/0"]
    assert found.chosen == Candidate(1, (1, 0))
    assert found.table["n_loadings"].values.tolist() == [6, 17]
    assert float(found.table["difference"][0] / found.table["difference_se"][0]) < -2


# --- the rule


def judged(scores, candidates, failures=(), model=None):
    """A cross-validation in two folds with these scores (candidate, trial)."""
    folds = np.arange(scores.shape[1]) % 2
    records = [
        (one, {
            "fold": fold, "scores": row[folds == fold].tolist(), "converged": True, "seconds": 1.0,
            "failure": "singular" if (str(one), fold) in failures else "",
        })
        for one, row in zip(candidates, scores, strict=True) for fold in (0, 1)
    ]  # fmt: skip
    model = model or DLAG()
    table = tabulated(model, LAYOUT, records[::-1], candidates, folds)
    return CrossValidation(table, tuple(candidates), model, {"seed": 0}, {}, {}, recording())


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    trials = 50 * rng.standard_normal(40)   # what trials are like under any model
    behind = 1 + rng.standard_normal(40)
    scores = np.stack([trials - behind, trials])
    found = judged(scores, [Candidate(1, (1, 1)), Candidate(2, (1, 1))])
    np.testing.assert_allclose(found.table["difference"], [-behind.mean(), 0])
    np.testing.assert_allclose(found.table["difference_se"], [behind.std(ddof=1) / np.sqrt(40), 0])
    # Eight paired standard errors behind, but a fifth of one's own.
    assert -1 / 4 < float(found.table["difference"][0] / found.table["se"][0]) < 0
    assert found.best == found.chosen == Candidate(2, (1, 1))


def test_the_smallest_within_one_standard_error_is_chosen():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4, 50))
    noise = (noise - noise.mean(1, keepdims=True)) / noise.std(1, ddof=1, keepdims=True)   # se 0.1414
    candidates = [Candidate(0, (3, 3)), Candidate(1, (1, 1)), Candidate(2, (1, 1)), Candidate(1, (2, 2))]
    behind = np.array([0.13, 0.15, 0.13, 0.0])
    scores = -behind[:, None] + noise * np.array([1, 1, 1, 0])[:, None]
    found = judged(scores, candidates)
    assert found.best == Candidate(1, (2, 2))
    # 1+1/1 is smaller, but too far; the others have 33 loadings, and 0 across are fewer.
    assert found.table["n_loadings"].values.tolist() == [33, 22, 33, 33]
    assert found.chosen == Candidate(0, (3, 3))
    scores[1] += 0.02
    assert judged(scores, candidates).chosen == Candidate(1, (1, 1))
    failed = judged(scores, candidates, {("1+1/1", 1), ("1+2/2", 0)})
    assert failed.failures == {("1+1/1", 1): "singular", ("1+2/2", 0): "singular"}
    assert failed.best in (Candidate(0, (3, 3)), Candidate(2, (1, 1)))
    assert failed.chosen == Candidate(0, (3, 3))
    with pytest.raises(FloatingPointError, match="no candidate could be fitted in every fold; the first: singular"):
        judged(scores, candidates, {(str(one), 0) for one in candidates})


def test_a_result_is_written_and_told(tmp_path):
    rng = np.random.default_rng(2)
    candidates = [Candidate(k, (w, 1)) for k in range(3) for w in (1, 2)]
    scores = rng.standard_normal((6, 20)) - 5 * np.abs(np.arange(6) - 3)[:, None]
    found = judged(scores, candidates, {("0+1/1", 0)})
    found.save(tmp_path / "cv")
    names = {path.name for path in (tmp_path / "cv").iterdir()}
    assert names == {"summary.json", "report.json", "scores.csv", "scores.nc", "cv.png"}
    summary = json.loads((tmp_path / "cv" / "summary.json").read_text())
    assert summary["chosen"] == {"candidate": "1+2/1", "n_across": 1, "n_within": [2, 1]}
    assert summary["candidates"][4]["mean"] == pytest.approx(scores[4].mean())
    assert summary["failures"] == [{"candidate": "0+1/1", "fold": 0, "failure": "singular"}]
    assert xr.load_dataset(tmp_path / "cv" / "scores.nc")["mean"].values == pytest.approx(scores.mean(1))
    lines = (tmp_path / "cv" / "scores.csv").read_text().splitlines()
    assert lines[0].startswith("candidate,n_across,n_within_V1,n_within_V2,mean,se,difference,difference_se")
    assert lines[4].startswith("1+2/1,1,2,1,")
    told = found.report()
    assert "1+2/1" in next(line for line in told.splitlines() if "best, chosen" in line)
    assert "1 fits failed" in told


# --- stopped and resumed


def test_a_sweep_that_is_stopped_goes_on_to_the_same_table(scripted, monkeypatch, tmp_path):
    def score(candidate, trial, job):
        return np.sin(trial) / 3 + candidate.n_across

    asked = scripted(score)
    whole = cross_validate(GPFA(), recording(), range(1, 4), n_folds=4, **QUICK)
    assert asked == [(str(k), fold) for k in range(1, 4) for fold in range(4)]
    plain = sweep.evaluate

    def interrupted(job, task):
        if task == (Candidate(2, (0,)), 1):
            raise KeyboardInterrupt
        return plain(job, task)

    monkeypatch.setattr(sweep, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(GPFA(), recording(), range(1, 4), n_folds=4, out=tmp_path, **QUICK)
    assert len(json.loads((tmp_path / "tasks.json").read_text())["tasks"]) == 5
    monkeypatch.setattr(sweep, "evaluate", plain)
    asked.clear()
    resumed = cross_validate(GPFA(), recording(), range(1, 4), n_folds=4, out=tmp_path, **QUICK)
    assert asked == [("2", 1), ("2", 2), ("2", 3), *[("3", fold) for fold in range(4)]]
    assert resumed.table.identical(whole.table)
    asked.clear()
    more = cross_validate(GPFA(), recording(), (3, 4), n_folds=4, out=tmp_path, **QUICK)
    assert asked == [("4", fold) for fold in range(4)]
    assert [str(one) for one in more.candidates] == ["3", "4"]


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_to_the_same_table(swept, tmp_path):
    data, out = tmp_path / "data.npz", tmp_path / "out"
    mrgp.save_recording(recording(), data)
    script = (
        "import mrgp; from mrgp.models import FA; mrgp.cross_validate(FA(), "
        f"mrgp.load_recording({str(data)!r}), (1, 2), n_folds=3, out={str(out)!r}, n_starts=1, progress=False)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (out / "tasks.json").is_file():
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    kept = len(json.loads((out / "tasks.json").read_text())["tasks"])
    assert 1 <= kept < 6
    resumed = cross_validate(FA(), mrgp.load_recording(data), (1, 2), n_folds=3, out=out, **QUICK)
    assert same(resumed.table, swept.table)


def test_a_folder_is_of_one_recording_and_model(scripted, tmp_path):
    scripted(lambda candidate, trial, job: trial)
    ask = {"n_across": (1,), "n_folds": 3, "out": tmp_path, **QUICK}
    cross_validate(GPFA(), recording(), **ask)
    for model, data, changed, named in [
        (GPFA(), recording(seed=4), {}, "recording"),
        (GPFA(gp_noise=0.01), recording(), {}, "model"),
        (FA(), recording(), {}, "model"),
        (GPFA(), recording(), {"seed": 1}, "folds, settings"),
        (GPFA(), recording(), {"fixed": {"timescale_across": 0.1}}, "settings"),
        (GPFA(), recording(), {"score": squared_error}, "score"),
    ]:
        with pytest.raises(ValueError, match=rf"tasks.json is of other settings \({named}\): choose another folder"):
            cross_validate(model, data, **(ask | changed))
    (tmp_path / "tasks.json").write_text("{")
    with pytest.raises(ValueError, match="is not a readable cross-validation: remove it to start afresh"):
        cross_validate(GPFA(), recording(), **ask)


# --- failures


def test_a_failing_candidate_is_told_of_and_not_chosen():
    called = []

    def score(fit, data):
        if fit.model.n_across == 1:
            return np.ones(data.n_trials)
        called.append(fit)
        if len(called) == 1:
            raise np.linalg.LinAlgError("singular matrix")
        return np.full(data.n_trials, np.nan) if len(called) == 2 else np.ones(3)

    with pytest.warns(UserWarning, match="3 of 6 fits failed.*the first, 2 in fold 0: singular matrix"):
        found = cross_validate(FA(), recording(), (2, 1), n_folds=3, score=score, **QUICK)
    assert found.chosen == found.best == Candidate(1, (0,))
    assert found.table["valid"].values.tolist() == [False, True]
    assert np.isnan(found.table["mean"].values).tolist() == [True, False]
    assert [found.failures[("2", fold)] for fold in range(3)] == [
        "singular matrix",
        "the score of a held-out trial is not finite",
        "score gave shape (3,): one number is for each of 4 trials",
    ]


def test_what_does_not_converge_is_not_chosen():
    with pytest.raises(FloatingPointError, match="first: not converged: stopped after 2 iterations"):
        cross_validate(FA(), recording(), (1,), n_folds=3, max_iterations=2, **QUICK)


@pytest.mark.parametrize(
    ("model", "given", "error", "words"),
    [
        (DLAG(), {"n_across": (0,), "n_within": (0,)}, ValueError, "give numbers of latents that are not all 0"),
        (DLAG(), {"n_across": (10,), "n_within": (1,)}, ValueError, r"candidate 10\+1/1 has more latents than"),
        (DLAG(), {"n_across": (1,), "n_within": [(1, 1, 1)]}, ValueError, "is for 3 regions"),
        (GPFA(), {"n_across": (1,), "n_within": (1,)}, ValueError, "no within latents"),
        (DLAG(), {"n_across": (1,), "start": None}, TypeError, "cross_validate sets start itself"),
        (DLAG(), {"score": "accuracy"}, ValueError, "score is 'log_likelihood' or a function"),
        (DLAG(), {"neighbours": True}, ValueError, "pass search=True"),
        (DLAG(), {"search": True, "n_within": (1,)}, ValueError, "a search finds n_within by itself"),
        (LDS(), {"search": True}, ValueError, "which LDS does not: give n_across"),
        (DLAG(), {"n_across": (1,), "n_within": (1,), "stratify": "stimulus"}, ValueError, "nor any other"),
    ],
)
def test_wrong_use_is_refused_before_any_fit(scripted, model, given, error, words):
    asked = scripted(lambda candidate, trial, job: 0)
    with pytest.raises(error, match=words):
        cross_validate(model, recording(), progress=False, **given)
    assert asked == []


# --- searches


def peaked(job, candidate, trial):
    """Scores by which V1 reads 4 latents and V2 5, two of them shared, and one more private to V1 than factors say."""
    noise = np.sin(100 * trial + candidate.n_across)
    if job.data.layout.n_regions == 1:
        best = {"V1": 4, "V2": 5}[job.data.layout.regions[0]]
        return -abs(candidate.n_across - best) + 0.1 * noise
    wanted = np.array([2, 3, 3])
    return -np.abs(np.array([candidate.n_across, *candidate.n_within]) - wanted).sum() + 0.1 * noise


@pytest.mark.slow
def test_a_search_goes_along_the_path_of_factor_analysis(scripted, tmp_path):
    asked = scripted(lambda candidate, trial, job: peaked(job, candidate, trial))
    data = simulate(regions={"V1": 12, "V2": 12}, n_trials=12, n_bins=4).data
    found = cross_validate(DLAG(), data, n_folds=3, search=True, out=tmp_path, **QUICK)
    assert {region: own.chosen.n_across for region, own in found.dimensions.items()} == {"V1": 4, "V2": 5}
    # Of 12 neurons no more than 7 factors can be known; two beyond the best are seen.
    assert [len(own.candidates) for own in found.dimensions.values()] == [7, 7]
    assert [str(one) for one in found.candidates] == ["0+4/5", "1+3/4", "2+2/3", "3+1/2", "4+0/1"]
    assert found.chosen == Candidate(2, (2, 3))
    for own in found.dimensions.values():
        np.testing.assert_array_equal(own.table["fold"], found.table["fold"])
    assert len(asked) == len(set(asked)) + 21   # both regions' factors go by the same names
    asked.clear()
    nearby = cross_validate(DLAG(), data, n_folds=3, search=True, neighbours=True, out=tmp_path, **QUICK)
    assert nearby.chosen == Candidate(2, (3, 3))
    assert {name for name, _ in asked} == {
        "1+2/3", "3+2/3", "2+1/3", "2+3/3", "2+2/2", "2+2/4",
        "1+3/3", "3+3/3", "2+4/3", "2+3/2", "2+3/4",
    }  # fmt: skip
    assert cross_validate(DLAG(), data, (1, 2), n_folds=3, search=True, **QUICK).chosen == Candidate(2, (2, 3))
    summary = nearby.summary()
    assert summary["dimensions"]["V2"]["chosen"]["n_across"] == 5
    nearby.save(tmp_path / "figure")
    assert (tmp_path / "figure" / "cv.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_search_finds_factors_of_real_fits():
    data = recording(n_trials=20, n_bins=10, n_across=1, n_within=(1, 0))
    found = cross_validate(PCCA(), data, n_folds=2, search=True, **QUICK)
    assert {region: own.chosen.n_across for region, own in found.dimensions.items()} == {"V1": 2, "V2": 1}
    assert [str(one) for one in found.candidates] == ["0+2/1", "1+1/0"]
