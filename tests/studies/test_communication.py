"""Who talks to whom: trainings put together, and a study of a small ring."""

import json

import numpy as np
import pandas as pd
import pytest
from mrgp.models import LFADS, MRLFADS
from scipy import stats

import mrgp
from mrgp.cli.main import main
from mrgp.recordings.layout import Layout
from mrgp.runtime.account import State
from mrgp.studies import plot_communication
from mrgp.studies.communication import assess
from mrgp.studies.communication.result import gathered

LAYOUT = Layout(("A", "B", "C"), (4, 2, 3), 0.02)
#                B to A  C to A  A to B  C to B  A to C  B to C: sorted by target
EFFECTS = [[0.02, 0.05, 0.50, 0.30, 0.04, 0.40], [0.06, 0.04, 0.60, 0.10, 0.05, 0.30]]


def records(failures=("", "")):
    of_recording = [
        {"is_control": False, "seed": seed, "effect": own, "delay": [0.01 + 0.01 * seed] * 6, "sd": [0.002] * 6,
         "longest": 0.1, "bound": -10.0, "epochs": 5, "converged": True, "seconds": 1.0, "failure": failures[seed]}
        for seed, own in enumerate(EFFECTS)
    ]  # fmt: skip
    return [*of_recording, {**of_recording[0], "is_control": True, "effect": [0.01] * 5 + [0.06], "failure": ""}]


def test_edges_are_those_that_no_control_has():
    found = gathered(LAYOUT, records(), {})
    edges = found.edges
    assert edges.sizes["edge"] == 6
    np.testing.assert_allclose(edges["effect"], np.mean(EFFECTS, 0))
    np.testing.assert_allclose(edges["effect_sd"], np.std(EFFECTS, 0, ddof=1))
    # 0.12 is twice the largest of all controls; C to B is below it once
    assert edges["outcome"].values.tolist() == ["as in a control"] * 2 + ["stands out"] + ["as in a control"] * 2 + [
        "stands out"
    ]
    effectome = found.effectome()
    assert float(effectome["mean"].sel(source="A", target="B")) == pytest.approx(0.55)
    assert float(effectome["control"].sel(source="B", target="C")) == 0.06
    assert float(effectome["mean"].sel(source="A", target="A")) == 0.0
    words = found.verdict
    assert words.startswith("In all 2 trainings what A does tells what B will do, beyond its own past: messages move")
    assert "0.5 to 0.6 a bin (in controls no edge by more than 0.06)" in words
    assert "There is one control" in words
    assert "stimulus, course of the trial and chance of training: B to A, C to A, C to B, A to C." in words
    assert "None of this excludes an input that both regions get" in words
    assert "stands out" in str(found)
    assert [ax.get_xlabel() for ax in plot_communication(found).axes] == [
        "change of the target in a bin", "delay beyond one bin (ms)",
    ]  # fmt: skip


def test_delays_are_not_told_where_messages_take_one_bin():
    late, at_once = records(), [{**own, "delay": [0.0] * 6, "sd": [0.0] * 6, "longest": 0.0} for own in records()]
    assert "15.0 ms [" in gathered(LAYOUT, late, {}).verdict
    found = gathered(LAYOUT, at_once, {})
    assert "ms" not in found.verdict
    assert len(plot_communication(found).axes) == 1
    none = records()
    none[2]["effect"] = [0.3] * 6
    assert len(plot_communication(gathered(LAYOUT, none, {})).axes) == 1  # no edge stands out whose delay were shown


def test_nothing_is_claimed_where_controls_show_as_much():
    with_control = records()
    with_control[2]["effect"] = [0.3] * 6
    found = gathered(LAYOUT, with_control, {})
    assert found.verdict.startswith("No edge stands out from the controls: nothing here speaks for communication.")
    assert "None of this excludes" not in found.verdict


def test_edges_that_are_faint_are_said_to_be():
    quiet = records()
    quiet[2]["effect"] = [0.0] * 6
    found = gathered(LAYOUT, quiet, {})
    # a tenth of the strongest, 0.55, is 0.055
    assert found.edges["outcome"].values.tolist() == ["faint"] * 2 + ["stands out"] * 2 + ["faint", "stands out"]
    assert "Faint beside the strongest, and not to be relied on: B to A, C to A, A to C." in found.verdict


