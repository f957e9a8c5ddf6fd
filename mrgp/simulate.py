r"""Recordings drawn from the model itself, together with the truth that made them (DESIGN 1):

    x_{r,k}(t) = sqrt(1 - eps) g_k(t - delay_{r,k}(t)) + sqrt(eps) eta,      y_r = C_r [x_r; w_r] + d_r + e_r.

Every latent is drawn jointly at all its delayed times, through a Cholesky factor of its kernel over time and
region: nothing is interpolated between bins, nothing is special at a trial's edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from mrgp.data import MultiRegionData
from mrgp.delays import check_delay, trajectory
from mrgp.kernels import Kernel, SquaredExponential, in_bins
from mrgp.statespace.assemble import Prior
from mrgp.statespace.reduce import Assignment, readout_loadings

JITTER = 1e-9
"""Variance added to a latent at every point, for a Cholesky factor where delayed times coincide: a millionth
of the default GP noise, and about the factor's worst rounding error, n^2 2^-53 for n = MAX_POINTS."""

MAX_POINTS = 4000
"""Largest time x region of one latent: its dense factor then takes 128 MB and a few seconds."""

TWO_REGIONS: Mapping[str, int] = MappingProxyType({"V1": 20, "V2": 20})


@dataclass(frozen=True)
class Simulation:
    """A recording and what it was made from.

    Attributes:
        data: The recording, NaN where something was left out.
        truth: In seconds ``delay`` (region, across_latent[, time]), ``timescale_across`` (across_latent),
            ``timescale_within`` (within_latent). ``loadings`` (neuron, column), variances ``noise`` and
            ``offset`` (neuron). For every bin, kept or not: the smooth latents ``across`` (trial, time,
            across_latent), on region 1's clock, and ``within`` (trial, time, within_latent); ``readouts``
            (trial, time, readout), delayed and with GP noise. Coordinates ``region_of_neuron``, ``_within``,
            ``_readout`` name regions. Attributes ``gp_noise``, ``kernel``, ``bin_width`` (s), ``seed``.
    """

    data: MultiRegionData
    truth: xr.Dataset

    def save(self, folder: str | Path) -> None:
        """Write ``recording.nc`` and ``truth.nc`` into ``folder``, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.data.to_xarray().to_netcdf(Path(folder) / "recording.nc", engine="h5netcdf")
        self.truth.to_netcdf(Path(folder) / "truth.nc", engine="h5netcdf")


def simulate(
    *,
    regions: Mapping[str, int] = TWO_REGIONS,
    n_across: int = 2,
    n_within: int | Sequence[int] = 1,
    n_trials: int = 50,
    n_bins: int = 100,
    bin_width: float = 0.02,
    kernel: Kernel | None = None,
    timescale_across: ArrayLike = 0.1,
    timescale_within: ArrayLike = 0.06,
    delay: ArrayLike | None = None,
    max_delay: float = 0.1,
    delay_shape: str | None = None,
    shape_parameters: Mapping[str, ArrayLike] | None = None,
    snr: ArrayLike = 1.0,
    noise: float = 1.0,
    offset: float = 1.0,
    heterogeneity: float = 0.0,
    ragged: float = 0.0,
    missing: float = 0.0,
    gp_noise: float = 1e-3,
    seed: int = 0,
) -> Simulation:
    """Draw a recording from the model. Times are in seconds.

    Args:
        regions: Region name -> number of neurons; delays are measured from the first.
        n_across: Latents shared by all regions.
        n_within: Private latents of every region, or one number per region; 0 is allowed.
        n_trials: Number of trials; the parameters do not depend on it.
        n_bins: Bins of a whole trial.
        bin_width: Seconds per bin.
        kernel: Covariance of every latent, its own parameters fixed; None is the squared exponential.
        timescale_across: A number or (across_latent,); without effect, and 0 in the truth, if the kernel has none.
        timescale_within: A number or (within_latent,), those of the first region first.
        delay: (region, across_latent) or (region, across_latent, time), positive where a region lags the
            first, whose own delays are 0; None draws them uniformly from [-max_delay, max_delay].
        max_delay: Bound of delays that are drawn.
        delay_shape: A name in :data:`mrgp.delays.SHAPES`; (region, across_latent) delays are its amplitudes.
        shape_parameters: Parameters of that shape by name, each a number or (region, across_latent).
        snr: Variance of the signal over variance of the noise, each summed over a region's neurons; a number
            or (region,). Met exactly, by scaling the region's loadings, which are N(0, 1) before.
        noise: Median over neurons of the noise variance.
        offset: Standard deviation of the neurons' offsets.
        heterogeneity: Standard deviation of the logarithm of three scales that are else equal: each neuron's
            noise variance, each neuron's loadings, each latent's loadings in each region.
        ragged: Trials last (1 - ragged) n_bins to n_bins bins, equally likely, the longest whole; in [0, 1).
        missing: Share of its entries that every neuron misses, in one block of the session, as when a unit
            drifts away; the blocks are spread evenly over the session. In [0, 1).
        gp_noise: Share eps of white noise in every readout, independent between regions.
        seed: Seeds the one generator that everything is drawn from.

    Raises:
        ValueError: An argument is out of range or misshapen, or a trial is too long for a dense factor.
    """
    for name, count in {"n_trials": n_trials, "n_bins": n_bins, **regions}.items():
        _require(count >= 1, f"{name} must count at least 1, not {count}")
    for name, value in {"max_delay": max_delay, "offset": offset, "heterogeneity": heterogeneity}.items():
        _require(0 <= value < np.inf, f"{name} must be 0 or more, and finite, not {value}")
    for name, value in {"ragged": ragged, "missing": missing}.items():
        _require(0 <= value < 1, f"{name} is a fraction in [0, 1), not {value}")
    _require(len(regions) > 0, "a recording needs at least one region: pass regions like {'V1': 20}")
    within = np.asarray(n_within)
    per_region = within.shape in ((), (len(regions),))
    _require(per_region, f"n_within = {n_within} is neither one number nor one per region")
    n_neurons, within = tuple(regions.values()), np.broadcast_to(within, len(regions))
    assignment = Assignment(n_neurons, n_across, tuple(within.tolist()))
    prior = Prior(SquaredExponential() if kernel is None else kernel, gp_noise, assignment)
    longest = MAX_POINTS // (len(regions) if n_across else 1)
    _require(n_bins <= longest, f"n_bins = {n_bins} is too long to draw exactly: take trials of <= {longest}")
    _positive("bin_width", bin_width)
    _positive("noise", noise)
    scale_across = _positive("timescale_across", timescale_across, n_across)
    scale_within = _positive("timescale_within", timescale_within, int(within.sum()))
    ratio = _positive("snr", snr, len(regions))

    rng = np.random.default_rng(seed)
    times = np.arange(n_bins) * bin_width
    drawn = rng.uniform(-max_delay, max_delay, (len(regions), n_across))
    drawn[0] = 0.0
    delays = check_delay(drawn if delay is None else delay, len(regions), n_across, n_bins)
    if delay_shape is not None:
        _require(delays.ndim == 2, "delay_shape needs amplitudes: a delay of shape (region, across_latent)")
        delays = trajectory(delay_shape, times, n_bins * bin_width, delays, shape_parameters or {})
        delays = check_delay(delays, len(regions), n_across, n_bins)
    _require(delay_shape is not None or not shape_parameters, "shape_parameters need a delay_shape")
    loadings, variance = _emission(assignment, ratio, noise, heterogeneity, rng)
    level = offset * rng.standard_normal(len(variance))
    scales = np.concatenate([scale_across, scale_within]) / bin_width
    with jax.enable_x64(True):  # whatever the session's precision
        smooth = _smooth_readouts(prior, scales, delays / bin_width, n_trials, n_bins, bin_width, rng)
        C = np.asarray(readout_loadings(assignment, jnp.asarray(loadings)))
    readouts = np.sqrt(1 - gp_noise) * smooth + np.sqrt(gp_noise) * rng.standard_normal(smooth.shape)
    values = readouts @ C.T + level
    values += np.sqrt(variance) * rng.standard_normal(values.shape)
    values[~_observed(values.shape, ragged, missing, rng)] = np.nan

    parts = np.split(values, np.cumsum(assignment.n_neurons)[:-1], axis=2)
    data = MultiRegionData(dict(zip(regions, parts, strict=True)), bin_width)
    names, seconds = np.array(list(regions)), {"units": "s"}
    arrays = {
        "delay": (("region", "across_latent", "time")[: delays.ndim], delays, seconds),
        "timescale_across": ("across_latent", prior.kernel.has_timescale * scale_across, seconds),
        "timescale_within": ("within_latent", prior.kernel.has_timescale * scale_within, seconds),
        "loadings": (("neuron", "column"), loadings),
        "noise": ("neuron", variance),
        "offset": ("neuron", level),
        "across": (("trial", "time", "across_latent"), smooth[..., :n_across]),
        "within": (("trial", "time", "within_latent"), smooth[..., len(regions) * n_across :]),
        "readouts": (("trial", "time", "readout"), readouts),
    }
    coords = {
        "region": names,
        "time": ("time", times, seconds),
        "region_of_neuron": ("neuron", names[assignment.region_of_neuron]),
        "region_of_within": ("within_latent", names[assignment.region_of_within]),
        "region_of_readout": ("readout", names[assignment.region_of_readout]),
    }
    attrs: dict[str, Any] = {"gp_noise": gp_noise, "bin_width": bin_width, "seed": seed}
    attrs["kernel"] = type(prior.kernel).__name__
    return Simulation(data, xr.Dataset(arrays, coords, attrs))


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _positive(name: str, value: ArrayLike, count: int = 1) -> np.ndarray:
    """(count,) positive numbers; one given may serve for all."""
    array = np.asarray(value, float)
    _require((np.isfinite(array) & (array > 0)).all(), f"{name} must be positive and finite, not {array}")
    _require(array.shape in ((), (count,)), f"{name} has shape {array.shape}: give one number, or {count}")
    return np.broadcast_to(array, count)


def _emission(
    assignment: Assignment, snr: np.ndarray, noise: float, heterogeneity: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "neuron column"], Float[np.ndarray, "neuron"]]:
    """Loadings and noise variances with signal-to-noise ratios ``snr`` (region,)."""
    region, used = assignment.region_of_neuron, assignment.used

    def spread(*shape: int) -> np.ndarray:
        return np.exp(heterogeneity * rng.standard_normal(shape))

    variance = noise * spread(len(used))
    loadings = used * rng.standard_normal(used.shape) * spread(len(used), 1)
    loadings *= spread(len(snr), used.shape[1])[region]
    for r, wanted in enumerate(snr):
        own = region == r
        signal = (loadings[own] ** 2).sum()  # readouts have unit variance
        _require(signal > 0, f"region {r + 1} of {len(snr)} reads no latent, so its snr cannot be {wanted:g}")
        loadings[own] *= np.sqrt(wanted * variance[own].sum() / signal)
    return loadings, variance


def _smooth_readouts(
    prior: Prior,
    scales: np.ndarray,
    delays: np.ndarray,
    n_trials: int,
    n_bins: int,
    bin_width: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "trial time readout"]:
    """The readouts before GP noise; timescales (latent,), delays (region, across_latent[, time]) in bins."""
    own: dict[str, jax.Array] = {}
    for name, value in prior.kernel.parameters().items():
        fixed = isinstance(value, float | int)
        _require(fixed, f"the kernel's {name} is left to be inferred: give it a number to simulate from it")
        own |= in_bins({name: jnp.asarray([value])}, bin_width)
    n_regions, n_across = prior.assignment.n_regions, prior.assignment.n_across
    bins = np.arange(n_bins, dtype=float)
    clock = bins - (delays if delays.ndim == 3 else delays[..., None])  # (region, across_latent, time)

    def draw(points: np.ndarray, scale: float) -> Float[np.ndarray, "trial point"]:
        lag = jnp.asarray(points[:, None] - points)[..., None]
        K = np.array(prior.kernel.correlation(lag, {**own, "timescale": jnp.asarray([scale])})[..., 0])
        K[np.diag_indices_from(K)] += JITTER
        try:
            root = np.linalg.cholesky(K)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{prior.kernel} is no covariance: it is not positive definite") from error
        return rng.standard_normal((n_trials, len(points))) @ root.T

    shape = n_trials, n_regions, n_bins
    copies = [draw(clock[:, k].ravel(), scales[k]).reshape(shape) for k in range(n_across)]
    across = [copies[k][:, r] for r in range(n_regions) for k in range(n_across)]
    return np.stack([*across, *(draw(bins, scale) for scale in scales[n_across:])], axis=-1)


def _observed(
    shape: tuple[int, ...], ragged: float, missing: float, rng: np.random.Generator
) -> Bool[np.ndarray, "trial time neuron"]:
    """Which entries are kept. Drawn last, so that what is kept does not depend on it."""
    n_trials, n_bins, n_neurons = shape
    length = rng.integers(max(1, round((1 - ragged) * n_bins)), n_bins + 1, n_trials)
    length[length.argmax()] = n_bins
    inside = np.arange(n_bins) < length[:, None]
    place, total = inside.cumsum().reshape(inside.shape) - 1, inside.sum()  # of a bin in the session
    start = ((rng.permutation(n_neurons) + rng.random()) / n_neurons * total).astype(int)
    lost = (place[..., None] - start) % total < round(missing * total)
    return inside[..., None] & ~lost


_BIN = 0.02  # seconds
_LARGE: dict[str, Any] = {  # what the published benchmark recordings share; timescales of 4.47 and 1.41 bins
    "n_trials": 50,
    "n_bins": 200,
    "snr": 0.6,
    "noise": 0.05,
    "offset": 0.0,
    "timescale_across": np.sqrt([20.0, 2.0]) * _BIN,
    "timescale_within": np.sqrt(20.0) * _BIN,
}
_SMALL = _LARGE | {"n_trials": 20, "n_bins": 50, "snr": 3.0}
_FIVE = {"regions": {f"V{r}": 100 for r in range(1, 6)}}
_TWO_DELAYS = {"delay": np.outer([0, 1], [2.25, 0.75]) * _BIN}
_FALLING = [0, 1, 5 / 6, 2 / 3, 1 / 2]  # region by region, share of the longest delay
_BUMPS = {"delay": np.outer(_FALLING, [2.7, 1]) * _BIN, "delay_shape": "gaussian_bump"}
_BUMP_CENTERS = np.add.outer([0, 0, 0.05, 0.1, 0.15], [0.085, 0.685])  # later from region to region

SCENARIOS: dict[str, dict[str, Any]] = {
    "dlag": _LARGE | _TWO_DELAYS | {"regions": {"V1": 100, "V2": 100}},
    "dlag_ssm": _LARGE | _FIVE | {"delay": np.outer(_FALLING, [3, 1]) * _BIN},
    "adm": _LARGE
    | _FIVE
    | _BUMPS
    | {"shape_parameters": {"center": _BUMP_CENTERS, "width": np.tile([0.045, 0.125], (5, 1))}},
    "mdlag": _LARGE
    | {"regions": {"V1": 100, "V2": 100, "V3": 100}, "n_within": 0, "snr": 0.4}
    | {"delay": np.outer([0, 1, 0.5], [3, 1]) * _BIN},
    "small_constant": _SMALL | _TWO_DELAYS,
    "small_bump": _SMALL
    | _BUMPS
    | {"delay": np.outer([0, 1], [0.96, 0.62]) * _BIN}
    | {"shape_parameters": {"center": [[0.05, 0.64]] * 2, "width": [[0.07, 0.2]] * 2}},
    "demo": {"n_trials": 40, "n_bins": 50, "timescale_across": (0.12, 0.06), "heterogeneity": 0.3}
    | {"delay": [[0, 0], [0.03, -0.02]]},  # one latent leads in V1, the other in V2
}
"""Arguments of :func:`simulate` by name: the literature's benchmarks, delayed exactly, and a demo."""


def simulate_scenario(name: str, seed: int = 0, **overrides: Any) -> Simulation:
    """Draw the recording of one of SCENARIOS, with any arguments of :func:`simulate` changed.

    Raises:
        ValueError: There is no such scenario, or :func:`simulate` refuses its arguments.
    """
    _require(name in SCENARIOS, f"there is no scenario {name!r}: choose from {', '.join(SCENARIOS)}")
    return simulate(**(SCENARIOS[name] | {"seed": seed} | overrides))
