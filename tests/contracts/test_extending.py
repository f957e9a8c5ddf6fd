"""Parts of one's own: each is written here alone, and then works in fits, predictions and files."""

import sys
import warnings
from dataclasses import InitVar, dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax import lax, random
from jax.scipy.special import gammaln
from mrgp.models import DLAG, FA, GFA, GPFA, LDS, MDLAG, PCCA
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from scipy import stats

import mrgp
from mrgp import metrics, studies
from mrgp.cli.main import main
from mrgp.inference.adaptation import begin, frozen_sites
from mrgp.inference.density import LogJoint
from mrgp.inference.optimise import Objective
from mrgp.inference.run import State
from mrgp.likelihoods.likelihood import Dense
from mrgp.parts.delays.constant import DELAY, BoundedDelays
from mrgp.parts.emissions import Gaussian
from mrgp.parts.emissions.base import Expected
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.loadings import Relevance, Weak
from mrgp.parts.means import PSTH
from mrgp.parts.readout import LOADINGS
from mrgp.parts.sites import SITES
from mrgp.simulations.simulate import simulate

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


@dataclass(frozen=True)
class Csv(mrgp.Reader):
    """A row per bin: the number of its trial, then its values under the names of their regions."""

    suffixes = (".csv",)
    separator: str = ","

    def read(self, path):
        names, *rows = (line.split(self.separator) for line in path.read_text().splitlines())
        (trial, *values), names = np.array(rows, float).T, np.array(names[1:])
        own = {name: np.array(values)[names == name].T for name in dict.fromkeys(names.tolist())}
        arrays = {name: [rows[trial == t] for t in np.unique(trial)] for name, rows in own.items()}
        return self.recording(arrays | {"trial_block": np.unique(trial)}, path.name)


class MedianError(mrgp.Metric):
    """Median of the absolute errors of hidden neurons."""

    unit, digits, less_is_better = "data units", 5, True

    def score(self, hidden):
        return np.nanmedian(np.abs(hidden.observed - hidden.predicted))


class NoiseRatio(mrgp.Metric):
    """Mean noise variance over that of the truth."""

    needs = metrics.SimulatedTrials

    def score(self, case):
        return case.fit.sites["noise"].mean() / case.truth["noise"].mean()


class Dispersion(mrgp.Metric):
    """A score that a model of Gaussian noise does not have."""

    needs = metrics.ScoredTrials

    def score(self, case):
        raise mrgp.DataError("the model has no dispersion")


@dataclass(kw_only=True)
class Moving(State):
    """Where Adam stands: coordinates, and running means of slopes and of their squares."""

    objective: Objective
    x: np.ndarray
    mean: np.ndarray
    square: np.ndarray


@dataclass(frozen=True)
class Adam(mrgp.Method):
    """Ascent of log p(y, parameters) by Adam (Kingma & Ba 2015), in coordinates of about one posterior sd each."""

    rate: float = 0.5

    title = "climbing by Adam"

    def init(self, driver):
        begun = begin(driver)
        model, data = begun.model, driver.data
        scales, frozen = model.fitting.scales(data, begun.sites), frozen_sites(model, driver.options)
        objective = Objective(LogJoint(model), data, begun.sites, scales, frozen)
        zero = np.zeros(objective.size)
        return Moving(**vars(begun), objective=objective, x=zero, mean=zero, square=zero)

    def step(self, driver, state):
        value, slope = state.objective(state.x)
        state.sites = state.objective.sites(state.x)
        driver.climbed(state, -value)
        state.mean = 0.8 * state.mean + 0.2 * slope
        state.square = 0.99 * state.square + 0.01 * slope**2
        steps = len(state.trace)
        size = np.sqrt(state.square / (1 - 0.99**steps)) + 1e-8
        state.x = state.x - self.rate * state.mean / (1 - 0.8**steps) / size
        return state


SLOPE = mrgp.Site("delay_slope", "later_region", "across_latent")
STEEP = 0.5  # prior sd of slopes, seconds in a second


