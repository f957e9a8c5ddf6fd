"""The simulator against the model's own covariance, its promises, and what it refuses."""

import errno
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from mrgp.likelihoods.statespace.assemble import Latents, Prior
from mrgp.likelihoods.statespace.covariance import exact_covariance
from mrgp.parts.delays.shapes import gaussian_bump
from mrgp.parts.kernels import Kernel, Matern32, Spectral, SquaredExponential, in_bins
from mrgp.parts.latents import LatentLayout
from mrgp.recordings.load import load_recording
from mrgp.simulations.scenarios import SCENARIOS, simulate_scenario
from mrgp.simulations.simulate import MAX_POINTS, Simulation, simulate

BIN = 0.02   # seconds
SMALL = {"regions": {"A": 3, "B": 2}, "n_trials": 6, "n_bins": 8}


def same(a: Simulation, b: Simulation) -> bool:
    return a.truth.identical(b.truth) and np.array_equal(a.data.values, b.data.values)


def assert_covariance(samples: np.ndarray, V: np.ndarray) -> None:
    """Samples (sample, size) are consistent with N(0, V).

    Whitened, the entries of their second moment are uncorrelated, with variance 1 / n, on the diagonal 2 / n.
    Of some 4,000 entries one leaves 5 standard errors by chance with probability 2e-3; their mean square is 1
    within 5 sqrt(2 / entries), which catches what is spread thinly.
    """
    white = np.linalg.solve(np.linalg.cholesky(V), samples.T)
    n, size = samples.shape
    error = (white @ white.T / n - np.eye(size)) / np.sqrt((1 + np.eye(size)) / n)
    error = error[np.tril_indices(size)]
    assert np.abs(error).max() < 5
    assert np.mean(error**2) == pytest.approx(1.0, abs=5 * np.sqrt(2 / len(error)))


def model_covariance(simulation: Simulation, kernel: Kernel, n_within: tuple[int, ...]) -> np.ndarray:
    """The exact covariance (time * readout) of the model at the simulation's true parameters."""
    truth, data = simulation.truth, simulation.data
    assignment = LatentLayout(data.layout.n_neurons, truth.sizes["across_latent"], n_within)
    delay = truth["delay"].values.reshape(*truth["delay"].shape[:2], -1)
    delay = np.moveaxis(delay, -1, 0) / data.bin_width   # (time or 1, region, across_latent)

    def hyper(kind: str) -> dict[str, jax.Array]:
        seconds = truth[f"timescale_{kind}"].values
        own = {name: jnp.full(len(seconds), value) for name, value in kernel.parameters().items()}
        return in_bins({**own, "timescale": jnp.asarray(seconds)}, data.bin_width)

    latents = Latents(jnp.asarray(delay), hyper("across"), hyper("within"))
    prior = Prior(kernel, truth.attrs["gp_noise"], assignment)
    return np.asarray(exact_covariance(prior, latents, data.n_bins))


CONSTANT = np.array([[0, 0], [2.25, -0.75], [1.0, 0.5]]) * BIN
MOVING = np.array([[0, 0], [1.5, 0.5], [-2.0, 3.0]])[..., None] * np.linspace(-1, 1, 10) ** 3 * BIN


@pytest.mark.parametrize(
    ("kernel", "delay"),
    [(SquaredExponential(), CONSTANT), (Spectral(Matern32(), frequency=6.0), CONSTANT), (Matern32(), MOVING)],
    ids=["constant", "rhythm", "moving"],
)
def test_readouts_have_the_covariance_of_the_model(kernel, delay):
    simulation = simulate(
        regions={"A": 1, "B": 1, "C": 1},
        n_within=(1, 0, 2),
        n_trials=4000,
        n_bins=10,
        timescale_across=(0.08, 0.03),
        timescale_within=(0.05, 0.02, 0.1),
        kernel=kernel,
        delay=delay,
        gp_noise=0.02,
    )
    V = model_covariance(simulation, kernel, (1, 0, 2))
    x = simulation.truth["readouts"].values.reshape(4000, -1)
    assert_covariance(x, V)
    truth = simulation.truth
    later = truth["delay"] + 0.05 * BIN * (truth["region"] == "C")
    off = Simulation(simulation.data, truth.assign(delay=later))
    with pytest.raises(AssertionError):   # a twentieth of a bin would be seen
        assert_covariance(x, model_covariance(off, kernel, (1, 0, 2)))


