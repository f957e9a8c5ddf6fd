"""Every model: its sites, simulations of it, a short fit to a recording with holes, and what comes out of that."""

import json
from functools import cache
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import registry
import xarray as xr
from mrgp.models import ADM, DLAG, FA, GPFA, LDS, MDLAG, PCCA, CoupledLDS

import mrgp
from mrgp.inference.density import free_sites
from mrgp.part import rebuilt
from mrgp.parts.sites import site_of
from mrgp.parts.symmetries import sites_of_truth
from mrgp.results.arviz import PARTS

VARIANTS = [
    LDS(2, start="learned"), LDS(1, mean="psth"), DLAG(2, (1, 0), emission="poisson", mean="psth"),
    DLAG(1, 1, noise="ar1"), DLAG(1, 0, kernel=mrgp.Spectral()), GPFA(2, emission="negative_binomial"),
    ADM(2, 1, mean="psth", noise="ar1"), MDLAG(1, shape=1.0, rate=0.1, emission="poisson"),
    LDS(2, start="learned", emission="poisson"), PCCA(1, 1, emission="negative_binomial"),
]  # fmt: skip
"""Models with parts that have sites of their own."""
OFTEN = (CoupledLDS, DLAG, FA, GPFA, LDS)
"""Models that many other tests fit, save and convert, or that take long to compile: here in slow tests."""
SMALL = {"regions": {"V1": 4, "V2": 3}, "n_trials": 24, "n_bins": 8, "conditions": ("a", "b"), "ragged": 0.3, "seed": 2}
BRIEF = {"n_starts": 1, "max_iterations": 60, "progress": False}
ORDER = np.random.default_rng(0).permutation(24)

pytestmark = [
    pytest.mark.filterwarnings("ignore:the fit has not converged"),
    pytest.mark.filterwarnings("ignore:.* has no delays or timescales to draw"),
]


@cache
def simulated(model):
    return mrgp.simulate(model, **SMALL)


@pytest.fixture(
    params=[pytest.param(one, marks=pytest.mark.slow) if type(one) is CoupledLDS else one
            for one in registry.MODELS + VARIANTS],
    ids=repr,
)  # fmt: skip
def model(request):
    """Every model, and every part with sites of its own, in turn."""
    return request.param


def test_every_site_is_declared_with_its_axes_and_its_unit(model):
    data = simulated(model).data
    model = model.prepared(data)
    assignment = model.assignment(data.layout)
    for site, traced in free_sites(model, data).items():
        declared = site_of(site)
        assert declared is not None, site
        assert traced["infer"]["dims"] == declared.dims
        assert traced["infer"]["unit"] == declared.unit
        shape = np.shape(traced["value"])
        assert len(shape) == len(declared.dims)
        assert all(own in (None, size) for own, size in zip(declared.shape(assignment), shape, strict=True)), site


@pytest.mark.parametrize(
    "model",
    [one if type(one) in (ADM, DLAG, MDLAG) and one in registry.MODELS
     else pytest.param(one, marks=pytest.mark.slow) for one in registry.MODELS + VARIANTS],
    indirect=True, ids=repr,
)  # fmt: skip
def test_it_is_simulated(model, tmp_path):
    made = simulated(model)
    data, truth, sites = made.data, made.truth, made.sites
    assert np.isfinite(data.values).all()
    assert np.abs(data.values).max() < 1e3
    assert data.layout.regions == ("V1", "V2")
    assert np.isfinite(model.log_likelihood(data, sites)).all()
    # Every site is in the truth under its name, or is its table of delays.
    for name, value in sites.items():
        shown = truth["delay_level" if name == "delay" and "delay_level" in truth else name].values
        np.testing.assert_array_equal(shown[1:] if name == "delay" and len(shown) > len(value) else shown, value)
    table = model.tables.delays(sites, data.layout, data.n_bins)
    np.testing.assert_array_equal(truth["delay"], np.broadcast_to(table, truth["delay"].shape))
    assert truth["delay"].attrs["units"] == truth["timescale_across"].attrs["units"] == "s"
    assert truth["loadings"].dims == ("neuron", "column")
    assert rebuilt("model", json.loads(truth.attrs["model"])) == model
    assert {name for name, value in sites_of_truth(truth).items() if value.size} <= {*sites, "delay"}
    # A seed is a simulation; other trials have the same parameters; gaps hide values and change none.
    again, more = mrgp.simulate(model, **SMALL), mrgp.simulate(model, **SMALL | {"n_trials": 25, "ragged": 0.0})
    assert truth.identical(again.truth)
    np.testing.assert_array_equal(again.data.values, data.values)
    for name, value in sites.items():
        np.testing.assert_array_equal(more.sites[name], value)
    made.save(tmp_path)
    with xr.open_dataset(tmp_path / "truth.nc", engine="h5netcdf") as read:
        xr.testing.assert_identical(read.load(), truth)


