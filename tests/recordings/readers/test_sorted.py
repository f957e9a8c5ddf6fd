"""Folders of ALF and of Phy that tests write, against counts of their spikes by hand; and the choice of units."""

import importlib.util
import sys

import numpy as np
import pytest

import mrgp
from mrgp import DataError, from_spike_times, load_recording
from mrgp.cli.main import main
from mrgp.cli.shared import said
from mrgp.recordings.unit_choice import UnitChoice, without_layer

pytestmark = pytest.mark.filterwarnings("ignore:a slash in the name of a region")

WIDTH = 0.1
RATE = 1000.0  # samples per second
START, STOP = np.array([1.0, 2.0, 3.5, 5.0]), np.array([1.8, 3.0, 4.5, 5.9])
CUE = np.array([1.3, 2.3, np.nan, 5.4])
CHOICE = np.array([-1, 1, 1, -1])
ACRONYMS = ("VISp2/3", "VISp5", "CA1", "VISp5", "void", "CA1", "CA3")  # of clusters; 2 of them are without spikes
SPIKING = (0, 1, 2, 4, 6)
LABEL = (1.0, 0.5, 1.0, 1.0, 1.0, 0.0, 1.0)
NUMBERS = {"VISp2/3": 821, "VISp5": 778, "CA1": 382, "CA3": 463, "void": 0}


def spikes(seed=0):
    """Cluster -> whole milliseconds, in seconds, sorted."""
    rng = np.random.default_rng(seed)
    return {cluster: np.sort(rng.choice(6500, 120, replace=False)) / RATE for cluster in SPIKING}


def flat(trains, seed=1):
    """Times and clusters of all spikes, in no order."""
    times = np.concatenate(list(trains.values()))
    clusters = np.repeat(list(trains), [train.size for train in trains.values()]).astype(np.uint32)
    order = np.random.default_rng(seed).permutation(times.size)
    return times[order], clusters[order]


def expected(areas, trains=None, **changed):
    trains = spikes() if trains is None else trains
    arguments = {"start": START, "stop": STOP} | changed
    return from_spike_times({label: trains[label] for label in areas}, areas, WIDTH, **arguments)


def assert_same(a, b):
    assert a.layout.same_neurons(b.layout)
    for name in a.layout.regions:
        np.testing.assert_array_equal(a.region(name), b.region(name))
        np.testing.assert_array_equal(a.neuron_coords[name], b.neuron_coords[name])


def sentences(caught):
    return [str(warning.message) for warning in caught]


def write_probe(folder, *, trains=None, acronyms=ACRONYMS, where="channels", space=""):
    """Spikes of one sorting; ``where`` its regions are: clusters, channels, or numbers of channels."""
    folder.mkdir(parents=True, exist_ok=True)
    times, clusters = flat(spikes() if trains is None else trains)
    np.save(folder / f"{space}spikes.times.npy", times[:, None])
    np.save(folder / f"{space}spikes.clusters.npy", clusters)
    np.save(folder / "clusters.channels.npy", np.arange(len(acronyms))[::-1])
    np.save(folder / "clusters.label.npy", np.array(LABEL))
    if where == "clusters":
        np.save(folder / "clusters.acronym.npy", np.array(acronyms))
    elif where == "channels":
        np.save(folder / "channels.acronym.npy", np.array(acronyms)[::-1])
    else:
        numbers = np.array([NUMBERS[name] for name in acronyms[::-1]])
        np.save(folder / "channels.brainLocationIds_ccf_2017.npy", numbers)
    return folder


def write_trials(folder, space="_ibl_"):
    np.save(folder / f"{space}trials.intervals.npy", np.stack([START, STOP], 1))
    np.save(folder / f"{space}trials.stimOn_times.npy", CUE)
    np.save(folder / f"{space}trials.choice.npy", CHOICE)
    return folder


AREAS = {0: "VISp2_3", 1: "VISp5", 2: "CA1", 6: "CA3"}