def test_delays_have_the_spread_between_trainings_too():
    edges = gathered(LAYOUT, records(), {}).edges
    within, between = 0.002**2, 1.5 * np.var([0.01, 0.02], ddof=1)
    freedom = (1 + within / between) ** 2
    half = stats.t.ppf(0.95, freedom) * np.sqrt(within + between)
    np.testing.assert_allclose(edges["delay"], 0.015)
    np.testing.assert_allclose(edges["delay_lower"], max(0.015 - half, 0.0))
    np.testing.assert_allclose(edges["delay_upper"], 0.015 + half)
    one = gathered(LAYOUT, records(("", "it broke")), {}).edges
    np.testing.assert_allclose(one["delay_upper"] - one["delay"], 0.002 * stats.norm.ppf(0.95))
    assert np.isnan(one["effect_sd"]).all()


def test_the_report_says_what_controls_hold():
    """Conditions of 3, 2 and 1 trials: the last one is not shuffled."""
    rng = np.random.default_rng(0)
    values = {name: rng.poisson(1.0, (6, 9, 3)) for name in "AB"}
    held = {}
    for kinds in ("aaabbc", "aaabbb", None):
        coords = {} if kinds is None else {"condition": [*kinds]}
        data = mrgp.MultiRegionData(values, 0.02, trial_coords=coords)
        held[kinds] = assess.Job(MRLFADS(), data, 4 if kinds else None, {}).described()
    assert [(own["conditions"], own["alone"]) for own in held.values()] == [(3, 1), (2, 0), (1, 0)]
    found = {kinds: {light.name: light for light in gathered(LAYOUT, records(), own).account().lights}
             for kinds, own in held.items()}  # fmt: skip
    stimuli, drift = ([lights[f"{name} in controls"] for lights in found.values()] for name in ("Stimuli", "Drift"))
    assert [light.state for light in stimuli] == [State.LOOK, State.GOOD, State.LOOK]
    assert [light.number for light in stimuli] == ["3 conditions, 1 of one trial", "2 conditions", "1 condition"]
    assert "join conditions" in stimuli[0].sentence
    assert "give trials their condition" in stimuli[2].sentence
    assert [light.state for light in drift] == [State.GOOD, State.GOOD, State.LOOK]
    assert "Bounds of trainings" in found["aaabbc"]
    for bound, state, number in ((-9.0, State.GOOD, "0.2"), (-22.0, State.LOOK, "2.0"), (-70.0, State.BAD, "10.0")):
        other = records()
        other[1]["bound"], other[2]["bound"] = bound, -999.0  # that of a control does not count
        lights = gathered(LAYOUT, other, held["aaabbc"]).account().lights
        [light] = [light for light in lights if light.name == "Bounds of trainings"]
        assert (light.state, light.number) == (state, f"{number} nats per trial apart")
    assert drift[0].number == "among 4 trials"
    assert "--among 4" in drift[2].sentence


def test_studies_without_a_result_are_refused():
    with pytest.raises(ValueError, match="no training on the recording succeeded: it broke"):
        gathered(LAYOUT, records(("it broke", "it broke")), {})
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({name: rng.poisson(1.0, (6, 9, 3)) for name in "AB"}, 0.02)
    with pytest.raises(ValueError, match="regions of LFADS send no messages"):
        mrgp.assess_communication(LFADS(), data)
    with pytest.raises(ValueError, match="n_controls counts at least 1, not 0"):
        mrgp.assess_communication(MRLFADS(), data, n_controls=0)
    for among in (0, 1):
        with pytest.raises(ValueError, match=f"among counts at least 2, not {among}"):
            mrgp.assess_communication(MRLFADS(), data, among=among)
    labels = {"condition": [*"abcdef"]}
    own = mrgp.MultiRegionData({name: data.region(name) for name in "AB"}, 0.02, trial_coords=labels)
    with pytest.raises(mrgp.DataError, match="no condition has two trials"):
        mrgp.assess_communication(MRLFADS(), own)
    with pytest.raises(ValueError, match="the recording has one region"):
        mrgp.assess_communication(MRLFADS(), mrgp.MultiRegionData({"A": data.region("A")}, 0.02))