@dataclass(frozen=True)
class Drift(BoundedDelays):
    """Delays that change at a constant rate: delay(t) = level + slope (t - middle of the trial)."""

    longest: float | None = None
    hold: bool = False

    moves = True

    @staticmethod
    def clock(extent):
        return (np.arange(extent.n_bins) - extent.covered / 2) * extent.bin_width

    def sample(self, extent):
        level = self.sample_level(extent)
        slope = SLOPE.sample(dist.Normal(0.0, STEEP).expand(extent.lagging).to_event(2))
        delay = level[..., None] + slope[..., None] * self.clock(extent)
        return jnp.moveaxis(jnp.pad(delay, [(1, 0), (0, 0), (0, 0)]), -1, 0) / extent.bin_width

    def dynamics(self, extent):
        return (DELAY.name, SLOPE.name) if min(extent.lagging) else ()

    def table(self, sites, extent):
        slope = np.asarray(sites[SLOPE.name])
        slope = np.concatenate([np.zeros_like(slope[..., :1, :]), slope], -2)
        return self.level(sites)[..., None] + slope[..., None] * self.clock(extent)

    def for_search(self):
        return mrgp.ConstantDelay(self.longest, self.hold)

    def first_guess(self, sites, extent):
        return {SLOPE.name: np.zeros(extent.lagging)}

    def scales(self, sites, extent, information):
        told = information() * np.mean(self.clock(extent) ** 2)
        return {DELAY.name: self.scale_of_level(sites, extent, information), SLOPE.name: (told + STEEP**-2) ** -0.5}


def weights(name, *shape):
    return numpyro.param(name, lambda key: random.normal(key, shape) / np.sqrt(shape[0]))


def over_time(step, start, inputs, **how):
    """All states of a recursion over the bins of trials, (trial, time, state)."""
    states = lax.scan(lambda x, u: (step(x, u),) * 2, start, jnp.swapaxes(inputs, 0, 1), **how)[1]
    return jnp.swapaxes(states, 0, 1)


@dataclass(frozen=True)
class Sequence(mrgp.Amortised):
    """A sequence VAE: latents follow a learned step, and a guide of two recurrent networks infers what drives them."""

    n_latents: int = 2
    hidden: int = 8
    emission: mrgp.Emission = mrgp.Poisson()  # noqa: RUF009  a frozen part

    def __call__(self, data):
        readout, size, n_neurons = self.emission_sites(data), self.n_latents, data.layout.total_neurons
        A, C = weights("A", size, size), weights("C", size, n_neurons)
        with self.trials(data) as some:
            drive = numpyro.sample("drive", dist.Normal(jnp.zeros((data.n_bins, size))).to_event(2))
            x = over_time(lambda x, u: jnp.tanh(x @ A) + 0.3 * u, jnp.zeros((len(drive), size)), drive)
            self.observe(some, x @ C, readout, latents=x)

    def guide(self, data):
        V, U = weights("V", data.layout.total_neurons, self.hidden), weights("U", self.hidden, self.hidden)
        W = weights("W", 2 * self.hidden, 2 * self.n_latents)
        with self.trials(data) as some:
            seen = self.shown(some)[0] @ V
            ways = [
                over_time(lambda h, u: jnp.tanh(0.5 * h @ U + u), jnp.zeros_like(seen[:, 0]), seen, reverse=way)
                for way in (False, True)
            ]
            mean, log_sd = jnp.split(jnp.concatenate(ways, -1) @ W, 2, -1)
            numpyro.sample("drive", dist.Normal(mean, jnp.exp(log_sd - 1)).to_event(2))


OWN_CLASSES = (
    Rates, Slow, Exponential, DenseAgain, Small, Bounded, Csv, MedianError, NoiseRatio, Dispersion, Adam, Drift,
    Sequence,
)  # fmt: skip
NAMES = {part: next(key for key, known in part._members.items() if known is part) for part in OWN_CLASSES}


def forget():
    for part, name in NAMES.items():
        part._members.pop(name, None)
    SITES.pop(SLOPE.name, None)


forget()  # other tests, in the same process, name the members that the package has


@pytest.fixture(scope="module", autouse=True)
def _known():
    for part, name in NAMES.items():
        part._members[name] = part
    SITES[SLOPE.name] = SLOPE
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


ALIKE = ("emission", "likelihood", "loadings", "mean")  # take the ways of the others, or those of counts


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


