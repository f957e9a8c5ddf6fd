"""No fit ends below the model in which every neuron has its own mean; climbs find back from steps too far."""

import warnings

import numpy as np
import pytest
from mrgp.models import GPFA
from scipy import stats

import mrgp
from mrgp.inference import adaptation
from mrgp.inference.density import Density
from mrgp.inference.optimise import Objective, maximise
from mrgp.inference.run import Options, Run
from mrgp.inference.trivial import FAR, SLACK, never_below_trivial, quietened
from mrgp.parts.emissions import Gaussian, NegativeBinomial, Poisson

RNG = np.random.default_rng(0)


def recording(counts=False):
    y = RNG.poisson(0.7, (6, 8, 3)).astype(float) if counts else RNG.normal(5.0, [1.0, 2.0, 0.1], (6, 8, 3))
    y[2, 5:] = np.nan
    return mrgp.MultiRegionData({"V1": y[..., :2], "V2": y[..., 2:]}, 0.02, neuron_coords={"V2": ["unit 7"]})


def test_trivial_scores_are_those_of_each_neurons_own_density():
    data = recording()
    y = data.with_nan().reshape(-1, 3)
    own = [stats.norm(c[~np.isnan(c)].mean(), c[~np.isnan(c)].std()).logpdf(c[~np.isnan(c)]).sum() for c in y.T]
    np.testing.assert_allclose(Gaussian().trivial_log_likelihood(data), own, rtol=1e-12)
    data = recording(counts=True)
    y = data.with_nan().reshape(-1, 3)
    own = [stats.poisson(c[~np.isnan(c)].mean()).logpmf(c[~np.isnan(c)]).sum() for c in y.T]
    np.testing.assert_allclose(Poisson().trivial_log_likelihood(data), own, rtol=1e-12)
    bursts = mrgp.MultiRegionData({"V1": np.array([[[0.0], [9.0]], [[0.0], [0.0]]])}, 0.02)
    assert NegativeBinomial().trivial_log_likelihood(bursts) > Poisson().trivial_log_likelihood(bursts) + 5


class Climbs:
    """A method that ends ``missed`` nats per neuron below the trivial model, one entry a call."""

    def __init__(self, missed, reason="converged"):
        self.missed, self.reason, self.seen = list(missed), reason, []

    def __call__(self, model, data, options, start=None):
        self.seen.append((options.seed, options.quiet, start))
        if self.missed[0] > 0 and not options.fixed and self.reason != "interrupted":
            warnings.warn("of a discarded run, which nobody should hear", stacklevel=1)
        scale = np.asarray(data.scale)
        size = np.exp(self.missed.pop(0))  # loadings of the first neuron out of proportion
        sites = {
            "loadings": np.array([[1e-6], [size * 1e-6], [0.0]]), "noise": scale**2, "offset": np.asarray(data.center),
            "timescale_across": np.array([0.1]),
        }  # fmt: skip
        return Run(
            model=model, sites=sites, method="em", trace=np.array([-np.inf]), converged=True, reason=self.reason,
            iterations=1, evaluations=1,
        )  # fmt: skip


OPTIONS = Options(5, 1, 0.01, 10, None, False)


def test_a_fit_below_the_trivial_model_is_made_again_from_a_quiet_start():
    data, begun = recording(), object()
    method = Climbs([0.0])
    run = never_below_trivial(has_priors=False)(method)(GPFA(1), data, OPTIONS, begun)
    assert method.seen == [(5, False, begun)]
    method = Climbs([25.0, 0.0])
    with pytest.warns(UserWarning, match="made again, from the data and a quiet start"):
        run = never_below_trivial(has_priors=False)(method)(GPFA(1), data, OPTIONS, begun)
    assert method.seen == [(5, False, begun), (5 + FAR, True, None)]
    assert FAR > 1000  # so that runs of neighbouring seeds are not made again with each other's
    assert len(run.notes) == 1
    needed = Gaussian().trivial_log_likelihood(data).sum() - 3 * SLACK
    assert float(run.model.log_likelihood(data, run.sites).sum()) >= needed