def test_the_command_writes_what_was_found(tmp_path, monkeypatch, capsys):
    """Trainings are those of the records above, so that only what is asked for and written is tested."""
    asked = []

    def trained(job, task):
        asked.append((job.model, job.among, task))
        return {**records()[2 * task.is_control or task.seed], **task._asdict()}

    monkeypatch.setattr(assess, "trained", trained)
    rng = np.random.default_rng(0)
    sizes = zip("ABC", (4, 2, 3), strict=True)
    data = mrgp.MultiRegionData({name: rng.poisson(1.0, (6, 9, n)) for name, n in sizes}, 0.02)
    mrgp.save_recording(data, tmp_path / "recording.nc")
    command = ["communication", str(tmp_path / "recording.nc"), "--model", "mrlfads", "--n-factors", "3"]
    command += ["--seeds", "2", "--controls", "1", "--among", "3", "--max-iterations", "90"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert [task for *_, task in asked] == [(False, 0), (False, 1), (True, 0)]
    assert asked[0][0] == MRLFADS(n_factors=3)
    assert asked[0][1] == 3
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["verdict"] in capsys.readouterr().out.replace("\n", " ")
    assert summary["edges"][2]["effect"] == 0.55
    table = pd.read_csv(tmp_path / "out" / "edges.csv")
    assert table["outcome"].tolist()[2] == "stands out"
    assert (tmp_path / "out" / "communication.png").stat().st_size > 1000
    assert main(command) == 0  # all is known
    assert len(asked) == 3
    assert main(["communication", "file.nc", "--model", "lfads", "--n-factors", "3", "--out", "out"]) == 2
    assert "regions of lfads send no messages: take --model mrlfads" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    ring = mrgp.memory_ring(n_units=12, n_inputs=1, n_trials=40, n_bins=16, noise=0.05, seed=1)
    model = MRLFADS(4, 8, 1, 1, 4, emission="gaussian", width=8)
    settings = {"max_iterations": 60, "warm_up": 2, "learning_rate": 0.01, "batch_size": 8, "hidden_share": 0}
    settings |= {"progress": False, "n_seeds": 2, "n_controls": 1, "out": tmp_path}
    whole = mrgp.assess_communication(model, ring.data, **settings)
    file = tmp_path / "fits.json"
    kept = json.loads(file.read_text())
    assert len(kept["fits"]) == 3
    kept["fits"] = kept["fits"][:1]
    file.write_text(json.dumps(kept))
    again = mrgp.assess_communication(model, ring.data, **settings)
    np.testing.assert_allclose(again.edges["effect"], whole.edges["effect"], rtol=1e-5)
    assert (again.edges["delay_lower"] <= again.edges["delay_upper"]).all()
    with pytest.raises(ValueError, match="is of other settings"):
        mrgp.assess_communication(model.replace(width=9), ring.data, **settings)


def test_trainings_that_have_not_learned_speak_neither_for_nor_against():
    """Of two trainings and one control, with nine neurons; a nat each is what a training has to gain."""
    loud = records()
    loud[2]["effect"] = [0.3] * 6
    inconclusive = "No edge stands out from the controls, and nothing can be concluded from that: "
    early = "of 2 trainings ended before they came to rest, raise max_iterations"
    flat = "of 2 trainings came to rest no"
    for changed, said in (
        ({0: {"converged": False}}, f"{inconclusive}1 {early}."),
        ({0: {"converged": False}, 1: {"converged": False, "gain": 0.0}}, f"{inconclusive}2 {early}."),
        ({1: {"gain": 9.0}}, f"{inconclusive}1 {flat} better than each neuron's own mean"),
        ({0: {"converged": False}, 1: {"gain": -1.0}}, f"{inconclusive}1 {early}; 1 {flat} better"),
        ({1: {"gain": 9.1}}, "No edge stands out from the controls: nothing here speaks for communication."),
        ({2: {"converged": False}}, "No edge stands out from the controls: nothing here speaks for communication."),
    ):
        found = gathered(LAYOUT, [own | changed.get(place, {}) for place, own in enumerate(loud)], {})
        assert found.verdict.startswith(said)
        assert found.fits["learned"].tolist() == [
            not own or own.get("gain", 0) > 9 for own in map(changed.get, range(3))
        ]  # fmt: skip
        [light] = [light for light in found.account().lights if light.name == "Trainings have learned"]
        assert (light.state, light.number) == (State.BAD, f"{3 - len(changed)} of 3") or changed == {1: {"gain": 9.1}}
    assert light.state is State.BAD
    quiet = records()
    quiet[2] |= {"converged": False}
    found = gathered(LAYOUT, quiet, {})
    assert "stand out only because controls have not learned what they could: 1 of 1 trainings" in found.verdict
    assert "may stand out only" not in gathered(LAYOUT, records(), {}).verdict
