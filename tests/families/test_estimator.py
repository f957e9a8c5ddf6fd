"""Models in scikit-learn's pipelines, cross-validation and searches, against their own fits."""

import importlib.util
import sys

import numpy as np
import pytest
import registry
from mrgp.models import DLAG, FA, GPFA, LDS, PCCA

import mrgp
from mrgp import DataError
from mrgp.families.parameters import parameters_of

WIDTH = 0.02
BRIEF = {"n_starts": 1, "max_iterations": 30}

pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged")

# --- settings of models


@pytest.mark.parametrize("model", registry.PARTS["model"], ids=lambda model: type(model).__name__)
def test_settings_are_read_and_make_the_model_again(model):
    own = model.get_params(deep=False)
    assert type(model)(**own) == model
    assert not type(model).pinned_fields() & own.keys()
    deep = model.get_params()
    assert {name for name in deep if "__" not in name} == own.keys()
    for name in deep:
        value = model
        for step in name.split("__"):
            value = getattr(value, step)
        assert deep[name] is value
    assert model.set_params() == model
    assert model.set_params(**deep) == model


@pytest.mark.parametrize("model", registry.PARTS["model"], ids=lambda model: type(model).__name__)
def test_scikit_learn_clones_models(model):
    base = pytest.importorskip("sklearn.base")
    assert base.clone(model) is model  # frozen: nobody can change it


def test_a_changed_setting_is_in_a_copy():
    model = DLAG(2, 1, max_delay=0.1)
    changed = model.set_params(n_across=3, delays__longest=0.2, kernel=mrgp.Matern32(), likelihood__order=3)
    assert changed == DLAG(3, 1, max_delay=0.2, kernel=mrgp.Matern32(), order=3)
    assert model == DLAG(2, 1, max_delay=0.1)
    assert model.set_params(max_delay=0.3) == DLAG(2, 1, max_delay=0.3)  # a short form
    stretched = GPFA(1, kernel=mrgp.Stretched(mrgp.Matern12(), 2.0))
    assert stretched.get_params()["kernel__factor"] == 2.0
    assert stretched.set_params(kernel__kernel=mrgp.Matern52(), kernel__factor=3.0).kernel == mrgp.Stretched(
        mrgp.Matern52(), 3.0
    )
    assert parameters_of(mrgp.Poisson(), True) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_acros": 1}, "FA has no setting 'n_acros': choose from .*n_across"),
        ({"mean__width": 1}, "Constant has no setting 'width': choose from none"),
        ({"n_across__x": 1}, "n_across of FA is 1, which has no setting 'x': give n_across anew"),
    ],
)
def test_settings_that_are_not_there(changes, message):
    with pytest.raises(DataError, match=message):
        FA(1).set_params(**changes)


def test_without_scikit_learn_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    found = importlib.util.find_spec("mrgp.families.estimator")
    spec = importlib.util.spec_from_file_location("without", found.origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # read anew: another class than everybody's
    with pytest.raises(DataError, match=r"mrgp.Estimator needs sklearn, .*: pip install scikit-learn, .*\[sklearn\]"):
        module.Estimator(FA(1), bin_width=WIDTH)


# --- trials of recordings


def recording(seed=0, n_trials=8, **options):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_trials, 12, 2)).cumsum(1) * 0.3
    arrays = {name: x @ rng.standard_normal((2, n)) + rng.standard_normal((n_trials, 12, n))
              for name, n in (("V1", 5), ("V2", 4))}  # fmt: skip
    return mrgp.MultiRegionData(arrays, WIDTH, trial_coords={"side": np.arange(n_trials) % 2}, **options)


def test_recordings_are_sequences_of_trials():
    data = recording()
    assert len(data) == 8
    np.testing.assert_array_equal(data[3].values, data.values[3:4])
    assert data[np.array([5, 2])].trial_coords["side"].tolist() == [1, 0]
    assert [one.trial_fingerprints for one in data] == [(digest,) for digest in data.trial_fingerprints]