def test_observations_have_the_covariance_of_the_model():
    delay = [[0, 0], [0.03, -0.05]]
    simulation = simulate(**(SMALL | {"n_trials": 4000}), n_within=(0, 1), delay=delay, snr=2.0)
    truth = simulation.truth
    C = np.zeros((5, 5))   # readouts A: 0 1, B: 2 3, B's own: 4
    C[:3, :2], C[3:, 2:] = truth["loadings"][:3, :2], truth["loadings"][3:]
    V = model_covariance(simulation, SquaredExponential(), (0, 1)).reshape(8, 5, 8, 5)
    S = np.einsum("ni,tisj,mj->tnsm", C, V, C).reshape(40, 40) + np.diag(np.tile(truth["noise"], 8))
    y = (simulation.data.values - truth["offset"].values).reshape(4000, -1)
    assert_covariance(y, S)
    assert np.abs(y.mean(0) / np.sqrt(np.diag(S) / 4000)).max() < 5
    assert not truth["loadings"][:3, 2].any()   # A has no private latent


@pytest.mark.parametrize("delay_bins", [2.0, 0.37, -1.6])
def test_cross_covariance_peaks_at_the_delay(delay_bins):
    n_groups = 20
    pair = {"regions": {"lead": 1, "lag": 1}, "n_across": 1, "n_within": 0, "timescale_across": 3 * BIN}
    delay = [[0], [delay_bins * BIN]]
    truth = simulate(**pair, n_trials=n_groups * 100, n_bins=40, delay=delay, seed=2).truth
    lead, lag = np.moveaxis(truth["readouts"].values.reshape(n_groups, 100, 40, 2), -1, 0)
    near = round(delay_bins) + np.arange(-1, 2)
    inner = slice(4, 36)

    def covariance(shift: int) -> np.ndarray:
        return (lead[..., inner] * lag[..., 4 + shift : 36 + shift]).mean((1, 2))   # (group,)

    # The logarithm of a squared exponential is a parabola: its top through three points is exact.
    below, middle, above = np.log([covariance(int(shift)) for shift in near])
    peak = near[1] + 0.5 * (below - above) / (below - 2 * middle + above)
    assert abs(peak.mean() - delay_bins) < 4 * peak.std(ddof=1) / np.sqrt(n_groups)
    assert peak.std(ddof=1) / np.sqrt(n_groups) < 0.02   # so a delay rounded to bins would be seen


def test_region_1_is_the_undelayed_clock():
    truth = simulate(**SMALL, gp_noise=1e-12).truth
    np.testing.assert_allclose(truth["readouts"][..., :2], truth["across"], atol=1e-4)
    np.testing.assert_allclose(truth["readouts"][..., 4:], truth["within"], atol=1e-4)


def test_a_seed_is_a_recording():
    assert same(simulate(**SMALL, seed=3), simulate(**SMALL, seed=3))
    assert not same(simulate(**SMALL, seed=3), simulate(**SMALL, seed=4))


def test_double_precision_whatever_the_session():
    with jax.enable_x64(False):
        single = simulate(**SMALL, n_within=(2, 0))
    assert same(single, simulate(**SMALL, n_within=(2, 0)))


def test_parameters_do_not_depend_on_trials_nor_values_on_gaps():
    names = ["delay", "loadings", "noise", "offset"]
    few, many = simulate(**SMALL).truth, simulate(**(SMALL | {"n_trials": 9})).truth
    assert few[names].equals(many[names])
    whole, gaps = simulate(**SMALL).data, simulate(**SMALL, ragged=0.5, missing=0.3).data
    np.testing.assert_array_equal(gaps.values, np.where(gaps.mask, whole.values, 0))


