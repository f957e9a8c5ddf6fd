"""Every preset with every kernel; settings that all presets share."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import registry
from mrgp.models import ADM, DLAG, GFA, GPFA, MDLAG, PCCA

import mrgp
from mrgp.parts.kernels import Matern12, Matern32, Matern52, White
from mrgp.simulations.simulate import simulate

BIN = 0.02
RNG = np.random.default_rng(0)
DATA = mrgp.MultiRegionData({name: RNG.standard_normal((2, 6, 3)) for name in "AB"}, BIN)
PRESETS = {
    "gpfa": GPFA(n_across=2),
    "dlag": DLAG(n_across=1, n_within=1, max_delay=3 * BIN),
    "adm": ADM(n_across=1, n_within=1, max_delay=3 * BIN, delay_timescale=0.1),
    "mdlag": MDLAG(n_across=2, max_delay=3 * BIN, shape=1.0, rate=1.0),
}


def sites_of(preset, delay=2.0):
    """Sites at which the likelihood can be read; whole delays, which rough kernels are read at exactly."""
    rng = np.random.default_rng(1)
    # Where regions are pooled, as in GPFA, a start is drawn for the pooled neurons.
    pooled = len(preset.assignment(DATA.layout).n_neurons) == 1
    whole = mrgp.MultiRegionData({"all": DATA.values}, BIN) if pooled else DATA
    sites = preset.fitting.draw_start(rng, whole, 0)
    for name in sites:
        if name.startswith("timescale"):
            sites[name] = BIN * (2.0 + np.arange(len(sites[name])))
    if "delay" in sites:
        sites["delay"] = np.full(sites["delay"].shape, delay * BIN)
    return preset.fitting.first_guess(sites, DATA)


# State spaces found by fits of a spectrum, which take a minute to compile; one of them is fitted in test_extending.
ALIKE = {"rational_quadratic_1", "rational_quadratic_2", "users_own"}


@pytest.mark.slow_cases("matern32-dlag", "matern52-dlag", "sum_of_three-dlag", "spectral_fixed-dlag")
@pytest.mark.parametrize(
    "preset", ["dlag", *(pytest.param(preset, marks=pytest.mark.slow) for preset in ("adm", "mdlag", "gpfa"))]
)
@pytest.mark.parametrize(
    "case",
    [pytest.param(one, marks=pytest.mark.slow) if one.name in ALIKE else one for one in registry.KERNELS],
    indirect=True, ids=lambda case: case.name,
)  # fmt: skip
def test_each_preset_runs_with_each_kernel(preset, case):
    """The state space against the exact covariance; Matern exactly, at whole delays."""
    if preset != "dlag" and case.name not in ("matern32", "spectral_inferred", "users_own"):
        pytest.skip("the same readouts as DLAG's: one kernel of each kind will do")
    model = PRESETS[preset].replace(kernel=case.kernel, gp_noise=1e-2)
    sites = sites_of(model)
    exact = model.replace(likelihood="dense").log_likelihood(DATA, sites).values
    lifted = model.log_likelihood(DATA, sites).values
    assert np.isfinite(exact).all()
    is_matern = type(model.kernel) in (Matern12, Matern32, Matern52)
    # Registers stand on whole bins; the ridge of their conditioning, 1e-11, is what is left.
    np.testing.assert_allclose(lifted, exact, atol=1e-6 if is_matern else 0.02)


class Wrong(mrgp.Kernel):
    """A box is no covariance: its spectrum is a sinc, negative in places."""

    def cov(self, tau):
        return jnp.where(jnp.abs(tau) < 1, 1.0, 0.0)


@pytest.mark.parametrize("likelihood", ["markov", "dense", "spectral"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_kernel_that_is_no_covariance_is_refused(preset, likelihood):
    with pytest.raises(ValueError, match=r"Wrong\.cov is not positive definite"):
        PRESETS[preset].replace(kernel=Wrong(), likelihood=likelihood)


@pytest.mark.parametrize("preset", [PCCA, GFA])
def test_white_models_stay_white(preset):
    assert isinstance(preset(n_across=1).kernel, White)
    with pytest.raises(ValueError, match="has no use for kernel: leave it out, or use"):
        preset(n_across=1, kernel=Matern32())


@pytest.fixture(scope="module")
def made():
    return simulate(
        regions={"A": 6, "B": 6}, n_across=1, n_within=0, n_trials=12, n_bins=30, delay=[[0], [0.03]], snr=2.0, seed=1
    )


@pytest.fixture(scope="module")
def fitted(made):
    return DLAG(n_across=1, likelihood="spectral").fit(made.data, progress=False)


@pytest.mark.slow
def test_fixed_sites_are_not_inferred(made, fitted):
    held = DLAG(n_across=1, likelihood="spectral").fit(
        made.data, start=fitted, fixed={"delay": 0, "timescale_across": [0.08]}, progress=False
    )
    assert not held.delays.values.any()
    assert held.fixed == ("delay", "timescale_across")
    np.testing.assert_array_equal(held.timescales.across, [0.08])
    assert held.trace[-1] < fitted.trace[-1] - 3   # the delay of 1.5 bins is there
    assert not held.delay_intervals()["sd"].values.any()


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"lag": 0}, "no site 'lag'"),
        ({"delay": 5.0}, r"values that the site cannot take: it is between -0\.1 and 0\.1, or widen max_delay"),
        ({"delay": np.zeros(3)}, "must be a number or of shape"),
        ({"noise": -1.0}, "values that the site cannot take: it is above 0"),
        ({"timescale_across": 2.0}, r"it is between 0\.01 and 1, or widen timescale_bounds"),
        ({"loadings": np.nan}, r"values that the site cannot take: it is Real\(\)"),
    ],
)
def test_fixed_values_are_checked(made, fixed, message):
    with pytest.raises(ValueError, match=message):
        DLAG(n_across=1, timescale_bounds=(0.01, 1.0)).fit(made.data, fixed=fixed, progress=False)


@pytest.mark.slow
def test_bounds_of_timescales_hold(made, fitted):
    model = DLAG(n_across=1, likelihood="spectral", timescale_bounds=(0.02, 0.06))
    fit = model.fit(made.data, progress=False, tolerance=0.1)
    assert float(fitted.timescales.across[0]) > 0.07   # 0.1 s is true
    assert 0.02 < float(fit.timescales.across[0]) < 0.06
    with pytest.raises(ValueError, match="low < high"):
        DLAG(n_across=1, timescale_bounds=(0.2, 0.1))


@pytest.mark.slow
def test_a_spectral_fit_is_polished_by_another_likelihood(made, fitted):
    fit = DLAG(n_across=1, likelihood="dense").fit(made.data, start=fitted, progress=False)
    assert fit.iterations < fitted.iterations + 20
    np.testing.assert_allclose(fit.delays, fitted.delays, atol=0.2 * BIN)
    with pytest.raises(ValueError, match="but this model needs"):
        DLAG(n_across=2).fit(made.data, start=fitted, progress=False)


def test_method_must_be_one_of_the_presets(made):
    with pytest.raises(ValueError, match="method is one of map, laplace, svi, nuts for DLAG, not 'vb'"):
        DLAG(n_across=1).fit(made.data, method="vb")


def test_short_forms_that_contradict_a_part_are_refused():
    with pytest.raises(ValueError, match=r"DLAG: max_delay=0.3 contradicts delays=ConstantDelay\(longest=0.2\): give"):
        DLAG(1, 0, delays=mrgp.ConstantDelay(0.2), max_delay=0.3)
    with pytest.raises(ValueError, match=r"max_delay=0.2 contradicts delays=VaryingDelay"):
        dataclasses.replace(DLAG(1, 0, max_delay=0.2), delays=mrgp.VaryingDelay(0.3))
    model = DLAG(1, 0, delays=mrgp.ConstantDelay(0.2), max_delay=0.2, order=4)
    assert dataclasses.replace(model, n_across=2) == DLAG(2, 0, max_delay=0.2, order=4)
    assert model.replace(max_delay=0.3, order=3) == DLAG(1, 0, max_delay=0.3, order=3)
    assert model.replace(max_delay=None).delays == mrgp.ConstantDelay()


def test_noise_reads_as_what_the_emission_has():
    noises = [DLAG(1, 0, **how).noise for how in ({}, {"noise": "ar1"}, {"emission": "poisson"})]
    assert noises == ["white", "ar1", None]
    assert DLAG(1, 0, noise="ar1").replace(emission="poisson").noise is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_variational_bayes_takes_delays_that_vary(made):
    fit = MDLAG(1, delays=mrgp.VaryingDelay(0.06), likelihood="dense").fit(
        made.data.select_trials(slice(0, 6)), progress=False, max_iterations=2, n_starts=1
    )
    assert fit.trace[-1] > fit.trace[0]
    assert fit.delays_vary