# --- a short fit


def with_holes(data, order=slice(None)):
    """The recording with a missing entry, and a neuron missing in a trial, its trials in an order."""
    arrays = {name: np.array(data.region(name)) for name in data.layout.regions}
    arrays["V1"][0, 3, 1] = arrays["V2"][2, :, 0] = np.nan
    condition = np.array(data.trial_coords["condition"])[order]
    coords = {"trial_coords": {"condition": condition}}
    return mrgp.MultiRegionData({name: array[order] for name, array in arrays.items()}, data.bin_width, **coords)


@pytest.fixture(
    scope="module", ids=lambda model: type(model).__name__,
    params=[pytest.param(one, marks=pytest.mark.slow) if type(one) in OFTEN else one for one in registry.MODELS],
)  # fmt: skip
def case(request):
    """A model, a recording drawn from it, with holes, and a short fit."""
    made = simulated(request.param)
    data = with_holes(made.data)
    return SimpleNamespace(model=request.param, made=made, data=data, fit=request.param.fit(data, **BRIEF))


def test_a_fit_climbs(case):
    assert np.isfinite(case.fit.trace).all()
    assert case.fit.trace[-1] > case.fit.trace[0]


def test_the_order_of_trials_is_no_matter(case):
    scores = case.fit.log_likelihood().values
    assert np.isfinite(scores).all()
    other = case.fit.log_likelihood(with_holes(case.made.data, ORDER)).values
    np.testing.assert_allclose(other, scores[ORDER], rtol=1e-9)


def test_a_fit_is_saved_and_loaded(case, tmp_path):
    case.fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == case.fit.model
    assert again.sites.keys() == case.fit.sites.keys()
    for name, value in case.fit.sites.items():
        np.testing.assert_array_equal(again.sites[name], value)
    np.testing.assert_allclose(again.log_likelihood(case.data), case.fit.log_likelihood(), rtol=1e-9)


@pytest.mark.slow_cases("MDLAG", "GFA", "PCCA")
def test_arviz_has_every_site_with_its_axes(case):
    tree = case.fit.to_arviz(n_draws=3)
    groups = [tree[name] for name in ("posterior", "constant_data") if name in tree.children]
    for name in free_sites(case.fit.model, case.data).keys() - set(PARTS):
        # Delays are shown as their table, whose axes are "region" and perhaps "time".
        shown = [axis.removeprefix("later_") for group in groups if name in group for axis in group[name].dims]
        assert [axis for axis in shown if axis not in ("chain", "draw", "time")] == [
            axis.removeprefix("later_") for axis in site_of(name).dims
        ], name


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(seconds) if event.endswith("backend_compile_duration") else None
)


def test_a_second_fit_of_the_same_shape_compiles_nothing(case):
    before = len(COMPILED)
    case.model.fit(case.data, **BRIEF, seed=1)
    assert len(COMPILED) == before