def test_a_method_of_ones_own_fits_any_model_and_is_known_by_its_name(data, tmp_path):
    model = GPFA(1, likelihood="dense")
    fit = model.fit(data, method=Adam(), **QUICK)
    assert (fit.method, fit.converged, fit.fixed) == ("adam", True, ())
    assert fit.trace[-1] > fit.trace[0] + 1
    again = model.fit(data, "adam", rate=0.5, **QUICK)
    np.testing.assert_array_equal(again.trace, fit.trace)
    assert "log p(y, parameters)" in repr(fit)
    assert np.isfinite(fit.predict(data.without({"V1": [0]}))["V1_mean"]).all()
    assert "timescale_across" in fit.to_arviz(n_draws=4)["posterior"]
    fit.save(tmp_path / "fit.nc")
    Adam._members.pop("adam")
    loaded = mrgp.load_fit(tmp_path / "fit.nc")  # where the class is not defined
    Adam._members["adam"] = Adam
    assert (loaded.method, loaded.summary()["method"]) == ("adam", "adam")
    np.testing.assert_allclose(loaded.log_likelihood(data), fit.log_likelihood(), rtol=1e-9)
    with pytest.raises(TypeError, match="method 'adam' knows no setting n_draws: it has rate"):
        model.fit(data, Adam(), n_draws=3)
    held = model.fit(data, Adam(), start=fit, fixed={"timescale_across": 0.2}, **QUICK)
    assert float(held.timescales["across"][0]) == 0.2


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
    with pytest.raises(ValueError, match="MDLAG: shape is of loadings='relevance'"):
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


@pytest.fixture
def csv(data, tmp_path):
    """The recording as a table, its last trial two bins shorter."""
    lines = [",".join(["trial", *["V1"] * 4, *["V2"] * 3])]
    for b, trial in enumerate(data.values):
        lines += [",".join(map(repr, [b, *row.tolist()])) for row in trial[: 22 if b == 19 else None]]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return tmp_path / "a.csv"


def test_a_reader_of_ones_own_is_found_by_its_suffix(data, csv, tmp_path):
    read = mrgp.load_recording(csv, bin_width=BIN, regions=["V2", "V1"], separator=",")
    assert read.layout.regions == ("V2", "V1")
    np.testing.assert_array_equal(read.region("V1")[:19], data.region("V1")[:19])
    assert (int(read.length[19]), read.trial_coords["block"].tolist()) == (22, list(range(20)))
    with pytest.raises(mrgp.DataError, match=r"a.csv has no bin_width: add it"):
        mrgp.load_recording(csv)
    with pytest.raises(mrgp.DataError, match=r"recordings are .npz, .npy, .nc, .zarr, .mat, .nwb or .csv files"):
        mrgp.load_recording(tmp_path / "a.txt")
    mrgp.save_recording(data, tmp_path / "a.npz")
    with pytest.raises(mrgp.DataError, match=r"separator is for .csv files, not a.npz: leave it out"):
        mrgp.load_recording(tmp_path / "a.npz", separator=";")
    with pytest.raises(TypeError, match="unexpected keyword argument 'seperator'"):
        mrgp.load_recording(csv, bin_width=BIN, seperator=";")
    with pytest.raises(mrgp.DataError, match=r"a.csv holds no spike times, which align would be for"):
        mrgp.load_recording(csv, bin_width=BIN, align="cue")


def test_a_reader_of_ones_own_goes_before_a_built_in_one(data, csv):
    body = {"__module__": "of_a_user", "suffixes": (".mat",), "read": lambda self, path: Csv(BIN).read(path)}
    lab = type("LabFile", (mrgp.Reader,), body)
    try:
        assert mrgp.load_recording(csv.rename(csv.with_suffix(".mat"))).layout == data.layout
        assert list(lab.by_suffix()) == [".npz", ".npy", ".nc", ".zarr", ".mat", ".nwb", ".csv"]
    finally:
        mrgp.Reader._members.pop("labfile")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_the_command_line_reads_what_a_reader_of_ones_own_reads(csv, tmp_path):
    quick = ("--n-starts", "1", "--max-iterations", "2", "--no-figures", "--quiet")
    fit = ["fit", str(csv), "--model", "fa", "--n-across", "1", *quick, "--out", str(tmp_path / "out")]
    assert main([*fit, "--bin-width", str(BIN)]) == 0
    assert mrgp.load_fit(tmp_path / "out" / "fit.nc").layout.n_neurons == (4, 3)