@pytest.mark.parametrize("heterogeneity", [0.0, 0.7])
def test_snr_is_attained(heterogeneity):
    wanted = np.array([0.5, 4.0])
    size = {"regions": {"A": 8, "B": 5}, "n_trials": 400}
    simulation = simulate(**size, snr=wanted, noise=0.3, heterogeneity=heterogeneity)
    truth = simulation.truth
    signal, noise = (truth["loadings"] ** 2).sum("column").values, truth["noise"].values
    regions = truth["region_of_neuron"].values
    ratio = [signal[regions == name].sum() / noise[regions == name].sum() for name in "AB"]
    np.testing.assert_allclose(ratio, wanted, rtol=1e-12)
    # In the data: the slowest latent, of 5 bins, decorrelates in 5 sqrt(pi) = 9 bins, the integral of k^2, so
    # 40,000 bins are worth 4,400 samples; a variance then has a relative error of sqrt(2 / 4400) = 2%.
    np.testing.assert_allclose(simulation.data.values.var((0, 1)), signal + noise, rtol=0.08)


@pytest.mark.parametrize("heterogeneity", [0.0, 0.7])
def test_a_region_loads_on_the_latents_it_reads(heterogeneity):
    table = np.array([[True, False, True], [True, True, False], [False, False, False]])
    size = SMALL | {"regions": {"A": 4, "B": 3, "C": 2}, "n_across": 3, "n_within": (0, 1, 1)}
    simulation = simulate(**size, shared_by=table, snr=[0.5, 1.0, 2.0], heterogeneity=heterogeneity)
    truth = simulation.truth
    xr.testing.assert_equal(truth["shared_by"], truth["shared_by"].copy(data=table))
    assert truth["shared_by"].dtype == bool
    read = np.column_stack([table, [False, True, True]])[[0] * 4 + [1] * 3 + [2] * 2]
    np.testing.assert_array_equal(truth["loadings"] != 0, read)
    signal, noise = (truth["loadings"] ** 2).sum("column"), truth["noise"]
    ratio = signal.groupby("region_of_neuron").sum() / noise.groupby("region_of_neuron").sum()
    np.testing.assert_allclose(ratio, [0.5, 1.0, 2.0], rtol=1e-12)
    # What C does not read does not reach it: its own latent and noise are all it shows, with delays or without.
    moved = simulate(**size, shared_by=table, snr=[0.5, 1.0, 2.0], heterogeneity=heterogeneity, delay=np.zeros((3, 3)))
    np.testing.assert_array_equal(moved.data.region("C"), simulation.data.region("C"))


def test_all_read_all_unless_told():
    assert same(simulate(**SMALL, heterogeneity=0.5), simulate(**SMALL, heterogeneity=0.5, shared_by=np.ones((2, 2))))
    assert simulate(**SMALL).truth["shared_by"].values.all()


def test_noise_of_every_neuron():
    noise = np.array([0.1, 2.0, 0.3, 0.4, 5.0])
    np.testing.assert_array_equal(simulate(**SMALL, noise=noise).truth["noise"], noise)
    assert same(simulate(**SMALL, noise=0.3), simulate(**SMALL, noise=[0.3] * 5))


def test_heterogeneity_spreads_scales():
    many = {"regions": {"A": 4000, "B": 10}, "n_trials": 1, "n_bins": 2}
    assert np.ptp(simulate(**many, noise=0.2).truth["noise"].values) == 0
    noise = simulate(**many, noise=0.2, heterogeneity=0.5).truth["noise"]
    # Four standard errors: of the mean 0.5 / sqrt(4000) = 0.008, of the deviation 0.5 / sqrt(8000) = 0.006.
    assert float(np.log(noise).mean()) == pytest.approx(np.log(0.2), abs=0.032)
    assert float(np.log(noise).std()) == pytest.approx(0.5, abs=0.024)


