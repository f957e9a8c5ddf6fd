"""What a user is told of, they are told by names that they know: region, neuron, label, and a remedy of their door."""

import hashlib
import json
import pickle
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, FA, GPFA

import mrgp
from mrgp.cli.argument_types import typed
from mrgp.cli.main import main, parse
from mrgp.cli.shared import read_known
from mrgp.inference.start import compress, decompress
from mrgp.parts.emissions.negative_binomial import NegativeBinomial
from mrgp.recordings.neurons import Neurons
from mrgp.runtime.sentences import Argument, Refusal

SEED = 3
N_TRIALS = 16
RARE = mrgp.metrics.split_trials(N_TRIALS, SEED).test[0]   # the only trial in which neuron 3 of V2 speaks
LABELS = {"V1": [f"a{i}" for i in range(4)], "V2": [f"u{i}" for i in range(5)]}
QUICK = {"n_starts": 1, "progress": False}


def arrays():
    """Counts of 4 and 5 neurons; neuron 3 of V2 fires in one trial, neuron 1 of V1 never."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N_TRIALS, 12, 1))
    V1, V2 = (rng.poisson(np.exp(0.5 + 0.5 * shared), (N_TRIALS, 12, n)).astype(float) for n in (4, 5))
    V1[:, :, 1] = 0.0
    V2[:, :, 3] = 0.0
    V2[RARE, [2, 7], 3] = 1.0
    return {"V1": V1, "V2": V2}


def recording(drop_dead=True, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mrgp.MultiRegionData(arrays(), 0.02, drop_dead=drop_dead, **options)


def training(**options):
    """The trials without that one."""
    return recording(**options).select_trials(np.arange(N_TRIALS) != RARE)


@pytest.fixture(scope="module", params=["labels", "positions"])
def fitted(request):
    """A fit to neurons that speak in the training trials, and the recording of all neurons in all trials."""
    options = {"neuron_coords": LABELS} if request.param == "labels" else {}
    with pytest.warns(UserWarning, match="left out as dead: region V2, neuron 3"):
        train = training(**options).drop_dead()
    return FA(n_across=1).fit(train, **QUICK), recording(drop_dead=None, **options)


def test_a_sentence_has_the_remedy_of_each_door():
    error = mrgp.DataError("it is dead: pass ", Argument("drop_dead", True), ", or ", Argument("n_neurons", (3, 2)))
    assert str(error) == "it is dead: pass drop_dead=True, or n_neurons=(3, 2)"
    assert error.typed(typed) == "it is dead: pass --drop-dead, or --n-neurons 3,2"
    assert typed(Argument("shape")) == "--relevance-shape"
    assert isinstance(error, Refusal)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("model", [GPFA(1), DLAG(1, 1), FA(1)], ids=lambda model: type(model).__name__)
def test_a_neuron_dead_in_the_chosen_trials_is_named_with_a_remedy_that_exists(model):
    train = training(neuron_coords=LABELS)
    with pytest.raises(mrgp.DataError) as caught:
        model.fit(train, **QUICK)
    wanted = "region V2, neuron 3 (label u3): dead, the same value in every observed bin; it says nothing in these "
    wanted += "trials: leave it out by "
    assert str(caught.value) == f"{wanted}data.drop_dead() or data.select_neurons"
    assert caught.value.typed(typed) == f"{wanted}--drop-dead"
    with pytest.warns(UserWarning, match=r"left out as dead: region V2, neuron 3 \(label u3\)$"):
        left = train.drop_dead()
    assert left.layout.n_neurons == (3, 4)
    left.require_living()
    assert left.drop_dead() is left


def test_a_silent_region_is_named():
    data = recording(drop_dead=None)
    silent = data.with_values(np.where(data.layout.region_of_neuron == 1, 0.0, data.values))
    with pytest.raises(mrgp.DataError, match="region V2 has no spike in these trials: leave the region out"):
        DLAG(1, 0, emission="poisson").fit(silent, **QUICK)


def test_a_start_knows_nothing_of_silent_neurons():
    data = recording(drop_dead=None).select_trials(np.arange(N_TRIALS) != RARE)
    found = compress(data, data.layout.n_neurons, (1, 1))
    assert found.data.layout.n_neurons == (3, 4)
    assert np.isfinite(found.data.values).all()
    full, noise = decompress(found, np.ones((7, 1)))
    assert (full[[1, 7]] == 0).all()
    assert (noise[[1, 7]] == 0).all()
    assert (np.delete(full, [1, 7]) > 0).all()
    assert (np.delete(noise, [1, 7]) > 0).all()


def test_counts_of_a_neuron_without_loadings_have_a_slope():
    def value(loading):
        family = NegativeBinomial(jnp.array([0.1]))
        return family.expected(jnp.zeros(1), jnp.full(1, -7.0), loading**2)[0].sum()

    assert float(jax.grad(value)(jnp.zeros(1))[0]) == 0.0


@pytest.mark.slow
def test_a_neuron_silent_in_the_training_trials_is_no_error_of_counts():
    data = recording(drop_dead=None).select_trials(np.arange(N_TRIALS) != RARE)
    fit = GPFA(n_across=1, emission="poisson").fit(data, **QUICK)
    assert fit.converged
    bins = data.n_trials * data.n_bins
    for region, neuron in (("V1", 1), ("V2", 3)):
        # Of a rate that no spike was seen of in so many bins: below one spike, and not without limit.
        assert -12 < float(fit.offset[region][neuron]) < -np.log(bins)
    assert np.isfinite(fit.log_likelihood(recording(drop_dead=None)).values).all()


@pytest.mark.slow
def test_a_model_can_draw_a_single_bin():
    fit = FA(n_across=1).fit(recording(), **QUICK)
    assert fit.sample(1, 1).values.shape == (1, 1, 8)
    with pytest.raises(ValueError, match="conditions are 2 for 1 trials: give one for each"):
        fit.sample(1, 1, conditions=["a", "b"])


def test_a_fit_takes_the_neurons_that_it_knows(fitted, tmp_path):
    fit, every = fitted
    own = every.select_neurons({"V1": [0, 2, 3], "V2": [0, 1, 2, 4]})
    expected = fit.log_likelihood(own).values
    label = {name: "" if fit.neurons["V1"].labels is None else f" (label {LABELS[name][i]})" for name, i in
             (("V1", 1), ("V2", 3))}  # fmt: skip
    told = f"left out, as the fit does not know it: region V1, neuron 1{label['V1']}; region V2, neuron 3{label['V2']}"
    fit.save(tmp_path / "fit.nc")
    for one in (fit, mrgp.load_fit(tmp_path / "fit.nc")):
        with pytest.warns(UserWarning, match="left out, as the fit") as caught:
            known = one.known(every)
        assert [str(each.message) for each in caught] == [told]
        assert known.fingerprint == own.fingerprint
        with pytest.warns(UserWarning, match="left out, as the fit"):
            np.testing.assert_array_equal(one.log_likelihood(every).values, expected)
    assert one.neurons == fit.neurons
    assert fit.known(own) is own


def test_trials_are_known_by_some_of_their_neurons(fitted):
    fit, every = fitted
    ours = {"V1": [0, 2, 3], "V2": [0, 1, 2, 4]}
    chosen, rooted = every.select_neurons(ours), mrgp.preprocess(every, transform="sqrt")
    forms = [chosen, mrgp.preprocess(chosen, transform="sqrt"), rooted.select_neurons(ours)]
    half = [True] * 8 + [False] * 8
    for train in forms:
        one = replace(fit, data=train.select_trials(slice(8)))
        for test in forms:
            assert one.has_seen(test).tolist() == half
        for test in (every, rooted):
            with pytest.warns(UserWarning, match="left out, as the fit"):
                assert one.has_seen(test).tolist() == half
    # Files of the first versions know a trial by all its values at once.
    earlier = tuple(hashlib.blake2b(trial.tobytes(), digest_size=8).hexdigest() for trial in chosen.values[:8])
    one = replace(fit, data=None, trained_on=earlier)
    for test in forms[:2]:
        assert one.has_seen(test).tolist() == half
    other = chosen.with_values(chosen.values)
    other.known_as = None
    other.values[0, 0, -1] += 1
    assert replace(fit, data=chosen).has_seen(other).tolist() == [False] + [True] * 15


def test_a_number_is_one_label_however_a_table_holds_it():
    whole = Neurons((0, 1, 2), 3).labelled([3, 1, 2])
    for labels in ([1.0, 2.0, 3.0], ["1.0", "2.0", "3.0"], [b"1", b"2", b"3"], np.array([1, 2, 3], np.int8)):
        other = Neurons((0, 1, 2), 3).labelled(labels)
        assert whole.among(other) == [2, 0, 1]
        assert other.among(whole) == [1, 2, 0]
    assert Neurons((0,), 1).labelled([1.0]).named(0) == "0 (label 1)"
    assert Neurons((0,), 1).labelled(["1.2.0"]).among(Neurons((0,), 1).labelled(["1.2"])) == [None]
    twice = Neurons((0, 1), 2).labelled(["1", "1.0"])
    assert not twice.told_by_label(twice)


def test_a_neuron_that_a_recording_lacks_is_not_said_to_be_silent(fitted):
    fit, every = fitted
    fewer = every.select_neurons({"V2": [0, 1, 3, 4]})
    with pytest.raises(mrgp.DataError, match="is not in the recording: load it with drop_dead=None, which keeps"):
        fit.known(fewer)
    if fit.neurons["V1"].labels is None:
        return
    lacking = mrgp.MultiRegionData(
        {name: every.region(name)[:, :, :4] for name in ("V1", "V2")}, 0.02, drop_dead=None,
        neuron_coords={"V1": LABELS["V1"], "V2": LABELS["V2"][:4]},
    )  # fmt: skip
    wanted = r"region V2, neuron 3 \(label u4\), which the fit knows, is not in the recording: give one that has it, or"
    with pytest.raises(mrgp.DataError, match=wanted):
        fit.known(lacking)


@pytest.mark.slow_cases("labels")
def test_positions_of_neurons_are_never_confused(fitted):
    fit, every = fitted
    with pytest.raises(mrgp.DataError, match=r"take fit\.known"), pytest.warns(UserWarning, match="left out, as"):
        mrgp.metrics.cosmoothing(fit, every, {"V2": [3]})
    with pytest.warns(UserWarning, match="left out, as the fit"):
        scores = mrgp.metrics.reconstruction(fit, every)
    assert scores.sizes["neuron_V2"] == 4
    fewer = every.select_neurons({"V2": [0, 1, 3, 4]})   # as many as the fit has, but not the same ones
    with pytest.raises(mrgp.DataError, match=r"region V2, neuron 2.*, which the fit knows, is not in the recording"):
        fit.log_likelihood(fewer)
    with pytest.raises(mrgp.DataError, match="no region V2, which the fit knows: it has V1"):
        fit.log_likelihood(every.select_neurons({"V2": []}))


@pytest.mark.slow
def test_labels_tell_neurons_in_any_order():
    train = recording(neuron_coords=LABELS)
    fit = FA(n_across=1).fit(train, **QUICK)
    turned = train.select_neurons({"V1": [2, 0, 1]})
    np.testing.assert_array_equal(fit.log_likelihood(turned).values, fit.log_likelihood(train).values)
    other = mrgp.MultiRegionData(
        {name: train.region(name) for name in ("V1", "V2")}, 0.02, neuron_coords={"V1": ["a0", "a2", "b"]}
    )
    with pytest.raises(mrgp.DataError, match=r"region V1, neuron 2 \(label a3\), which the fit knows, is not in"):
        fit.log_likelihood(other)


def test_trials_and_neurons_are_named_as_they_were_loaded():
    every = arrays()
    every["V2"][5, 3, 4] = 0.5
    with pytest.warns(UserWarning, match="left out as dead: region V1, neuron 1"):
        data = mrgp.MultiRegionData(every, 0.02, drop_dead=True)
    some = data.select_trials([4, 5]).select_neurons({"V2": [0, 4]})
    with pytest.raises(mrgp.DataError) as caught:
        GPFA(1, emission="poisson").fit(some, **QUICK)
    number = "region V2, neuron 1 (4 as loaded): 0.5 in trial 1 (5 as loaded), bin 3 is no spike count; give whole "
    assert str(caught.value) == f"{number}numbers of 0 or more, or use emission='gaussian'"
    assert caught.value.typed(typed).endswith("or use --emission gaussian")
    still = some.with_values(np.where(some.layout.region_of_neuron == 0, 1.0, some.values))
    with pytest.raises(mrgp.DataError, match=r"region V1, neuron 0 never changes .* leave it out by data\.drop_dead"):
        mrgp.standardize(still)
    assert some.name_trial(0) == "trial 0 (4 as loaded)"
    assert data.name_trial(4) == "trial 4"


def test_a_fit_of_an_older_file_knows_neurons_by_their_number_alone(fitted):
    fit, every = fitted
    older = replace(fit, neurons={})
    own = every.select_neurons({"V1": [0, 2, 3], "V2": [0, 1, 2, 4]})
    np.testing.assert_array_equal(older.log_likelihood(own).values, fit.log_likelihood(own).values)
    said = r"V1 \(4 neurons\), V2 \(5 neurons\), bins of 20 ms, but the fit is of V1 \(3 neurons\), V2 \(4 neurons\)"
    with pytest.raises(mrgp.DataError, match=said):
        older.log_likelihood(every)


def test_labels_that_are_there_twice_tell_nothing():
    some = Neurons((0, 2), 3, ("a", "a"))
    assert some.comparable(Neurons((2, 0), 3, ("b", "a")))
    assert some.among(Neurons((2, 0), 3, ("b", "a"))) == [1, 0]
    assert not some.comparable(Neurons((0, 1), 2, ("a", "b")))
    assert Neurons((0,), 1, ("b",)).among(Neurons((0, 1), 2, ("a", "b"))) == [1]


FLAGS = ["--n-starts", "1", "--quiet", "--split-seed", str(SEED)]


@pytest.mark.filterwarnings("ignore:the fit has not converged")
@pytest.mark.slow
def test_the_command_line_leaves_out_what_is_dead_in_training_and_scores_the_rest(tmp_path, capsys, agg):
    np.savez(tmp_path / "a.npz", bin_width=0.02, **{f"neuron_{name}": of for name, of in LABELS.items()}, **arrays())
    fit = ["fit", str(tmp_path / "a.npz"), "--model", "fa", "--n-across", "1", "--no-figures", *FLAGS]
    assert main([*fit, "--out", str(tmp_path / "out")]) == 1
    dead = "neuron 1 (label a1): dead, the same value in every observed bin; remove it, or pass --drop-dead to leave"
    assert capsys.readouterr().err == f"mrgp: region V1, {dead} such neurons out\n"
    assert main([*fit, "--drop-dead", "--zscore", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "note: left out as dead: region V1, neuron 1 (label a1)\n" in said
    assert "note: left out as dead: region V2, neuron 3 (label u3)\n" in said
    evaluate = ["evaluate", str(tmp_path / "out" / "fit.nc"), str(tmp_path / "a.npz"), "--masks", "1"]
    assert main([*evaluate, "--split-seed", str(SEED), "--quiet", "--out", str(tmp_path / "test")]) == 0
    said = capsys.readouterr().err
    left_out = "region V1, neuron 1 (label a1); region V2, neuron 3 (label u3)"
    assert said == f"mrgp: note: left out, as the fit does not know it: {left_out}\n"
    summary = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert summary["trials"] == "2 trials that the fit has not seen"
    known = mrgp.load_fit(tmp_path / "out" / "fit.nc")
    # Which of the neurons are silent in the test trials is no matter where the fit says which it is of.
    asked = parse([*evaluate, "--drop-dead", "--out", str(tmp_path / "test")])
    for neurons, told in ((known.neurons, "left out, as the fit does not know it"), ({}, "left out as dead")):
        with pytest.warns(UserWarning, match=rf"^{told}: region V1, neuron 1 \(label a1\)"):
            assert read_known(asked, replace(known, neurons=neurons)).neurons["V1"] == known.neurons["V1"]
    test = mrgp.metrics.split_trials(N_TRIALS, SEED).test
    every = recording(drop_dead=None).select_neurons({"V1": [0, 2, 3], "V2": [0, 1, 2, 4]})
    train = mrgp.metrics.split_trials(N_TRIALS, SEED).train
    own = mrgp.standardize(every.select_trials(test), every.select_trials(train))
    assert summary["log_likelihood"] == pytest.approx(float(known.log_likelihood(own).sum()), abs=1e-9)


@pytest.mark.filterwarnings("ignore:the fit has not converged")
@pytest.mark.slow
def test_the_command_line_takes_silent_neurons_of_counts(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", bin_width=0.02, **arrays())
    fit = ["fit", str(tmp_path / "a.npz"), "--model", "gpfa", "--n-across", "1", "--emission", "poisson", *FLAGS]
    assert main([*fit, "--no-figures", "--max-iterations", "1", "--out", str(tmp_path / "out")]) == 0
    assert "dead" not in capsys.readouterr().err
    assert mrgp.load_fit(tmp_path / "out" / "fit.nc").layout.n_neurons == (4, 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_cross_validation_leaves_out_what_is_dead_in_a_fold(tmp_path, capsys, agg):
    alive = {name: array[:, :, [i for i in range(array.shape[2]) if (name, i) != ("V1", 1)]]
             for name, array in arrays().items()}  # fmt: skip
    np.savez(tmp_path / "a.npz", bin_width=0.02, **alive)
    cv = ["cv", str(tmp_path / "a.npz"), "--model", "fa", "--n-across", "1", "--folds", "2", "--n-starts", "1"]
    assert main([*cv, "--quiet", "--out", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("mrgp: region V2, neuron 3 never changes outside of the trials of fold ")
    assert said.endswith(": leave it out by --drop-dead, or take more folds\n")
    assert main([*cv, "--quiet", "--drop-dead", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == "mrgp: note: left out as dead: region V2, neuron 3\n"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["candidates"][0]["valid"]