def test_a_fit_that_stays_below_is_refused_with_the_neuron_to_look_at():
    data = recording()
    with pytest.raises(mrgp.DataError, match=r"below the model .* look at region V1, neuron 1 first"):
        never_below_trivial(has_priors=False)(Climbs([25.0] * 3))(GPFA(1), data, OPTIONS)
    with_loadings_held = Options(5, 1, 0.01, 10, None, False, fixed={"loadings": np.ones((3, 1))})
    unasked = never_below_trivial(has_priors=False)(Climbs([25.0]))
    assert unasked(GPFA(1), data, with_loadings_held).reason == "converged"
    interrupted = never_below_trivial(has_priors=False)(Climbs([25.0], "interrupted"))
    assert interrupted(GPFA(1), data, OPTIONS).reason == "interrupted"


@pytest.mark.slow
def test_a_real_climb_that_goes_wrong_is_made_again(monkeypatch):
    """The search for a start gives loadings out of all proportion to the first run only, from which two steps lead."""
    y = np.random.default_rng(1).normal(size=(10, 15, 4))
    data = mrgp.MultiRegionData({"V1": y}, 0.02)
    search = adaptation.search

    def wild(model, data, options):
        model, sites, notes = search(model, data, options)
        return model, sites if options.quiet else {**sites, "loadings": 1e3 * sites["loadings"]}, notes

    monkeypatch.setattr(adaptation, "search", wild)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = GPFA(1).fit(data, progress=False, n_starts=1, max_iterations=2)
    assert fit.notes[-1].startswith("the first climb ended below")
    assert sum("has not converged" in str(warning.message) for warning in said) == 1
    assert float(fit.log_likelihood().sum()) > Gaussian().trivial_log_likelihood(data).sum() - 4 * SLACK


def test_quiet_starts_leave_means_and_variances_alone():
    data = recording()
    sites = {"loadings": np.ones((3, 2)), "noise": np.ones(3), "offset": np.zeros(3)}
    quiet = quietened(sites, data)
    np.testing.assert_allclose(quiet["loadings"], 0.1)
    np.testing.assert_allclose(quiet["noise"], data.scale**2)
    rates = quietened({"loadings": np.ones((3, 2)), "offset": np.zeros(3)}, data)
    np.testing.assert_allclose(rates["offset"] + 0.5 * (rates["loadings"] ** 2).sum(1), 1.0)


class Cliff(Density):
    """A density that is no number beyond 30, and falls by e^x on the way there."""

    def transforms(self, data, frozen):
        from numpyro.distributions.transforms import IdentityTransform

        return {"x": IdentityTransform()}

    def __call__(self, sites, data):
        import jax.numpy as jnp

        x = sites["x"]
        return jnp.where(x < 30, 1000 * x - jnp.exp(jnp.exp(jnp.minimum(x, 6.0))), jnp.nan).sum()

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return type(other) is Cliff


def test_a_climb_finds_back_from_beyond_a_cliff():
    """The first step, of length 1 in scaled coordinates, lands where the density is no number."""
    objective = Objective(Cliff(), None, {"x": np.array([-3.0])}, {"x": np.array([40.0])})
    ascent = maximise(objective, tolerance=1e-6, max_iterations=100)
    x = float(ascent.sites["x"][0])
    assert abs(np.exp(x) + x - np.log(1000)) < 1e-3  # where the derivative vanishes
    assert np.all(np.diff(ascent.trace) >= 0)


@pytest.mark.parametrize(("spent", "left"), [(8, 2), (10, 1)])
def test_a_later_climb_has_what_earlier_ones_left_of_a_fits_iterations(spent, left):
    """One at least, which finds out whether that is the top."""
    objective = Objective(Cliff(), None, {"x": np.array([-3.0])}, {"x": np.array([0.01])})
    ascent = maximise(objective, tolerance=0.0, max_iterations=10, spent=spent)
    assert len(ascent.trace) == 1 + left
    assert not ascent.converged
    assert ascent.reason == "stopped after 10 iterations"
