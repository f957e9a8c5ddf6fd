"""Parts of one's own: each is written here alone, and then works in fits, predictions and files."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax import random
from jax.scipy.special import gammaln
from mrgp.models import DLAG, FA, GFA, GPFA, LDS, MDLAG, PCCA
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from scipy import stats

import mrgp
from mrgp.likelihoods.likelihood import Dense
from mrgp.parts.emissions import Gaussian
from mrgp.parts.emissions.base import Expected
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.loadings import Relevance, Weak
from mrgp.parts.means import PSTH
from mrgp.parts.readout import LOADINGS

RNG = np.random.default_rng(3)
BIN = 0.02


@dataclass(frozen=True)
class Rates(Counts):
    """Positive values y ~ Gamma of mean exp(eta) and variance exp(2 eta) / shape, such as rates of calcium events."""

    shape: float = 4.0

    support = constraints.nonnegative

    def check_values(self, data):
        if (np.asarray(data.values)[data.mask] <= 0).any():
            raise mrgp.DataError("rates are positive: leave out neurons with other values")

    def check(self, data):
        self.check_values(data)

    def expected(self, y, mean, variance):
        told = y * jnp.exp(0.5 * variance - mean)
        return Expected(-self.shape * (mean + told), self.shape * (told - 1), self.shape * told)

    def normalizer(self, y):
        log_y = jnp.log(jnp.where(y > 0, y, 1.0))  # 0 stands where an entry is missing
        return self.shape * np.log(self.shape) + (self.shape - 1) * log_y - gammaln(self.shape)

    def draw(self, key, eta):
        return jnp.exp(eta) * random.gamma(key, self.shape, eta.shape) / self.shape

    def variance(self, rate, square):
        return square / self.shape

    def trivial_log_likelihood(self, data):
        mean = np.asarray(data.center)
        scores = stats.gamma.logpdf(np.asarray(data.values), self.shape, scale=mean / self.shape)
        return np.where(data.mask, scores, 0.0).sum((0, 1))


@dataclass(frozen=True)
class Slow(PSTH):
    """A mean that changes over half a trial."""

    timescale: float = 0.2


@dataclass(frozen=True)
class Exponential(mrgp.Kernel):
    """The kernel of the documentation."""

    def cov(self, tau):
        return jnp.exp(-jnp.abs(tau))


@dataclass(frozen=True)
class DenseAgain(Dense):
    """A likelihood under another name."""


@dataclass(frozen=True)
class Small(Weak):
    """Loadings of a hundredth of the usual prior spread."""

    def sample(self, data, assignment, emission):
        with numpyro.plate("neuron", sum(assignment.n_neurons)):
            narrow = dist.Normal(0.0, 0.01 * emission.loadings_scale(data)[:, None])
            loadings = LOADINGS.sample(narrow.expand((len(data.scale), assignment.n_columns)).to_event(1))
        return emission.sample(data, assignment, loadings)


@dataclass(frozen=True)
class Bounded(Gaussian):
    """An emission that cannot be without a setting."""

    largest: float


OWN_CLASSES = (Rates, Slow, Exponential, DenseAgain, Small, Bounded)
NAMES = {part: next(key for key, known in part._members.items() if known is part) for part in OWN_CLASSES}


def forget():
    for part, name in NAMES.items():
        part._members.pop(name, None)


forget()  # other tests, in the same process, name the members that the package has


@pytest.fixture(scope="module", autouse=True)
def _known():
    for part, name in NAMES.items():
        part._members[name] = part
    yield
    forget()


def recording():
    """Values of 7 neurons in 2 regions whose log-rates follow one latent; positive, no whole numbers."""
    latent = np.sin(np.arange(24) / 4 + 2 * np.pi * RNG.random((20, 1)))
    eta = 0.5 * latent[..., None] * RNG.choice([-1, 1], 7) + RNG.normal(0.5, 0.3, 7)
    values = np.exp(eta) * RNG.gamma(4.0, 1 / 4.0, eta.shape)
    return mrgp.MultiRegionData({"V1": values[..., :4], "V2": values[..., 4:]}, BIN)


QUICK = {"n_starts": 1, "tolerance": 0.5, "progress": False}


@pytest.fixture(scope="module")
def data():
    return recording()


OWN = {
    "emission": Rates(), "mean": Slow(), "kernel": Exponential(), "likelihood": DenseAgain(), "loadings": Small(),
}  # fmt: skip


ALIKE = ("kernel", "likelihood", "loadings")  # take the ways of the others


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in ALIKE else n for n in OWN])
def test_a_part_of_ones_own_works_in_a_fit(name, data, tmp_path):
    model = GPFA(1, **({"likelihood": "dense"} | {name: OWN[name]}))
    fit = model.fit(data, **QUICK)
    scores = fit.log_likelihood()
    assert np.isfinite(scores).all()
    assert float(scores.sum()) > float(model.emission.trivial_log_likelihood(data).sum())
    filled = fit.predict(data.without({"V1": [0]}))
    assert np.isfinite(filled["V1_mean"]).all()
    assert "timescale_across" in fit.to_arviz(n_draws=4)["prior"]
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == fit.model
    np.testing.assert_allclose(again.log_likelihood(data), scores, rtol=1e-9)
    drawn = fit.sample(3, 24)
    assert drawn.values.shape == (3, 24, 7)
    made = mrgp.simulate(model, regions={"V1": 4, "V2": 3}, n_trials=3, n_bins=24)
    assert np.isfinite(model.log_likelihood(made.data, made.sites)).all()  # which checks the values too


def test_a_part_of_ones_own_is_known_by_its_name():
    model = DLAG(1, 0, emission="rates", mean="slow", likelihood="dense_again", loadings="small", kernel="exponential")
    assert model == DLAG(1, 0, **OWN)
    assert model.to_settings()["emission"] == {"name": "rates", "shape": 4.0}
    assert model.replace(emission=Rates(shape=2.0)).to_settings()["emission"] == {"name": "rates", "shape": 2.0}
    with pytest.raises(ValueError, match="DLAG: mean is 'constant', 'psth' or 'slow', not 'fast'"):
        DLAG(1, 0, mean="fast")


def test_a_part_that_needs_a_setting_says_so():
    model = GPFA(1, emission=Bounded(2.0))
    assert repr(model) == "GPFA(n_across=1, emission=Bounded(largest=2.0))"
    assert type(model).from_settings(model.to_settings()) == model
    with pytest.raises(ValueError, match=r"GPFA: emission 'bounded' has settings: give Bounded\(...\) with them"):
        GPFA(1, emission="bounded")


def test_a_built_in_part_is_not_replaced():
    with pytest.raises(ValueError, match="emission 'poisson' is built in"):
        type("Poisson", (Counts,), {"__module__": "of_a_user"})
    for _ in range(2):  # a cell that is run again
        again = type("OfACell", (mrgp.Kernel,), {"__module__": "of_a_user"})
    assert mrgp.Kernel.members()["ofacell"] is again
    mrgp.Kernel._members.pop("ofacell")


def test_a_missing_answer_is_told():
    with pytest.raises(NotImplementedError):
        type("Unfinished", (Counts,), {"__module__": "of_a_user"}, abstract=True)().draw(None, None)


@pytest.mark.parametrize("wrong", [None, 3, PSTH, Slow])
def test_what_is_no_part_is_refused(wrong):
    with pytest.raises(ValueError, match=r"DLAG: mean is 'constant'.*, not "):
        DLAG(1, 0, mean=wrong)


def test_a_named_part_that_is_there_keeps_its_settings():
    assert DLAG(1, 0, mean="psth", mean_timescale=0.2).replace(mean="psth").mean == PSTH(0.2)
    assert DLAG(1, 0, mean="psth", mean_timescale=0.2).replace(mean="constant").replace(mean="psth").mean == PSTH()
    with pytest.raises(ValueError, match="MDLAG: shape are of loadings='relevance'"):
        MDLAG(2, loadings="weak", shape=1.0)
    with pytest.raises(ValueError, match="MDLAG of counts has no use for offset_precision"):
        MDLAG(2, offset_precision=0.5).replace(emission="poisson")
    with pytest.raises(ValueError, match="DLAG of counts has no use for offset_precision"):
        DLAG(1, 0, loadings=Relevance(offset_precision=0.5), emission="poisson")


def test_loadings_that_a_model_has_no_use_for_are_refused():
    for model in (FA, PCCA, LDS):
        with pytest.raises(ValueError, match=f"{model.__name__} has no use for loadings"):
            model(1, loadings="relevance")
    model = GFA(2, shape=1.0, rate=1.0).replace(gp_noise=1e-5)
    assert model.loadings == Relevance(1.0, 1.0)


def test_small_loadings_have_a_small_prior(data):
    trace = handlers.trace(handlers.seed(GPFA(1, loadings=Small(), likelihood="dense"), 0)).get_trace(data)
    np.testing.assert_allclose(trace["loadings"]["fn"].base_dist.scale[:, 0], 0.03 * data.scale)


def test_values_that_an_emission_of_ones_own_cannot_have_are_refused(data):
    values = np.array(data.region("V1"))
    values[0, 0, 0] = -1.0
    with pytest.raises(mrgp.DataError, match="rates are positive"):
        GPFA(1, emission=Rates(), likelihood="dense").fit(mrgp.MultiRegionData({"V1": values}, BIN), **QUICK)


def test_the_expectations_of_an_emission_of_ones_own_are_its_density():
    """E log p by quadrature over eta; slope and curvature as slopes of that."""
    y, m, v, rates = 1.7, 0.3, 0.2, Rates()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def value(mean, variance):
        eta = mean + np.sqrt(variance) * nodes
        scores = stats.gamma.logpdf(y, rates.shape, scale=np.exp(eta) / rates.shape)
        return float(weights @ scores / weights.sum())

    found = rates.expected(jnp.asarray(y), jnp.asarray(m), jnp.asarray(v))
    np.testing.assert_allclose(found.value + rates.normalizer(jnp.asarray(y)), value(m, v), rtol=1e-9)
    step = 1e-4
    np.testing.assert_allclose(found.slope, (value(m + step, v) - value(m - step, v)) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(found.curvature, -(value(m, v + step) - value(m, v - step)) / step, rtol=1e-6)