@pytest.fixture
def session(tmp_path):
    """A session of one probe, whose trials have a namespace."""
    write_probe(tmp_path / "001" / "alf" / "probe00" / "pykilosort")
    write_trials(tmp_path / "001" / "alf")
    return tmp_path / "001"


# --- ALF


def test_a_session_of_one_probe(session):
    with pytest.warns(UserWarning, match="left out") as caught:
        data = load_recording(session, bin_width=WIDTH)
    assert_same(data, expected(AREAS))
    assert data.trial_coords["choice"].tolist() == CHOICE.tolist()
    assert data.trial_coords.keys() == {"choice", "stimOn_times"}
    assert sentences(caught) == [
        "left out 2 clusters of pykilosort without spikes",
        "a slash in the name of a region becomes _, since files cannot hold it: VISp2/3",
        "left out 1 of 5 units without a region",
    ]
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.filterwarnings("ignore")
def test_a_column_of_the_trials_is_their_condition(session):
    np.save(session / "alf" / "_ibl_trials.contrastLeft.npy", np.array([0.25, np.nan, 1.0, 0.25]))
    data = load_recording(session, bin_width=WIDTH, condition_of_trial="contrastLeft")
    assert [data.layout.conditions[kind] for kind in data.condition] == ["0.25", "none", "1", "0.25"]
    assert data.trial_coords["contrastLeft"][2] == 1.0
    assert load_recording(session, bin_width=WIDTH).layout.conditions == ()
    with pytest.raises(DataError, match=r"the trials of 001 have no column 'side': choose from .*contrastLeft"):
        load_recording(session, bin_width=WIDTH, condition_of_trial="side")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("below", ["", "alf", "alf/probe00", "alf/probe00/pykilosort"])
def test_any_folder_of_a_session_can_be_given(session, below):
    assert_same(load_recording(session / below, bin_width=WIDTH), expected(AREAS))


@pytest.mark.filterwarnings("ignore")
def test_regions_by_clusters_or_by_numbers_of_channels(tmp_path):
    write_trials(write_probe(tmp_path / "a", where="clusters", space="_lab_"), space="")
    assert_same(load_recording(tmp_path / "a", bin_width=WIDTH), expected(AREAS))
    write_trials(write_probe(tmp_path / "b", where="numbers"))
    numbered = load_recording(tmp_path / "b", bin_width=WIDTH, region_map={"VISp": (821, 778), "CA1": 382})
    assert numbered.layout.regions == ("VISp", "CA1", "463")
    assert numbered.layout.n_neurons == (2, 1, 1)
    named = load_recording(tmp_path / "b", bin_width=WIDTH, region_of_unit={0: "A", 4: "B"})
    assert_same(named, expected({0: "A", 4: "B"}))


def test_trials_around_an_event_that_one_has_not(session):
    event = {"align": "stimOn_times", "window": (-0.2, 0.3)}
    with pytest.warns(UserWarning, match="left out") as caught:
        data = load_recording(session, bin_width=WIDTH, **event, regions=["CA1", "CA3"])
    present = [0, 1, 3]
    areas = {2: "CA1", 6: "CA3"}
    timing = {"start": None, "stop": None, "align": CUE[present], "window": (-0.2, 0.3)}
    assert_same(data, expected(areas, **timing, regions=["CA1", "CA3"]))
    assert "left out 1 trials without a time in stimOn_times" in sentences(caught)
    assert data.trial_coords["choice"].tolist() == CHOICE[present].tolist()


@pytest.mark.filterwarnings("ignore")
def test_two_probes(session):
    other = spikes(seed=7)
    write_probe(session / "alf" / "probe01", trains=other)
    data = load_recording(session, bin_width=WIDTH, regions=["CA1"])
    both = {"probe00:2": spikes()[2], "probe01:2": other[2]}
    assert_same(data, expected(dict.fromkeys(both, "CA1"), both))
    assert_same(load_recording(session, bin_width=WIDTH, probes=["probe01"]), expected(AREAS, other))
    with pytest.raises(DataError, match="alf has no probe 'probe02': choose by probes= from probe00/py"):
        load_recording(session, bin_width=WIDTH, probes=["probe02"])