def test_joined_trials_are_those_of_the_recording():
    data = recording()
    arrays = {name: np.array(data.region(name)) for name in data.layout.regions}
    arrays["V1"][1, 3, 2], arrays["V2"][4, 9:], arrays["V1"][4, 9:] = np.nan, np.nan, np.nan
    holes = mrgp.MultiRegionData(arrays, WIDTH, trial_coords=data.trial_coords, neuron_coords={"V2": list("abcd")})
    order = [4, 1, 6]
    for whole in (data, holes, mrgp.standardize(holes), holes.select_neurons({"V1": [0, 3]})):
        joined, chosen = mrgp.join_trials([whole[trial] for trial in order]), whole.select_trials(order)
        np.testing.assert_array_equal(joined.with_nan(), chosen.with_nan())
        assert joined.trial_fingerprints == chosen.trial_fingerprints
        assert joined.trial_coords["side"].tolist() == [0, 1, 0]
        np.testing.assert_array_equal(joined.trial_origin, chosen.trial_origin)
        assert joined.neurons == chosen.neurons
    counts = mrgp.MultiRegionData({"V1": np.arange(24).reshape(2, 4, 3)}, WIDTH)
    short = mrgp.MultiRegionData({"V1": np.arange(6).reshape(1, 2, 3) + 3}, WIDTH, trial_coords={"side": [1]})
    both = mrgp.join_trials([counts, short])
    assert (both.n_trials, both.n_bins, both.trial_coords) == (3, 4, {})
    np.testing.assert_array_equal(both.length, [4, 4, 2])
    np.testing.assert_array_equal(both.region("V1")[2, :2], short.region("V1")[0])
    assert both.values.dtype == np.uint8


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda data: [], "there are no recordings to join: give at least one"),
        (lambda data: [data, data.select_neurons({"V1": [0, 1]})], r"recording 1 has V1 \(2 neurons\)"),
        (lambda data: [data.select_neurons({"V1": [0, 1]}), data.select_neurons({"V1": [0, 2]})], "has other neurons"),
    ],
)
def test_recordings_that_cannot_be_joined(others, message):
    with pytest.raises(DataError, match=message):
        mrgp.join_trials(others(recording()))


# --- fits


def estimator(model, **options):
    pytest.importorskip("sklearn")
    return mrgp.Estimator(model, bin_width=WIDTH, settings=BRIEF, **options)


REGIONS = {"V1": 5, "V2": 4}


@pytest.mark.slow
def test_it_fits_as_the_model_does():
    data, test = recording(), recording(1)
    wrapped, own = estimator(PCCA(1, 1), regions=REGIONS), PCCA(1, 1).fit(data, progress=False, **BRIEF)
    assert wrapped.fit(data) is wrapped
    for name, value in own.sites.items():
        np.testing.assert_array_equal(wrapped.fit_.sites[name], value)
    assert wrapped.n_features_in_ == 9
    scores = np.asarray(own.log_likelihood(test))
    np.testing.assert_array_equal(wrapped.score_samples(test), scores)
    assert wrapped.score(test) == pytest.approx(scores.mean(), rel=1e-12)
    shown = own.latents(test)
    latents = np.concatenate([shown["across_mean"], shown["within_mean"]], axis=2)
    np.testing.assert_array_equal(wrapped.transform(test), latents)
    assert wrapped.get_feature_names_out().tolist() == ["across0", "within_V1:0", "within_V2:0"]
    # Arrays, lists of trials and lists of recordings say the same.
    array = test.floats
    np.testing.assert_allclose(wrapped.transform(array), latents, rtol=1e-12)
    np.testing.assert_allclose(wrapped.score_samples(list(test)), scores, rtol=1e-12)
    trials = [array[0], array[1, :7]]
    of_list = wrapped.transform(trials)
    assert [len(one) for one in of_list] == [12, 7]
    np.testing.assert_allclose(of_list[0], latents[0], rtol=1e-9)


@pytest.mark.slow
def test_rows_of_a_table_are_samples_as_factor_analysis_has_them():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((2, 6))
    table, other = (rng.standard_normal((n, 2)) @ mixing + 0.5 * rng.standard_normal((n, 6)) for n in (400, 50))
    theirs = decomposition.FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(table)
    ours = mrgp.Estimator(FA(2), bin_width=1.0).fit(table)
    assert ours.score(table) == pytest.approx(theirs.score(table), abs=2e-3)  # a weak prior lies between them
    assert ours.score(other) == pytest.approx(theirs.score(other), abs=0.02)
    found, wanted = ours.transform(other), theirs.transform(other)
    assert found.shape == (50, 2)
    turned = found @ np.linalg.lstsq(found, wanted, rcond=None)[0]  # latents are known up to a rotation
    np.testing.assert_allclose(turned, wanted, atol=0.05)