@pytest.fixture(scope="module")
def simulation():
    sizes = {"n_across": 1, "n_within": 0, "n_trials": 16, "n_bins": 6}
    return simulate(regions={"V1": 4, "V2": 3}, delay=[[0], [0]], snr=3.0, **sizes)


@pytest.fixture(scope="module")
def fit(simulation):
    return FA(1).fit(simulation.data, **QUICK)


@pytest.fixture(scope="module")
def evaluation(fit, simulation):
    return mrgp.evaluate(fit, simulation.data, truth=simulation.truth, progress=False)


@pytest.mark.slow
def test_a_metric_of_ones_own_stands_beside_the_others(evaluation, tmp_path):
    scores = evaluation.cosmoothing
    assert list(scores)[:5] == ["psth_rmse", "trial_rmse", "r2", "bits_per_bin", "median_error"]
    assert scores["median_error"].attrs["units"] == evaluation.left_out["median_error"].attrs["units"] == "data units"
    assert (scores["median_error"] < scores["trial_rmse"]).all()
    header, row = evaluation.report().splitlines()[3:5]
    assert header.split()[-3:] == ["bits/bin", "median", "error"]
    assert row.endswith(" / ".join(f"{value:.5f}" for value in scores["median_error"].sel(predictor="FA").values))
    assert evaluation.summary()["cosmoothing"]["FA"]["median_error"] == scores["median_error"][0].values.tolist()
    titles = [ax.get_title(loc="left") for ax in studies.plot_scores(scores).axes]
    assert titles[4] == "median error (data units)\nless is better"
    evaluation.save(tmp_path)
    found = mrgp.aggregate([tmp_path])
    np.testing.assert_array_equal(found.table["median_error"].iloc[:2], scores["median_error"][0])
    assert "median error" in [ax.get_title(loc="left") for ax in studies.plot_aggregate(found.table).axes]


def test_a_metric_of_ones_own_may_need_a_truth(evaluation, fit, simulation):
    ratio = float(evaluation.noise_ratio["noise_ratio"])
    assert f"; noise ratio {ratio:.3f}\n" in evaluation.report()
    assert evaluation.summary()["noise_ratio"] == ratio
    assert float(evaluation.to_xarray()["noise_ratio"]["noise_ratio"]) == ratio
    assert evaluation.dispersion is None
    assert "dispersion: the model has no dispersion" in evaluation.notes
    assert mrgp.evaluate(fit, simulation.data, n_masks=1, progress=False).noise_ratio is None
    with pytest.raises(AttributeError, match="Evaluation has no 'nois_ratio'"):
        _ = evaluation.nois_ratio


@pytest.mark.slow
def test_a_law_of_delays_of_ones_own_works_in_a_fit(tmp_path):
    """Delays of a simulation that rise by 60 ms during trials of 0.6 s."""
    made = mrgp.simulate(
        regions={"V1": 12, "V2": 12}, n_across=1, n_within=0, n_trials=30, n_bins=30, snr=4.0, timescale_across=0.08,
        delay=[[0.0], [0.06]], delay_shape="ramp",
    )  # fmt: skip
    model = DLAG(1, 0, delays=Drift(0.15), likelihood="dense")
    fit = model.fit(made.data, **QUICK)
    assert DLAG(1, 0, delays="drift", max_delay=0.15, likelihood="dense") == model
    still = DLAG(1, 0, max_delay=0.15, likelihood="dense").fit(made.data, **QUICK)
    assert fit.log_likelihood().sum() > still.log_likelihood().sum() + 10
    np.testing.assert_allclose(fit.delays.values, made.truth.delay.values, atol=0.015)
    assert fit.sites[SLOPE.name] == pytest.approx(0.1, abs=0.03)
    tree = fit.to_arviz(n_draws=5)
    assert tree["posterior"]["delay_slope"].dims == ("chain", "draw", "later_region", "across_latent")
    assert (fit.delay_intervals(over_time=True).upper > 0).isel(region=1).all()
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model.delays == fit.model.delays
    np.testing.assert_array_equal(again.delays, fit.delays)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    latent = np.sin(np.arange(30) / 4 + 2 * np.pi * rng.random((60, 1)))
    eta = latent[..., None] * rng.choice([-1, 1], 10) + rng.normal(0.3, 0.3, 10)
    values = rng.poisson(np.exp(eta)).astype(float)
    values[3, 5:9, :2] = np.nan
    return mrgp.MultiRegionData({"V1": values[..., :5], "V2": values[..., 5:]}, BIN)