@pytest.mark.filterwarnings("ignore")
def test_several_sortings_of_a_probe(session):
    write_probe(session / "alf" / "probe00", trains=spikes(seed=3))
    with pytest.raises(DataError, match="several sortings of a probe: choose by probes= from probe00, probe00/py"):
        load_recording(session, bin_width=WIDTH)
    with pytest.raises(DataError, match="several sortings of a probe: choose by probes="):
        load_recording(session / "alf" / "probe00", bin_width=WIDTH)
    data = load_recording(session, bin_width=WIDTH, probes=["probe00"])
    assert_same(data, expected(AREAS, spikes(seed=3)))


@pytest.mark.filterwarnings("ignore")
def test_the_newest_revision_is_read(session):
    folder = session / "alf" / "probe00" / "pykilosort"
    for day, seed in (("#2020-01-01#", 4), ("#2024-05-06#", 5)):
        (folder / day).mkdir()
        times, clusters = flat(spikes(seed))
        np.save(folder / day / "spikes.times.npy", times)
        np.save(folder / day / "spikes.clusters.npy", clusters)
    assert_same(load_recording(session, bin_width=WIDTH), expected(AREAS, spikes(5)))
    for name in ("spikes.times.npy", "spikes.clusters.npy"):
        (folder / name).unlink()  # it may be in revisions only
    assert_same(load_recording(session, bin_width=WIDTH), expected(AREAS, spikes(5)))


@pytest.mark.filterwarnings("ignore")
def test_tables_of_text_and_of_parquet(session, monkeypatch):
    folder = session / "alf" / "probe00" / "pykilosort"
    (folder / "clusters.metrics.pqt").write_bytes(b"PAR1")
    labelled = load_recording(session, bin_width=WIDTH, units={"label": 1})
    assert_same(labelled, expected({0: "VISp2_3", 2: "CA1", 6: "CA3"}))
    mend = r"reading clusters.metrics.pqt needs pyarrow.parquet, .*: pip install pyarrow, or mrgp .*parquet"
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=mend):
        load_recording(session, bin_width=WIDTH, units={"firing": 2})
    rows = [f"{cluster},{'high' if cluster % 2 else 'low'}," for cluster in reversed(range(7))]
    (folder / "clusters.metrics.csv").write_text("\n".join(["cluster_id,rate,noise", *rows]))
    assert_same(load_recording(session, bin_width=WIDTH, units={"rate": "high"}), expected({1: "VISp5"}))

    (session / "alf" / "_ibl_trials.intervals.npy").unlink()
    (session / "alf" / "_ibl_trials.table.pqt").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"reading _ibl_trials.table.pqt needs pyarrow"):
        load_recording(session, bin_width=WIDTH)
    rows = [f"{start},{stop}" for start, stop in zip(START, STOP, strict=True)]
    (session / "alf" / "_ibl_trials.table.csv").write_text("\n".join(["intervals_0,intervals_1", *rows]))
    assert_same(load_recording(session, bin_width=WIDTH), expected(AREAS))


