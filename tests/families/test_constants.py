"""Nothing depends on a constant that is added to all values of a neuron: raw fluorescence, ADC counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, LDS, MDLAG

import mrgp
from mrgp.inference.start import compress
from mrgp.inference.variational_bayes.bound import Setting
from mrgp.inference.variational_bayes.rounds import value_of
from mrgp.inference.variational_bayes.updates import update
from mrgp.likelihoods.kalman import MarkovGP

BIN = 0.02
CONSTANTS = np.array([1e8, -3e6, 4e7, 12.0, 7e8])  # one for each neuron; whole numbers are added without rounding


def values(kind):
    """Regions of 3 and 2 neurons on a grid of 2^-20, which float64 keeps beside all the constants."""
    rng = np.random.default_rng(0)
    array = np.round(rng.standard_normal((6, 9, 5)).cumsum(axis=1) * 2**20) / 2**20
    if kind == "ragged_holes":
        array[1, 6:] = array[2, 3, 1] = array[4, :, 4] = np.nan
    return array


def recording(array, **more):
    return mrgp.MultiRegionData({"V1": array[..., :3], "V2": array[..., 3:]}, BIN, **more)


@pytest.fixture(params=["complete", "ragged_holes"])
def pair(request):
    array = values(request.param)
    return recording(array), recording(array + CONSTANTS)


def test_mean_and_sd_are_of_all_digits(pair):
    plain, far = pair
    np.testing.assert_allclose(far.center, plain.center + CONSTANTS, rtol=1e-15)
    np.testing.assert_allclose(far.scale, plain.scale, rtol=1e-12)


def test_reduced_recording_is_the_same(pair):
    near, far = (compress(data, (3, 2), (2, 2)).data for data in pair)
    np.testing.assert_allclose(far.values, near.values, atol=1e-6)


@pytest.mark.slow_cases("complete-psth-dense", "complete-constant-dense", "ragged_holes-constant-dense")
@pytest.mark.parametrize(
    ("mean", "likelihood"),
    [
        pytest.param("constant", "markov", marks=pytest.mark.slow), ("constant", "dense"),
        pytest.param("psth", "markov", marks=pytest.mark.slow),
        ("psth", "dense"),
    ],
)  # fmt: skip
def test_likelihood_and_its_gradient(pair, likelihood, mean):
    plain, far = pair
    model = DLAG(n_across=1, n_within=1, likelihood=likelihood, mean=mean)
    rng = np.random.default_rng(1)
    sites = {
        "loadings": rng.standard_normal((5, 2)), "noise": rng.uniform(0.5, 1, 5), "offset": np.round(plain.center, 2),
        "delay": np.array([[0.01]]), "timescale_across": np.array([0.06]), "timescale_within": np.array([0.04, 0.09]),
    }  # fmt: skip
    if mean == "psth":
        modes = model.mean.modes(plain, model.duration).shape[1]
        sites |= {"mean_change": 0.3 * rng.standard_normal((1, 5, modes)), "mean_spread": np.ones((1, 5))}

    @jax.jit
    def scored(data, sites):
        return jax.value_and_grad(lambda sites: model.likelihood_at(data, sites).log_prob(data.values).sum())(sites)

    (near, slope), (away, slope_away) = (
        scored(jax.tree.map(jnp.asarray, data), {**sites, "offset": jnp.asarray(sites["offset"] + level)})
        for data, level in ((plain, 0.0), (far, CONSTANTS))
    )
    assert float(away) == pytest.approx(float(near), rel=1e-7)
    for name, expected in slope.items():
        np.testing.assert_allclose(slope_away[name], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pair", [pytest.param("complete", marks=pytest.mark.slow), "ragged_holes"], indirect=True)
def test_variational_bound_and_its_updates(pair):
    plain, far = pair
    model = MDLAG(n_across=2, likelihood="dense", max_delay=3 * BIN, shape=0.7, rate=0.4, offset_precision=0.2)
    rng = np.random.default_rng(2)
    covariance = np.tile(0.1 * np.eye(2), (5, 1, 1))
    sites = {
        "loadings": rng.standard_normal((5, 2)), "noise": np.ones(5), "delay": np.array([[0.01, -0.02]]),
        "timescale_across": np.array([0.05, 0.1]),
    }  # fmt: skip
    found = []
    for data, level in ((plain, 0.0), (far, CONSTANTS)):
        setting = Setting.of(data, sites["loadings"], covariance)
        at = {**sites, "offset": np.round(plain.center, 2) + level}
        new, spread = update(model, at, setting)
        found.append((value_of(model, at, setting), new["loadings"], new["offset"] - level, new["noise"], spread))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-7)
    for near, away in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_allclose(away, near, rtol=1e-5, atol=1e-5)


def test_a_program_of_ones_own_is_scored_from_its_origin():
    """A distribution without an origin is the same, to the digits that it has."""
    plain = recording(values("complete"))
    model = LDS(n_across=2)
    rng = np.random.default_rng(3)
    sites = {
        "loadings": rng.standard_normal((5, 2)), "noise": np.ones(5), "offset": plain.center,
        "transition": np.array([[0.8, 0.1], [0.0, 0.5]]),
    }  # fmt: skip
    distribution = model.likelihood_at(plain, sites)
    assert isinstance(distribution, MarkovGP)
    np.testing.assert_array_equal(distribution.origin, plain.center)
    score = jax.jit(lambda distribution: distribution.log_prob(plain.values))
    scores = score(distribution)
    distribution.origin = None
    np.testing.assert_allclose(score(distribution), scores, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a timescale is shorter", "ignore:a delay came close")
def test_a_fit_is_that_of_the_same_values_without_the_constant():
    rng = np.random.default_rng(4)
    shared = rng.standard_normal((12, 20, 1)).cumsum(axis=1)
    array = shared * rng.standard_normal(5) + rng.standard_normal((12, 20, 5))
    model, options = DLAG(n_across=1, n_within=0), {"progress": False, "n_starts": 1}
    near, far = (model.fit(recording(array + level), **options) for level in (0.0, 1e8))
    assert far.log_likelihood().sum().item() == pytest.approx(near.log_likelihood().sum().item(), rel=1e-6)
    np.testing.assert_allclose(far.sites["delay"], near.sites["delay"], atol=1e-3 * BIN)
    np.testing.assert_allclose(far.sites["offset"] - 1e8, near.sites["offset"], atol=1e-3)