def test_random_delays_stay_within_max_delay():
    many = SMALL | {"regions": dict.fromkeys("ABCDEF", 1), "n_across": 20}
    delay = simulate(**many, max_delay=0.06).truth["delay"]
    assert not delay[0].any()
    assert 0.05 < delay.max() < 0.06
    assert -0.06 < delay.min() < -0.05


def test_one_region_has_nothing_to_lag_behind():
    made = simulate(regions={"V1": 3}, n_trials=2, n_bins=10)
    assert made.data.values.shape == (2, 10, 3)
    np.testing.assert_array_equal(made.truth["delay"], np.zeros((1, 2)))


def test_delay_shape_moves_the_delay():
    amplitude = np.array([[0, 0], [0.05, -0.02]])
    parameters = {"center": [[0, 0], [0.25, 0.75]], "width": 0.2}
    bumps = simulate(**SMALL, delay=amplitude, delay_shape="gaussian_bump", shape_parameters=parameters)
    expected = gaussian_bump(np.arange(8) * BIN, 8 * BIN, amplitude, **parameters)
    assert bumps.truth["delay"].dims == ("region", "across_latent", "time")
    assert same(bumps, simulate(**SMALL, delay=expected))


def test_ragged_and_missing_fractions():
    size = {"n_trials": 400, "n_bins": 50}
    data = simulate(**size, ragged=0.4).data
    assert data.observed is None
    assert (data.length.min(), data.length.max()) == (30, 50)
    # Lengths are uniform on 30..50, of standard deviation sqrt((21^2 - 1) / 12) = 6.1; four standard errors.
    assert data.length.mean() == pytest.approx(40, abs=4 * 6.1 / np.sqrt(400))

    data = simulate(**size, missing=0.1).data
    np.testing.assert_array_equal((~data.mask).sum((0, 1)), 2000)   # a tenth of every neuron's 20,000 entries
    session = data.mask.reshape(-1, 40).astype(int)
    switches = np.abs(session - np.roll(session, 1, axis=0)).sum(0)
    np.testing.assert_array_equal(switches, 2)   # one block each, on the circle of the session
    assert data.mask.mean(2).min() >= 0.9 - 1 / 40   # blocks are spread evenly

    both = simulate(**size, ragged=0.4, missing=0.25).data
    inside = both.mask.any(2).sum()
    np.testing.assert_allclose((~both.mask[both.mask.any(2)]).sum(0), 0.25 * inside, atol=0.5)


@pytest.mark.parametrize("latents", [{"n_within": (2, 0)}, {"n_within": 0}, {"n_across": 0}])
def test_truth_and_recording_round_trip(tmp_path, latents):
    simulation = simulate(**(SMALL | latents), ragged=0.3, missing=0.2, seed=5)
    simulation.save(folder := tmp_path / "new" / "folder")
    with xr.open_dataset(folder / "truth.nc", engine="h5netcdf") as truth:
        xr.testing.assert_identical(truth.load(), simulation.truth)
    data = load_recording(folder / "recording.nc")
    np.testing.assert_array_equal(data.values, simulation.data.values)
    np.testing.assert_array_equal(data.mask, simulation.data.mask)
    assert data.layout == simulation.data.layout


@pytest.mark.parametrize("broken", ["recording", "truth"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, broken):
    simulate(**SMALL, seed=1).save(tmp_path)
    before = (tmp_path / f"{broken}.nc").read_bytes()
    write = Path.write_bytes

    def fill_the_disk(path, content):
        if broken not in path.name:
            return write(path, content)
        write(path, b"half a file")
        raise OSError(errno.ENOSPC, "a story of HDF5's")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    full = rf"cannot write {broken}.nc into folder {tmp_path}: No space left on device; what was there before is whole"
    with pytest.raises(OSError, match=full):
        simulate(**SMALL, seed=2).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"recording.nc", "truth.nc"}
    assert (tmp_path / f"{broken}.nc").read_bytes() == before