def test_training_needs_optax(counts, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    told = r"the training of a model with networks needs optax, .* or mrgp with its extra \[deep\]"
    with pytest.raises(mrgp.DataError, match=told):
        Sequence().fit(counts, progress=False)


@pytest.mark.slow
def test_a_sequence_vae_of_ones_own_works_like_any_model(counts, tmp_path):
    quick = {"learning_rate": 1e-2, "batch_size": 16, "warm_up": 20, "patience": 20, "shortenings": 0}
    quick["progress"] = False
    train, test = counts.select_trials(slice(0, 50)), counts.select_trials(slice(50, None))
    model = Sequence()
    fit = model.fit(train, max_iterations=400, **quick)
    own = float(model.emission.trivial_log_likelihood(test).sum())
    assert float(fit.log_likelihood(test).sum()) > own + 300   # nats of ten trials
    again = model.fit(train, max_iterations=400, **quick)
    np.testing.assert_array_equal(again.trace, fit.trace)
    evaluation = mrgp.evaluate(fit, test, train, n_masks=1, progress=False)
    r2 = evaluation.cosmoothing["r2"].mean([dim for dim in evaluation.cosmoothing["r2"].dims if dim != "predictor"])
    assert r2.sel(predictor="Sequence") > 0.15
    filled = fit.predict(test.without({"V1": [0]}))
    assert np.isfinite(filled["V1_mean"]).all()
    assert fit.latents(test).across_mean.shape == (10, 30, 2)
    tree = fit.to_arviz(test, n_draws=4)
    assert tree["posterior"]["latents"].dims == ("chain", "draw", "trial", "time", "across_latent")
    fit.save(tmp_path / "fit.nc")
    read = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(read.log_likelihood(test), fit.log_likelihood(test), rtol=1e-9)
    assert fit.sample(3, 20).values.shape == (3, 20, 10)
    assert "Sequence" in str(fit)
    assert {path.stem for path in mrgp.plots.save_figures(fit, tmp_path, test)} == {"convergence", "reconstruction"}
    with pytest.raises(ValueError, match="no latents between bins"):
        fit.latents(test, refine=2)
    with pytest.raises(ValueError, match="Sequence has neither delays nor timescales"):
        _ = fit.delays
    with pytest.raises(ValueError, match="Sequence has no draws to leave trials out of: there are no delays"):
        mrgp.leave_one_out(fit, test, progress=False)
    with pytest.raises(ValueError, match="Sequence draws with what it has learned: fit it, and use"):
        mrgp.simulate(model, regions={"V1": 6, "V2": 4})
    with pytest.raises(ValueError, match="method is one of amortised_svi for Sequence, not 'map'"):
        model.fit(train, "map")


def test_a_short_form_that_a_subclass_sets_is_the_one_it_names():
    @dataclass(frozen=True)
    class Held(DLAG):
        hold_max_delay: InitVar[bool | None] = True

    DLAG._members.pop("held")
    assert Held(1, 0).delays == mrgp.ConstantDelay(None, hold=True)
    assert Held(1, 0, max_delay=0.2).delays == mrgp.ConstantDelay(0.2, hold=True)


@pytest.mark.slow
def test_training_that_goes_on_ends_no_lower(counts):
    quick = {"learning_rate": 1e-2, "batch_size": 16, "patience": 3, "shortenings": 0, "progress": False}
    with pytest.raises(ValueError, match="warm_up 50 epochs: raise max_iterations, or lower warm_up"):
        Sequence().fit(counts, max_iterations=40, **quick)
    fit = Sequence().fit(counts, max_iterations=60, warm_up=10, **quick)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # five epochs are not enough to converge
        longer = Sequence().fit(counts, start=fit, max_iterations=5, **quick)
    assert longer.trace[-1] >= longer.trace[0]
    assert longer.trace[0] == pytest.approx(fit.trace[-1], rel=0.01)   # other draws of the guide
    assert longer.iterations <= 5
    for wrong in ({"apart": 1.0}, {"batch_size": 0}, {"learning_rate": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            mrgp.AmortisedSVI(**wrong)