@pytest.mark.filterwarnings("ignore")
def test_a_session_as_it_is_downloaded(tmp_path):
    """Names have a UUID, tables are parquet, regions are numbers of the atlas, negative in the left hemisphere."""
    parquet, pandas = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pandas")
    import pyarrow

    alf = tmp_path / "001" / "alf"
    folder = write_probe(alf / "probe00" / "pykilosort", where="numbers")
    numbers = np.load(folder / "channels.brainLocationIds_ccf_2017.npy") * np.array([-1, 1, -1, 1, 1, -1, 1])
    np.save(folder / "channels.brainLocationIds_ccf_2017.npy", numbers)
    for number, file in enumerate(sorted(folder.glob("*.npy"))):
        name, _, suffix = file.name.rpartition(".")
        file.rename(folder / f"{name}.12345678-1234-4abc-8def-{number:012d}.{suffix}")
    metrics = pandas.DataFrame({"cluster_id": np.arange(7)[::-1], "firing": list("hhllhlh"), "uuids": list("abcdefg")})
    parquet.write_table(pyarrow.Table.from_pandas(metrics), folder / "clusters.metrics.pqt")
    trials = pandas.DataFrame({"intervals_0": START, "intervals_1": STOP, "stimOn_times": CUE, "choice": CHOICE,
                               "side": ["l", None, "r", "l"]})  # fmt: skip
    name = "_ibl_trials.table.89abcdef-0000-4000-8000-123456789abc.pqt"
    parquet.write_table(pyarrow.Table.from_pandas(trials), alf / name)
    data = load_recording(tmp_path / "001", bin_width=WIDTH)
    assert_same(data, expected({0: "821", 1: "778", 2: "382", 6: "463"}))
    assert data.trial_coords["choice"].tolist() == CHOICE.tolist()
    assert data.trial_coords["side"].tolist() == ["l", "", "r", "l"]
    atlas = {number: name for name, number in NUMBERS.items()}
    (tmp_path / "tree.csv").write_text("id,name,acronym\n" + "\n".join(f"{n},x,{a}" for n, a in atlas.items()))
    for given in (atlas, str(tmp_path / "tree.csv")):
        assert_same(load_recording(tmp_path / "001", bin_width=WIDTH, atlas=given), expected(AREAS))
    high = load_recording(tmp_path / "001", bin_width=WIDTH, atlas=atlas, units={"firing": "h"})
    assert high.neuron_coords.keys() == {"VISp2_3", "CA1", "CA3"}  # of 0 and 2, and 6
    with pytest.raises(DataError, match="the atlas has no acronym for region 382: add it, or leave the atlas out"):
        load_recording(tmp_path / "001", bin_width=WIDTH, atlas={821: "VISp2/3", 778: "VISp5"})
    (tmp_path / "tree.csv").write_text("id,name\n1,x")
    with pytest.raises(DataError, match=r"tree.csv is no table with columns id, a number, and acronym"):
        load_recording(tmp_path / "001", bin_width=WIDTH, atlas=str(tmp_path / "tree.csv"))
    with pytest.raises(DataError, match=r"there is no table .*absent.csv of an atlas: check its name"):
        load_recording(tmp_path / "001", bin_width=WIDTH, atlas=str(tmp_path / "absent.csv"))