def test_what_truth_says():
    within = {"n_within": (0, 2), "timescale_within": (0.05, 0.1)}
    truth = simulate(**SMALL, **within, kernel=Matern32(), seed=7).truth
    assert truth.attrs == {"gp_noise": 1e-3, "bin_width": BIN, "seed": 7, "kernel": "Matern32"}
    assert list(truth["region_of_within"].values) == ["B", "B"]
    assert list(truth["region_of_neuron"].values) == ["A"] * 3 + ["B"] * 2
    assert list(truth["region_of_readout"].values) == ["A", "A", "B", "B", "B", "B"]
    np.testing.assert_array_equal(truth["timescale_within"], [0.05, 0.1])
    latents = {"across_latent": 2, "within_latent": 2, "column": 4, "readout": 6}
    assert truth.sizes == {"trial": 6, "time": 8, "region": 2, "neuron": 5} | latents


BENCHMARKS = {   # trials, bins, neurons per region, within latents
    "dlag": (50, 200, (100,) * 2, 2),
    **dict.fromkeys(("dlag_ssm", "adm"), (50, 200, (100,) * 5, 5)),
    "mdlag": (50, 200, (100,) * 3, 0),
    **dict.fromkeys(("small_constant", "small_bump"), (20, 50, (20, 20), 2)),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios(name):
    shorter = {"n_trials": 2, "n_bins": 40}
    simulation = simulate_scenario(name, seed=1, **shorter)
    truth = simulation.truth
    assert same(simulation, simulate(**(SCENARIOS[name] | shorter), seed=1))
    if name in BENCHMARKS:
        sizes = SCENARIOS[name]["n_trials"], SCENARIOS[name]["n_bins"], simulation.data.layout.n_neurons
        assert (*sizes, truth.sizes["within_latent"]) == BENCHMARKS[name]
        np.testing.assert_allclose(truth["timescale_across"] / BIN, [4.4721, 1.4142], rtol=1e-4)
    delay = truth["delay"] / BIN
    if name == "dlag_ssm":
        np.testing.assert_allclose(delay, [[0, 0], [3, 1], [2.5, 5 / 6], [2, 2 / 3], [1.5, 0.5]])
    if name in ("gpfa", "no_delay"):
        assert not delay.values.any()
    assert truth.attrs["kernel"] == ("Matern52" if name == "matern" else "SquaredExponential")
    if name == "adm":   # bumps at fractions .085, .135, .185, .235 of 40 bins
        assert list(delay.argmax("time")[1:, 0].values) == [3, 5, 7, 9]
        assert float(delay.max()) == pytest.approx(2.7, rel=0.03)


@pytest.mark.parametrize("name", SCENARIOS)
def test_trials_of_every_scenario_can_differ_in_length(name):
    data = simulate_scenario(name, n_trials=4, ragged=0.3, seed=2).data
    n_bins = SCENARIOS[name]["n_bins"]
    assert data.length.max() == n_bins
    assert round(0.7 * n_bins) <= data.length.min() < n_bins
    inside = np.arange(n_bins) < data.length[:, None]
    np.testing.assert_array_equal(data.mask, np.broadcast_to(inside[..., None], data.values.shape))


PUBLISHED = {   # file; per latent, how near in bins the delays come, see the comment in the scenarios' source
    "dlag": ("dlag", 1e-9),
    "dlag_ssm": ("dlag_ssm", 1e-9),
    "mdlag": ("mdlag", 1e-9),
    "mdlag_demo": ("mdlag_demo", 1e-9),
    "small_constant": ("small_const_K2", 1e-9),
    "adm": ("adm", (5e-3, 1e-3)),
    "small_bump": ("small_gauss_K2", (0.025, 1e-3)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_scenarios_are_the_published_recordings(shared_data, name):
    file, near = PUBLISHED[name]
    with np.load(shared_data / f"{file}.npz") as recording, np.load(shared_data / f"{file}_truth.npz") as published:
        arrays = [values for values in recording.values() if values.ndim == 3]
        expected, bin_width = dict(published), float(recording["bin_width"])
    n_neurons = tuple(values.shape[2] for values in arrays)
    one = simulate_scenario(name, n_trials=1)
    truth, scenario = one.truth, SCENARIOS[name]
    assert one.data.layout.n_neurons == n_neurons
    assert (scenario["n_trials"], scenario["n_bins"]) == arrays[0].shape[:2]
    assert truth.attrs["bin_width"] == bin_width
    assert truth.attrs["gp_noise"] == 1e-3

    delay = truth["delay"].transpose(..., "region", "across_latent").values / bin_width
    wanted = expected["delay_bins"]
    assert delay.shape == wanted.shape
    before = slice(-17) if delay.ndim == 3 else slice(None)   # the published bumps are mirrored in the last 17 bins
    assert (np.abs(delay - wanted)[before] <= near).all()

    lengths = {"across": expected.get("lengthscale_across_bins", expected.get("lengthscale_bins"))}
    if truth.sizes["within_latent"]:
        lengths["within"] = expected["lengthscale_within_bins"]
        assert truth.sizes["within_latent"] == len(n_neurons) * expected["n_within"]
    for kind, length in lengths.items():
        np.testing.assert_allclose(truth[f"timescale_{kind}"], length * bin_width, rtol=1e-9)

    power = (expected["loadings"] ** 2).sum(1)
    regions = np.repeat(np.arange(len(n_neurons)), n_neurons)
    if name == "mdlag_demo":
        np.testing.assert_array_equal(truth["shared_by"], expected["significant"].astype(bool))
        # Noise is what is left of the recording's variance. The longest latent, of 6 bins, is worth 2500 / (6
        # sqrt(pi)) = 235 samples: 9% of the signal is one standard error. Of the noise it is sqrt(2 / 2500) = 3%.
        noise, rough = truth["noise"].values, 0.05   # ratios agree to 5%: the variances have two digits
        left = np.concatenate(arrays, axis=2).var((0, 1)) - power
        assert (np.abs(noise - left) < 4 * (0.09 * power + 0.03 * noise)).all()
    else:
        assert truth["shared_by"].values.all()
        noise, rough = expected["noise_variance"], 1e-6
        np.testing.assert_allclose(truth["noise"], noise, rtol=1e-9)
        np.testing.assert_allclose(truth["offset"], expected["offset"], atol=1e-9)
    ratio = np.bincount(regions, power) / np.bincount(regions, noise)
    np.testing.assert_allclose(np.broadcast_to(scenario["snr"], len(n_neurons)), ratio, rtol=rough)


DRAWN = {   # |loadings|, noise, |readouts|, |data|, each summed, of commit 20f5b48; bumps as they are since
    "dlag": (48.13580622, 10, 395.77989, 3569.471321),
    "dlag_ssm": (120.4957561, 25, 937.5919703, 8805.603825),
    "adm": (120.4957561, 25, 933.0510792, 8775.384309),
    "mdlag": (48.15997959, 15, 403.6433133, 5069.649548),
    "small_constant": (21.20553143, 2, 388.7881415, 1079.25963),
    "small_bump": (21.20553143, 2, 387.7173696, 1073.620545),
    "demo": (51.26642531, 40.64383665, 384.70306, 3930.121321),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_draws_what_it_always_drew(name):
    simulation = simulate_scenario(name, seed=1, n_trials=2, n_bins=40)
    drawn = [simulation.truth[key] for key in ("loadings", "noise", "readouts")] + [simulation.data.values]
    # Rounding of 1e-15, in a factor with pivots of 3e-5 (the root of the jitter), stays below 1e-9 of a sum.
    np.testing.assert_allclose([float(np.abs(values).sum()) for values in drawn], DRAWN[name], rtol=1e-8)


def test_latents_can_have_frequencies_of_their_own():
    given = {"frequency_across": [3.0, 3.0], "frequency_within": 3.0}
    free = simulate(**SMALL, kernel=Spectral(), kernel_parameters=given)
    fixed = simulate(**SMALL, kernel=Spectral(frequency=3.0))
    assert np.array_equal(free.data.values, fixed.data.values)
    assert free.truth["frequency_within"].dims == ("within_latent",)
    assert "frequency_across" not in fixed.truth
    other = simulate(**SMALL, kernel=Spectral(), kernel_parameters=given | {"frequency_across": [3.0, 8.0]}).truth
    assert np.array_equal(other["across"][..., 0], free.truth["across"][..., 0])
    assert not np.allclose(other["across"][..., 1], free.truth["across"][..., 1])
    assert np.array_equal(other["frequency_across"], [3.0, 8.0])


class Box(Kernel):
    def cov(self, tau):   # not positive definite
        return jnp.where(jnp.abs(tau) < 1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timescale_across": -0.1}, "timescale_across must be positive"),
        ({"timescale_across": [0.1, 0.2, 0.3]}, r"timescale_across has shape \(3,\): give one number, or 2"),
        ({"timescale_within": [0.1, 0.0]}, "timescale_within must be positive"),
        ({"snr": 0.0}, "snr must be positive"),
        ({"noise": [0.1, 0.0, 0.1, 0.1, 0.1]}, "noise must be positive"),
        ({"noise": [0.1, 0.2]}, r"noise has shape \(2,\): give one number, or 5"),
        ({"bin_width": 0.0}, "bin_width is 0.0: give the seconds per bin"),
        ({"bin_width": 20}, "bins of 20 s are longer than 5 s: .*bin_width='20s'"),
        ({"n_within": (1, 2, 3)}, r"n_within = \(1, 2, 3\) is neither one number nor one per region"),
        ({"n_within": -1}, "cannot be negative"),
        ({"n_across": 0, "n_within": (1, 0)}, "region B reads no latent"),
        ({"shared_by": [[1, 1], [0, 0]], "n_within": (0, 0)}, "region B reads no latent"),
        ({"shared_by": [[1, 0], [1, 0]]}, "across latent 2 of 2 is read by no region"),
        ({"shared_by": [True, False]}, r"shared_by has shape \(2,\), not \(region, across_latent\) = \(2, 2\)"),
        ({"shared_by": [[1, 0.5], [1, 1]]}, "shared_by says yes or no"),
        ({"regions": {}}, "at least one region"),
        ({"regions": {"A": 3, "B": 0}}, "B must count at least 1"),
        ({"n_trials": 0}, "n_trials must count at least 1"),
        ({"n_bins": MAX_POINTS // 2 + 1}, "n_bins = 2001 is too long to draw exactly: .* <= 2000"),
        ({"delay": np.zeros((2, 2, 9))}, r"delay has shape \(2, 2, 9\), not"),
        ({"delay_shape": "square"}, "no delay shape 'square': choose from constant"),
        ({"delay_shape": "box", "delay": np.zeros((2, 2, 8))}, "delay_shape needs amplitudes"),
        ({"delay_shape": "box", "shape_parameters": {"middle": 0.5}}, "no parameter 'middle'"),
        ({"delay_shape": "box", "shape_parameters": {"center": np.ones((3, 2, 2))}}, "of one shape"),
        ({"shape_parameters": {"center": 0.5}}, "shape_parameters need a delay_shape"),
        ({"max_delay": -0.1}, "max_delay must be 0 or more"),
        ({"ragged": 1.0}, r"ragged is a fraction in \[0, 1\)"),
        ({"missing": -0.1}, r"missing is a fraction in \[0, 1\)"),
        ({"gp_noise": 0.0}, "gp_noise is a share"),
        ({"kernel": Spectral()}, "the kernel's frequency is left to be inferred"),
        ({"kernel": Spectral(), "kernel_parameters": {"frequency_across": 5.0}}, "pass kernel_parameters"),
        ({"kernel_parameters": {"frequency_across": 5.0}}, "no parameters frequency_across"),
        ({"kernel": Box(), "n_bins": 20}, "not positive definite"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**(SMALL | arguments))


def test_unknown_scenario():
    with pytest.raises(ValueError, match="no scenario 'dlga': choose from dlag, dlag_ssm, adm"):
        simulate_scenario("dlga")
