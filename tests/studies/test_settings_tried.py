"""Cross-validation of any setting of a model: states, edges, kernels; blocks of one long trial; files of before."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from mrgp.models import DLAG, FA, GPFA, GPVAE, LDS, LFADS, CoupledLDS, SwitchingLDS

import mrgp
from mrgp.families.sizes import n_parameters
from mrgp.inference.density import known_sites
from mrgp.recordings.blocks import in_blocks
from mrgp.recordings.layout import Layout
from mrgp.simulations.simulate import simulate
from mrgp.studies.cross_validation import sweep
from mrgp.studies.cross_validation.candidate import Candidate, _listed, candidate_of, grid

LAYOUT = Layout(("V1", "V2"), (6, 5), 0.02)
EDGES = [(), (("V1", "V2"),), (("V1", "V2"), ("V2", "V1"))]


def recording(n_trials=8, n_bins=10):
    design = {"n_across": 1, "n_within": (1, 0), "n_trials": n_trials, "n_bins": n_bins, "seed": 3}
    return simulate(regions={"V1": 6, "V2": 5}, **design).data


TOLD = {"converged": True, "failure": "", "notes": [], "seconds": 0.0}


@pytest.fixture
def scripted(monkeypatch):
    """Instead of fits, scores that ``score(candidate)`` gives, with noise of trials; returns what was asked for."""
    asked = []

    def with_scores(score, job, task):
        asked.append((job, str(task[0]), task[1]))
        height = score(task[0])
        noise = 0.1 * np.sin(17 * np.flatnonzero(job.folds == task[1]) + 1000 * height)
        return {**task[0].written(), "fold": task[1], "scores": (height + noise).tolist()} | TOLD

    def script(score):
        monkeypatch.setattr(sweep, "evaluate", partial(with_scores, score))
        return asked

    return script


# --- candidates


def test_candidates_have_names_and_attributes():
    one = Candidate(3, (17, 1))
    assert (str(one), one.n_across, one.n_within) == ("3+17/1", 3, (17, 1))
    assert one == Candidate(n_across=3, n_within=(17, 1)) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(Candidate(3, (17, 1)))
    assert str(Candidate(2, (0, 0))) == "2"
    assert str(Candidate(1, (0,), kernel=mrgp.Matern32())) == "1, kernel=Matern32()"
    other = Candidate(n_states=2, n_within=(3, 3), absent=(("V1", "V2"), ("V2", "V1")))
    assert str(other) == "n_states=2, n_within=3/3, absent=V1/V2+V2/V1"
    assert repr(Candidate(n_states=2)) == "Candidate(n_states=2)"
    assert str(Candidate(absent=())) == "absent=none"
    with pytest.raises(TypeError, match="n_across and n_within by position"):
        Candidate(1, 2, 3)
    assert _listed("poisson") == ["poisson"]  # not its letters
    assert _listed(0.1) == [0.1]
    with pytest.raises(AttributeError, match="no setting 'n_factors': it has n_across, n_within"):
        _ = one.n_factors


@pytest.mark.parametrize(
    ("model", "tried", "names"),
    [
        (DLAG(), {"n_across": [0, 1], "n_within": [0, (1, 2)]}, ["0+1/2", "1", "1+1/2"]),
        (LDS(), {"n_across": np.arange(1, 3)}, ["1", "2"]),
        (GPFA(), {"kernel": [mrgp.Matern32(), mrgp.Matern52()]}, ["1, kernel=Matern32()", "1, kernel=Matern52()"]),
        (FA(2), {"emission": ["poisson", "negative_binomial"]},
         ["2, emission='poisson'", "2, emission='negative_binomial'"]),
        (CoupledLDS(2), {"n_global": [0, 1]}, ["n_within=2/2, n_global=0", "n_within=2/2, n_global=1"]),
        (CoupledLDS((1, 2)), {"absent": EDGES}, [f"n_within=1/2, n_global=0, absent={own}" for own in
                                                 ("none", "V1/V2", "V1/V2+V2/V1")]),
        (SwitchingLDS(), {"n_states": (1, 2), "n_within": [1, (2, 1)]},
         [f"n_states={k}, n_within={w}" for k in (1, 2) for w in ("1/1", "2/1")]),
        (SwitchingLDS(populations=mrgp.Unknown(most=3)), {"n_states": 2}, ["n_states=2, n_within=2/2/2"]),
        (DLAG(), {"max_delay": [0.05, 0.1]}, ["1, max_delay=0.05", "1, max_delay=0.1"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_grid_lists_all_combinations_and_files_keep_them(model, tried, names):
    found = grid(model, LAYOUT, tried)
    assert list(map(str, found)) == names
    for one in found:
        record = json.loads(json.dumps(one.written()))
        assert candidate_of(record, model, dict(one.settings)) == one
        changed = one.of(model)
        for name in tried:
            own = getattr(changed, name)
            assert own == dict(one.settings)[name] or name == "n_within" or own == 0


def test_parameters_are_counted():
    # 11 noises and offsets; 3 timescales, a delay and 6 x 2 + 5 x 2 + 6 loadings.
    assert n_parameters(DLAG(1, (2, 1)), LAYOUT) == 22 + 4 + 1 + (6 * 3 + 5 * 2)
    # A_r are contractions of 2 x 2 and 1 x 1; B 2 x 1 and 1 x 2, of which one is left out.
    assert n_parameters(CoupledLDS((2, 1)), LAYOUT) == 22 + 5 + 4 + 17
    assert n_parameters(CoupledLDS((2, 1), absent=(("V1", "V2"),)), LAYOUT) == 22 + 5 + 2 + 17
    # K (D^2 + D + K + 2 D), p(z_1) and two for each first latent.
    assert n_parameters(SwitchingLDS(3, (2, 1)), LAYOUT) == 22 + 3 * (9 + 3 + 3 + 6) + 2 + 6 + 17
    # 3 timescales and a delay beside loadings: latents of trials are none.
    assert n_parameters(GPVAE(1, 1), LAYOUT) == 22 + 4 + 22


@pytest.mark.slow
def test_courses_over_a_trial_have_the_more_parameters_the_longer_it_is(scripted, tmp_path, agg):
    scripted(lambda one: 0.0)
    data = recording(8, 30)
    found = mrgp.cross_validate(FA(), data, tried={"mean": ["constant", "psth"]}, n_folds=2, progress=False)
    made = known_sites(FA(1, mean="psth").prepared(data), data)
    sizes = {name: np.size(site["value"]) for name, site in made.items()}
    assert found.table["n_parameters"].values.tolist() == [33, sum(sizes.values())]
    assert found.table["mean_of_model"].values.tolist() == ["'constant'", "'psth'"]  # mean is that of scores
    assert found.to_dataframe()["mean"].tolist() == found.table["mean"].values.tolist()
    found.save(tmp_path)
    assert sizes["mean_change"] > 11 * 8  # neurons times the bins with which other programs are traced


@pytest.mark.parametrize(
    ("model", "given", "error", "words"),
    [
        (CoupledLDS(), {"tried": {"n_state": [1]}}, ValueError, "CoupledLDS has no setting 'n_state' to try: it has"),
        (CoupledLDS(), {"tried": {"absent": [(("V1", "MT"),)]}}, ValueError, "MT is no region of the recording"),
        (CoupledLDS(), {"n_across": [1]}, ValueError, "CoupledLDS has no use for n_across"),
        (CoupledLDS(), {"search": True}, ValueError, "which CoupledLDS does not: give n_within"),
        (SwitchingLDS(), {"tried": {"n_states": [0, 1]}}, ValueError, "n_states counts at least 1, not 0"),
        (SwitchingLDS(), {"tried": {"emission": ["gaussian", "poisson"]}}, ValueError, "do not compare"),
        (DLAG(), {"n_across": [1], "tried": {"n_across": [2]}}, ValueError, "n_across is given twice"),
        (DLAG(), {"search": True, "tried": {"kernel": [mrgp.Matern32()]}}, ValueError, "leave kernel out"),
        (LFADS(emission="gaussian"), {}, ValueError, "LFADS has no sizes of its own: give tried="),
        (DLAG(mean="psth"), {"block": 0.1}, ValueError, "DLAG has a course over the trial, which blocks have not"),
        (DLAG(mean="psth", duration=0.4), {"block": 0.1}, ValueError, "DLAG has a course over the trial, which blocks"),
        (DLAG(delays="varying", duration=0.4), {"block": 0.1}, ValueError, "DLAG has a course over the trial"),
        (LDS(), {"block": 0.1, "tried": {"mean": ["constant", "psth"]}}, ValueError, "course over the trial"),
        (LDS(), {"n_folds": 9}, mrgp.DataError, "there are 8: lower n_folds, or give block, in seconds, to cut trials"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_before_any_fit(scripted, model, given, error, words):
    asked = scripted(lambda candidate: 0.0)
    with pytest.raises(error, match=words):
        mrgp.cross_validate(model, recording(), progress=False, **given)
    assert asked == []


# --- results


def test_states_and_latents_are_chosen_and_told(scripted, tmp_path, agg):
    asked = scripted(lambda one: -5.0 * abs(one.n_states - 2) - 3.0 * abs(one.n_within[0] - 1))
    ask = {"tried": {"n_states": [1, 2, 3], "n_within": [1, 2]}, "n_folds": 2, "progress": False}
    found = mrgp.cross_validate(SwitchingLDS(), recording(), out=tmp_path, **ask)
    assert len(asked) == 12
    assert found.chosen == Candidate(n_states=2, n_within=(1, 1))
    assert found.chosen.of(found.model) == SwitchingLDS(2, (1, 1))
    table = found.table
    assert table["n_states"].values.tolist() == [1, 1, 2, 2, 3, 3]
    assert table["n_within"].sel(region="V2").values.tolist() == [1, 2, 1, 2, 1, 2]
    assert found.to_dataframe().columns[:3].tolist() == ["n_states", "n_within_V1", "n_within_V2"]
    assert "of a lower bound of log p" in found.report()
    account = found.account()
    assert account.verdict[0] == "Chosen: 2 states, private: 1 of V1 and 1 of V2."
    summary = found.summary()
    assert summary["chosen"] == {"candidate": "n_states=2, n_within=1/1", "n_states": 2, "n_within": [1, 1]}
    axes = found.plot().axes
    assert axes[0].get_xlabel() == "states"
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["1", "2", "3"]
    asked.clear()
    more = mrgp.cross_validate(SwitchingLDS(4, 3), recording(), out=tmp_path, **ask | {"tried": {"n_states": [2, 4]}})
    assert [name for _, name, _ in asked] == ["n_states=2, n_within=3/3"] * 2 + ["n_states=4, n_within=3/3"] * 2
    assert more.chosen.n_states == 2


def test_edges_are_left_out_where_they_do_not_pay(scripted, agg):
    scripted(lambda one: {0: 0.0, 1: -0.001, 2: -4.0}[len(one.absent)])
    found = mrgp.cross_validate(CoupledLDS(1), recording(), tried={"absent": EDGES}, n_folds=2, progress=False)
    assert found.best.absent == ()
    assert found.chosen.absent == (("V1", "V2"),)   # as good within an error, and smaller
    assert found.table["absent"].values.tolist() == ["none", "V1/V2", "V1/V2+V2/V1"]
    assert found.table["n_loadings"].values.tolist() == [11, 11, 11]
    assert np.diff(found.table["n_parameters"]).tolist() == [-1, -1]
    assert found.plot().axes[0].get_xlabel() == "absent"
    assert found.account().verdict[0] == "Chosen: 0 global states, private: 1 of V1 and 1 of V2, absent: V1/V2."


def test_a_file_of_before_is_gone_on_with(scripted, tmp_path):
    """Records had n_across and n_within of every candidate, of whatever model."""
    asked = scripted(lambda one: float(one.n_across))
    ask = {"n_across": (1, 2), "n_folds": 2, "progress": False, "out": tmp_path}
    mrgp.cross_validate(FA(), recording(), **ask)
    kept = json.loads((tmp_path / "tasks.json").read_text())
    assert {"n_across", "n_within"}.isdisjoint(kept["settings"]["model"])
    kept["tasks"] = [
        {"n_across": 1, "n_within": [0], "fold": fold, "scores": [7.0] * 4} | TOLD for fold in (0, 1)
    ]  # fmt: skip
    (tmp_path / "tasks.json").write_text(json.dumps(kept))
    asked.clear()
    found = mrgp.cross_validate(FA(), recording(), **ask)
    assert [(name, fold) for _, name, fold in asked] == [("2", 0), ("2", 1)]
    assert found.best == Candidate(1, (0,))
    assert float(found.table["mean"][0]) == 7.0


def test_scores_of_settings_by_their_short_names_are_of_no_other_candidates(scripted, tmp_path):
    scripted(lambda one: 0.0)
    ask = {"n_across": (1,), "n_folds": 2, "progress": False}
    short = {"tried": {"max_delay": [0.04, 0.06]}}
    for number, (first, then) in enumerate([(short, {}), ({}, short)]):
        mrgp.cross_validate(DLAG(1, 1), recording(), **ask, **first, out=tmp_path / str(number))
        with pytest.raises(ValueError, match=r"is of other settings \(tried\): choose another folder"):
            mrgp.cross_validate(DLAG(1, 1), recording(), **ask, **then, out=tmp_path / str(number))


# --- one long trial


def test_one_long_trial_is_cut_into_blocks_for_folds(scripted):
    asked = scripted(lambda one: 0.0)
    data = recording(1, 80)
    found = mrgp.cross_validate(FA(), data, (1,), n_folds=2, block=0.2, progress=False)
    assert asked[0][0].data.fingerprint == in_blocks(data, 0.2).fingerprint
    assert np.bincount(found.table["fold"]).tolist() == [4, 4]
    assert found.data.fingerprint == data.fingerprint   # which the chosen model is fitted to
    assert "nats per held-out block; " in found.report()
    assert found.account().facts["blocks of trials"] == "8"
    assert found.account().facts["score of held-out trials"] == "log p"


def test_neurons_that_are_dead_in_blocks_are_left_out_of_the_whole(scripted):
    scripted(lambda one: 0.0)
    values = np.random.default_rng(0).normal(size=(1, 40, 4))
    values[0, :, 2] = 0.0
    values[0, 3, 2] = 1.0   # changes in one block alone
    data = mrgp.MultiRegionData({"A": values}, 0.1)
    with pytest.warns(UserWarning, match="left out as dead: region A, neuron 2"):
        found = mrgp.cross_validate(FA(), data, (1,), n_folds=2, block=1.0, drop_dead=True, progress=False)
    np.testing.assert_array_equal(found.data.values, values[:, :, [0, 1, 3]])


# --- real fits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tried"),
    [
        (CoupledLDS(1), {"absent": EDGES[:2]}),
        (SwitchingLDS(2, 1, recurrent=False), {"n_states": [1]}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_scores_are_those_of_fits_by_hand(model, tried):
    whole, brief = recording(2, 120), {"n_starts": 1, "progress": False, "tolerance": 1.0}
    found = mrgp.cross_validate(model, whole, tried=tried, n_folds=2, block=0.8, **brief)
    data, folds = in_blocks(whole, 0.8), found.table["fold"].values
    for row, one in enumerate(found.candidates):
        fit = one.of(model).fit(data.select_trials(folds != 0), seed=0, **brief)
        expected = fit.log_likelihood(data.select_trials(folds == 0))
        np.testing.assert_allclose(found.table["trial_score"][row, folds == 0], expected, rtol=1e-8)