@pytest.mark.filterwarnings("ignore")
def test_acronyms_of_clusters_come_before_numbers_of_channels(tmp_path):
    folder = write_trials(write_probe(tmp_path / "a", where="numbers"))
    np.save(folder / "clusters.brainLocationAcronyms_ccf_2017.npy", np.array(ACRONYMS))
    assert_same(load_recording(folder, bin_width=WIDTH), expected(AREAS))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("spikes.clusters", None, {}, "pykilosort has no spikes.clusters.npy: download it beside spikes.times.npy"),
        ("spikes.clusters", np.zeros(3, int), {}, r"spikes of pykilosort have times \(600,\) and clusters \(3,\)"),
        ("clusters.channels", None, {}, "does not say where its units are: add clusters.channels.npy, or"),
        ("channels.acronym", None, {}, "add channels.brainLocationIds_ccf_2017.npy, or clusters.acronym.npy, or pass"),
        ("channels.acronym", np.array(["a", None]), {}, "channels.acronym.npy is a pickled object, which could"),
        ("channels.acronym", np.array(["a"]), {}, "channels.acronym.npy has 1 entries, and none for number"),
        ("channels.acronym", np.full(7, "void"), {}, "no unit of 001 has a region: pass region_of_unit="),
        ("_ibl_spikes.times", np.zeros(3), {}, "has both _ibl_spikes.times.npy and spikes.times.npy: take one of them"),
        ("spikes.times", np.full(600, np.nan), {}, "pykilosort holds no spikes"),
        ("../../_ibl_trials.choice", np.ones(9), {}, "trials.* has 4 trials but trials.choice has 9: get both again"),
        ("../../_ibl_trials.intervals", None, {}, "the table 'trials' has no column 'start_time' of times"),
        ("x.y", None, {"align": "stimOn_times"}, "align='stimOn_times' needs a window in seconds around it"),
        ("x.y", None, {"align": "go", "window": (0, 1)}, "no column 'go' of times: choose from .*stimOn_times"),
        ("x.y", None, {"units": {"quality": 1}}, "the units of 001 have no column 'quality': there is channels, label"),
        ("x.y", None, {"units": {"label": 0.7}}, r"no unit of 001 is left with label 0.7: its values are 1 \(4\), 0.5"),
        ("x.y", None, {"regions": ["V9"]}, "no unit is in a region 'V9': choose from VISp2_3, VISp5, CA1, CA3$"),
        ("x.y", None, {"regions": ["CA1", "V9"]}, "no unit is in a region 'V9': choose from VISp2_3, VISp5, CA1, CA3$"),
        ("x.y", None, {"regions": ["VISp"]}, "VISp5, CA1, CA3, or join the layers of VISp by merge_layers=True"),
        ("x.y", None, {"min_neurons": 3}, "no region of 001 has 3 units, the most are 1: lower min_neurons"),
        ("x.y", None, {"trials": "go.csv"}, "there is no table go.csv of trials, in alf or by its path"),
        ("x.y", None, {"sample_rate": 1.0}, "sample_rate is for Phy files, not 001: leave it out"),
    ],
)  # fmt: skip
def test_folders_of_alf_that_cannot_be_read(session, name, content, options, message):
    file = session / "alf" / "probe00" / "pykilosort" / f"{name}.npy"
    file.unlink(missing_ok=True)
    if content is not None:
        np.save(file, content, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        load_recording(session, bin_width=WIDTH, **options)
    assert "\n" not in str(caught.value)


def test_spikes_without_a_time_are_counted(tmp_path):
    folder = write_trials(write_probe(tmp_path / "a"))
    times, clusters = flat(spikes())
    np.save(folder / "spikes.times.npy", np.append(times, [np.nan, np.nan]))
    np.save(folder / "spikes.clusters.npy", np.append(clusters, [0, 1]))
    with pytest.warns(UserWarning, match="left out") as caught:
        assert_same(load_recording(folder, bin_width=WIDTH), expected(AREAS))
    assert "left out 2 of 602 spikes of a without a time" in sentences(caught)


# --- Phy


def write_phy(folder, *, params="sample_rate = 1000.\nimport nothing_that_is_there\n"):
    folder.mkdir(exist_ok=True)
    times, clusters = flat(spikes())
    np.save(folder / "spike_times.npy", np.round(times * RATE).astype(np.uint64)[:, None])
    np.save(folder / "spike_clusters.npy", clusters.astype(np.int32))
    (folder / "params.py").write_text(params)
    groups = ["good", "mua", "good", "good", "noise", "good", "good"]
    rows = [f"{cluster}\t{group}" for cluster, group in enumerate(groups)]
    (folder / "cluster_group.tsv").write_text("\n".join(["cluster_id\tgroup", *rows]))
    rows = [f"{cluster}\t{area if area != 'void' else ''}\tgood\t7" for cluster, area in enumerate(ACRONYMS)]
    (folder / "cluster_info.tsv").write_text("\n".join(["cluster_id\tregion\tgroup\tdepth", *rows]))
    rows = [f"{a},{b},{cue},s{choice}" for a, b, cue, choice in zip(START, STOP, CUE, CHOICE, strict=True)]
    (folder / "trials.csv").write_text("\n".join(["start_time,stop_time,cue,choice", *rows]))
    return folder


@pytest.mark.filterwarnings("ignore")
def test_phy(tmp_path):
    folder = write_phy(tmp_path / "sorted")
    data = load_recording(folder, bin_width=WIDTH)
    assert_same(data, expected(AREAS))
    assert data.trial_coords["choice"].tolist() == ["s-1", "s1", "s1", "s-1"]
    good = load_recording(folder, bin_width=WIDTH, units={"group": "good", "depth": 7})  # not as cluster_info has it
    assert_same(good, expected({0: "VISp2_3", 2: "CA1", 6: "CA3"}))
    (folder / "trials.csv").unlink()
    trials = {"go": CUE, "side": list("abcd")}
    around = load_recording(folder, bin_width=WIDTH, trials=trials, align="go", window=(0, 0.4), regions=["CA3"])
    assert_same(around, expected({6: "CA3"}, start=None, stop=None, align=CUE[[0, 1, 3]], window=(0, 0.4)))
    assert around.trial_coords["side"].tolist() == ["a", "b", "d"]
    with pytest.raises(DataError, match=r"sorted has no trials: put trials.csv there, .* or pass trials="):
        load_recording(folder, bin_width=WIDTH)


@pytest.mark.filterwarnings("ignore")
def test_phy_says_what_is_missing(tmp_path):
    folder = write_phy(tmp_path / "sorted")
    (folder / "cluster_info.tsv").unlink()
    with pytest.raises(DataError, match="does not say where its units are: there is group; pass region_of_unit="):
        load_recording(folder, bin_width=WIDTH)
    assert_same(load_recording(folder, bin_width=WIDTH, region_of_unit=AREAS), expected(AREAS))
    for params in ("rate = 3", "sample_rate = __import__('os')", "sample_rate = 1.2.3"):
        (folder / "params.py").write_text(params)
        with pytest.raises(DataError, match="no line such as sample_rate = 30000: pass sample_rate=30000"):
            load_recording(folder, bin_width=WIDTH, region_of_unit=AREAS)
    (folder / "params.py").unlink()
    with pytest.raises(DataError, match=r"sorted has no params.py, which says the sample rate: pass sample_rate=30000"):
        load_recording(folder, bin_width=WIDTH, region_of_unit=AREAS)
    told = load_recording(folder, bin_width=WIDTH, region_of_unit=AREAS, sample_rate=RATE)
    assert_same(told, expected(AREAS))
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n1\n")
    with pytest.raises(DataError, match=r"row 1 of cluster_group.tsv has not the 2 values of its header"):
        load_recording(folder, bin_width=WIDTH, sample_rate=RATE)
    np.save(folder / "spike_times.npy", np.array([0.5, 1.5]))
    with pytest.raises(DataError, match=r"spike_times.npy of sorted holds fractions: give samples"):
        load_recording(folder, bin_width=WIDTH)
    (folder / "spike_clusters.npy").unlink()
    with pytest.raises(DataError, match=r"sorted has no spike_clusters.npy: give the folder that Kilosort"):
        load_recording(folder, bin_width=WIDTH)


# --- which reader


def test_folders_that_are_no_recording(tmp_path):
    (tmp_path / "empty").mkdir()
    told = "empty is a folder: give the file of one recording, or a folder of Phy .which holds spike_times.npy. or ALF"
    with pytest.raises(DataError, match=told):
        load_recording(tmp_path / "empty", bin_width=WIDTH)
    with pytest.raises(DataError, match=r"there is no file or folder .*absent: check the path"):
        load_recording(tmp_path / "absent", bin_width=WIDTH)
    with pytest.raises(DataError, match="sorted holds spike times: pass bin_width"):
        load_recording(write_phy(tmp_path / "sorted"))
    with pytest.raises(DataError, match="probes"):
        load_recording({"V1": np.eye(3)[None]}, bin_width=WIDTH, probes=["probe00"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_the_command_line_fits_a_folder(session, tmp_path, capsys):
    brief = ["--model", "fa", "--n-across", "1", "--n-starts", "1", "--max-iterations", "2", "--no-figures", "--quiet"]
    units = ["--units", "label=1+0.5", "--region-map", "CA=CA1+CA3", "--merge-layers", "--min-neurons", "2"]
    fit = ["fit", str(session), "--out", str(tmp_path / "out"), *brief, *units]
    assert main([*fit, "--bin-width", "0.1"]) == 0
    assert "mrgp: note: left out 1 of 5 units without a region\n" in capsys.readouterr().err
    layout = mrgp.load_fit(tmp_path / "out" / "fit.nc").layout
    assert (layout.regions, layout.n_neurons) == (("VISp", "CA"), (2, 2))
    assert main(fit) == 2
    assert "001 holds spike times: give --bin-width SECONDS" in capsys.readouterr().err
    assert main([*fit, "--bin-width", "0.1", "--sample-rate", "3e4"]) == 2
    assert "--sample-rate is for Phy files: leave it out" in capsys.readouterr().err
    assert main([*fit, "--units", "label"]) == 2
    assert "'label' is not NAME=A+B,.." in capsys.readouterr().err


# --- the choice of units


def test_layers_are_of_areas_that_have_some():
    layers = ["VISp2/3", "VISp6a", "SSp-bfd4", "ENTl2/3", "ORBvl5", "MOs1", "PL6b"]
    assert list(map(without_layer, layers)) == ["VISp", "VISp", "SSp-bfd", "ENTl", "ORBvl", "MOs", "PL"]
    whole = ["CA1", "VISp", "P5", "V1", "LP", "ANcr1", "VISp7", "MA3", "PIR"]
    assert list(map(without_layer, whole)) == whole


def test_regions_are_renamed_and_small_ones_left_out():
    areas = ["VISp2/3", "VISp5", "CA1", "CA3", "LP", ""]
    choice = UnitChoice(region_map={"hippocampus": ["CA1", "CA3"]}, merge_layers=True, min_neurons=2)
    with pytest.warns(UserWarning, match=r"left out 1 regions of fewer than 2 units: LP \(1\)"):
        kept, named, names = choice.choose(areas, {}, "a")
    assert kept == list(range(6))
    assert named == ["VISp", "VISp", "hippocampus", "hippocampus", "LP", ""]
    assert [name for name in names if name] == ["VISp", "hippocampus"]
    with pytest.raises(DataError, match=r"region LP of a has 1 unit\(s\), fewer than min_neurons=2: leave it out"):
        UnitChoice(regions=["LP"], min_neurons=2).choose(areas, {}, "a")
    with pytest.raises(DataError, match="region_map has CA1 in X and in Y: choose one"):
        UnitChoice(region_map={"X": "CA1", "Y": ["CA1"]}).choose(areas, {}, "a")
    with pytest.warns(UserWarning, match="no unit of a is in CA9, which region_map calls X"):
        UnitChoice(region_map={"X": "CA9"}).choose(areas, {}, "a")


def test_a_slash_that_becomes_another_letter_is_told(capsys):
    areas = ["VISp2/3", "CA1"]
    for asked in (None, ["VISp2/3"]):
        with pytest.warns(UserWarning, match="a slash in the name of a region becomes _, .*: VISp2/3$"):
            assert UnitChoice(regions=asked).choose(areas, {}, "a")[1] == ["VISp2_3", "CA1"]
    for asked in (["VISp2_3"], ["CA1"]):  # as it is called here, or left out
        UnitChoice(regions=asked).choose(areas, {}, "a")
    with pytest.raises(DataError) as caught:
        UnitChoice(regions=["VISp"]).choose(areas, {}, "a")
    assert said(caught.value).endswith("choose from VISp2_3, CA1, or join the layers of VISp by --merge-layers")


def test_columns_are_compared_by_what_they_say():
    columns = {"label": [1.0, 0.5, np.nan, "1"], "kind": ["good", "mua", "", "good"]}
    for wanted in (1, 1.0, "1", "1.0", [1], ("1.0",)):
        assert UnitChoice(units={"label": wanted}).choose(list("abcd"), columns, "a")[0] == [0, 3]
    assert UnitChoice(units={"label": (0.5, 1), "kind": {"mua"}}).choose(list("abcd"), columns, "a")[0] == [1]
    with pytest.raises(DataError, match=r"no unit of a is left with kind 'bad': its values are good \(2\), mua"):
        UnitChoice(units={"kind": "bad"}).choose(list("abcd"), columns, "a")