@pytest.mark.slow
def test_searches_are_over_the_models_settings():
    selection = pytest.importorskip("sklearn.model_selection")
    data = recording(n_trials=9)
    folds = selection.KFold(3)
    search = selection.GridSearchCV(estimator(FA()), {"model__n_across": [1, 3]}, cv=folds).fit(data)
    by_hand = {}
    for n in (1, 3):
        for fold, (train, test) in enumerate(folds.split(data)):
            fit = FA(n).fit(data.select_trials(train), progress=False, **BRIEF)
            by_hand[n, fold] = float(fit.log_likelihood(data.select_trials(test)).mean())
    for fold in range(3):
        found = search.cv_results_[f"split{fold}_test_score"]
        np.testing.assert_allclose(found, [by_hand[1, fold], by_hand[3, fold]], rtol=1e-12)
    best = max((1, 3), key=lambda n: np.mean([by_hand[n, fold] for fold in range(3)]))
    assert search.best_params_ == {"model__n_across": best}
    assert search.best_estimator_.fit_.data.n_trials == 9
    scores = selection.cross_val_score(estimator(FA(1)), data.floats, cv=folds)
    np.testing.assert_allclose(scores, [by_hand[1, fold] for fold in range(3)], rtol=1e-9)
    scores = selection.cross_val_score(estimator(FA(1)), list(data.floats), cv=folds)
    np.testing.assert_allclose(scores, [by_hand[1, fold] for fold in range(3)], rtol=1e-9)


@pytest.mark.slow
def test_it_stands_in_a_pipeline():
    pipeline = pytest.importorskip("sklearn.pipeline")
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 1))
    table = x @ rng.standard_normal((1, 5)) * 3 + 0.1 * rng.standard_normal((60, 5))
    steps = [("scale", StandardScaler()), ("latents", estimator(FA(1))), ("line", LinearRegression())]
    chain = pipeline.Pipeline(steps).fit(table, x[:, 0])
    assert chain.score(table, x[:, 0]) > 0.99
    chain.set_params(latents__model__n_across=2, latents__method=mrgp.MAP())
    assert chain.named_steps["latents"].model == FA(2)
    scaled = StandardScaler().fit_transform(table)
    np.testing.assert_allclose(
        pipeline.make_pipeline(StandardScaler(), estimator(FA(1))).fit_transform(table),
        estimator(FA(1)).fit_transform(scaled), rtol=1e-9,
    )  # fmt: skip


def test_settings_of_an_estimator():
    base = pytest.importorskip("sklearn.base")
    wrapped = estimator(DLAG(2, 1), method=mrgp.Laplace(n_draws=50), regions=REGIONS, seed=3)
    copy = base.clone(wrapped)
    assert copy is not wrapped
    assert copy.get_params() == wrapped.get_params()
    deep = wrapped.get_params()
    assert (deep["model__n_across"], deep["method__n_draws"], deep["model__delays__longest"]) == (2, 50, None)
    assert wrapped.set_params(model__n_across=4, method__n_draws=7, seed=9) is wrapped
    assert (wrapped.model.n_across, wrapped.method.n_draws, wrapped.seed) == (4, 7, 9)
    assert copy.model.n_across == 2
    wrapped.set_params(model=LDS(2), model__n_across=1)
    assert wrapped.model == LDS(1)
    with pytest.raises(ValueError, match="Invalid parameter 'models'"):
        wrapped.set_params(models=1)
    with pytest.raises(DataError, match="there is no setting 'seed__x': choose from "):
        wrapped.set_params(seed__x=1)


@pytest.mark.parametrize(
    ("options", "trials", "message"),
    [
        ({"bin_width": None}, np.ones((3, 4, 2)), "arrays have no bin width: make the estimator with bin_width=0.02"),
        ({"regions": {"V1": 3}}, np.ones((3, 4, 2)), r"trials have 2 neurons, but regions have 3: give regions="),
        ({}, [np.ones((3, 2)), np.ones((3, 4))], "trials have 2 or 4 neurons"),
        ({}, np.ones((3, 4, 2, 2)), "Found array with dim 4"),
        ({}, np.ones((3, 4, 2)), "region region1, neurons 0, 1: dead"),
    ],
)
def test_trials_that_cannot_be_read(options, trials, message):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match=message):
        mrgp.Estimator(FA(1), **{"bin_width": WIDTH} | options).fit(trials)


def test_nothing_is_said_before_a_fit():
    exceptions = pytest.importorskip("sklearn.exceptions")
    with pytest.raises(exceptions.NotFittedError):
        estimator(FA(1)).transform(np.ones((3, 2)))
