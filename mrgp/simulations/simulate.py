r"""Recordings drawn from the model itself, together with the truth that made them:

    x_{r,k}(t) = sqrt(1 - eps) g_k(t - delay_{r,k}(t)) + sqrt(eps) eta,      y_r = C_r [x_r; w_r] + d_r + e_r.

Every latent is drawn jointly at all its delayed times, through a Cholesky factor of its kernel over time and
region: nothing is interpolated between bins, nothing is special at a trial's edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.parts.delays.shapes import check_delay, trajectory
from mrgp.parts.kernels import Kernel, SquaredExponential, in_bins
from mrgp.parts.latents import Assignment
from mrgp.parts.loadings import readout_loadings
from mrgp.recordings.load import save_recording
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import one_time, seconds
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically

JITTER = 1e-9
"""Variance added to a latent at every point, for a Cholesky factor where delayed times coincide: a millionth
of the default GP noise, and about the factor's worst rounding error, n^2 2^-53 for n = MAX_POINTS."""

MAX_POINTS = 4000
"""Largest time x region of one latent: its dense factor then takes 128 MB and a few seconds."""

TWO_REGIONS: Mapping[str, int] = MappingProxyType({"V1": 20, "V2": 20})


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Shown):
    """A simulated recording, and the truth that it was made from.

    Attributes:
        data: The recording, NaN where something was left out.
        truth: In seconds ``delay`` (region, across_latent[, time]), ``timescale_across`` (across_latent),
            ``timescale_within`` (within_latent). ``shared_by`` (region, across_latent), bool. ``loadings``
            (neuron, column), 0 where nothing is read, variances ``noise`` and ``offset`` (neuron). For every
            bin, kept or not: the smooth latents ``across`` (trial, time, across_latent), on region 1's clock,
            and ``within`` (trial, time, within_latent); ``readouts`` (trial, time, readout), delayed and with
            GP noise. Coordinates ``region_of_neuron``, ``_within``, ``_readout`` name regions. Attributes
            ``gp_noise``, ``kernel``, ``bin_width`` (s), ``seed``.
    """

    data: MultiRegionData
    truth: xr.Dataset

    def _card(self) -> Card:
        known = {"truth": ", ".join(map(str, self.truth.data_vars))}
        return Card("Simulation: a recording in data, what it was made from in truth", known, text=f"{self.data}")

    def save(self, folder: str | Path) -> None:
        """Write ``recording.nc`` and ``truth.nc`` into ``folder``, which is made if need be.

        A file that exists is replaced only once the new one is whole.

        Raises:
            OSError: The folder cannot be made or written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_recording(self.data, folder / "recording.nc")
        write_atomically(folder / "truth.nc", partial(self.truth.to_netcdf, engine="h5netcdf"))


def simulate(
    *,
    regions: Mapping[str, int] = TWO_REGIONS,
    n_across: int = 2,
    n_within: int | Sequence[int] = 1,
    shared_by: ArrayLike | None = None,
    n_trials: int = 50,
    n_bins: int = 100,
    bin_width: float = 0.02,
    kernel: Kernel | None = None,
    kernel_parameters: Mapping[str, ArrayLike] | None = None,
    timescale_across: ArrayLike = 0.1,
    timescale_within: ArrayLike = 0.06,
    delay: ArrayLike | None = None,
    max_delay: float = 0.1,
    delay_shape: str | None = None,
    shape_parameters: Mapping[str, ArrayLike] | None = None,
    snr: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
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
        n_across: Latents that regions share.
        n_within: Private latents of every region, or one number per region; 0 is allowed.
        shared_by: Which region reads which across latent, (region, across_latent) of booleans; None: all
            read all. The delay of a region that does not read a latent has no effect; of a latent that the
            first region does not read, only differences of delays do.
        n_trials: Number of trials; the parameters do not depend on it.
        n_bins: Bins of a whole trial.
        bin_width: Seconds per bin.
        kernel: Covariance of every latent; None is the squared exponential.
        kernel_parameters: Values of what the kernel leaves to be inferred, such as ``frequency_across`` and
            ``frequency_within`` in Hz: a number each, or one per latent of that kind.
        timescale_across: A number or (across_latent,); without effect, and 0 in the truth, if the kernel has none.
        timescale_within: A number or (within_latent,), those of the first region first.
        delay: (region, across_latent) or (region, across_latent, time), positive where a region lags the
            first, whose own delays are 0; None draws them uniformly from [-max_delay, max_delay].
        max_delay: Bound of delays that are drawn.
        delay_shape: A name in :data:`mrgp.parts.delays.shapes.SHAPES`; (region, across_latent) delays are its
            amplitudes.
        shape_parameters: Parameters of that shape by name, each a number or (region, across_latent).
        snr: Variance of the signal over variance of the noise, each summed over a region's neurons; a number
            or (region,). Met exactly, by scaling the region's loadings, which are N(0, 1) before.
        noise: Noise variance, a number or (neuron,), those of the first region first; with heterogeneity
            the median of a neuron's.
        offset: Standard deviation of the neurons' offsets.
        heterogeneity: Standard deviation of the logarithm of three scales that are else equal: each neuron's
            noise variance, each neuron's loadings, each latent's loadings in each region.
        ragged: Trials last (1 - ragged) n_bins to n_bins bins, equally likely, the longest whole; in [0, 1).
        missing: Share of its entries that every neuron misses, in one block of the session, as when a unit
            drifts away; the blocks are spread evenly over the session. In [0, 1).
        gp_noise: Share eps of white noise in every readout, independent between regions.
        seed: Seeds the one generator that everything is drawn from.

    Raises:
        ValueError: An argument is out of range or misshapen, a region reads nothing, an across latent is
            read by no region, or a trial is too long for a dense factor.
    """
    bin_width = one_time("bin_width", bin_width, "the seconds per bin, such as 0.02 for 20 ms")
    max_delay = one_time("max_delay", max_delay, "seconds, such as 0.1 for 100 ms")
    delay = None if delay is None else seconds("delay", delay)
    timescale_across = seconds("timescale_across", timescale_across)
    timescale_within = seconds("timescale_within", timescale_within)
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
    readers = _readers(shared_by, assignment, tuple(regions))
    prior = Prior(SquaredExponential() if kernel is None else kernel, gp_noise, assignment)
    longest = MAX_POINTS // (len(regions) if n_across else 1)
    _require(n_bins <= longest, f"n_bins = {n_bins} is too long to draw exactly: take trials of <= {longest}")
    _positive("bin_width", bin_width)
    typical_noise = _positive("noise", noise, sum(n_neurons))
    scale_across = _positive("timescale_across", timescale_across, n_across)
    scale_within = _positive("timescale_within", timescale_within, int(within.sum()))
    own = _own_parameters(prior, kernel_parameters or {})
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
    loadings, variance = _emission(assignment, readers, ratio, typical_noise, heterogeneity, rng)
    level = offset * rng.standard_normal(len(variance))
    scales = np.concatenate([scale_across, scale_within]) / bin_width
    with jax.enable_x64(True):  # whatever the session's precision
        hyper = {"timescale": scales, **in_bins(own, bin_width)}
        smooth = _smooth_readouts(prior, hyper, delays / bin_width, n_trials, n_bins, rng)
        C = np.asarray(readout_loadings(assignment, jnp.asarray(loadings)))
    readouts = np.sqrt(1 - gp_noise) * smooth + np.sqrt(gp_noise) * rng.standard_normal(smooth.shape)
    values = readouts @ C.T + level
    values += np.sqrt(variance) * rng.standard_normal(values.shape)
    values[~_observed(values.shape, ragged, missing, rng)] = np.nan

    parts = np.split(values, np.cumsum(assignment.n_neurons)[:-1], axis=2)
    data = MultiRegionData(dict(zip(regions, parts, strict=True)), bin_width, drop_dead=None)
    names, in_seconds = np.array(list(regions)), {"units": "s"}
    given = prior.kernel.parameters().items()
    inferred = {name: own[name] for name, value in given if not isinstance(value, float | int)}
    arrays = {
        "delay": (("region", "across_latent", "time")[: delays.ndim], delays, in_seconds),
        "timescale_across": ("across_latent", prior.kernel.has_timescale * scale_across, in_seconds),
        "timescale_within": ("within_latent", prior.kernel.has_timescale * scale_within, in_seconds),
        **{f"{name}_across": ("across_latent", values[:n_across]) for name, values in inferred.items()},
        **{f"{name}_within": ("within_latent", values[n_across:]) for name, values in inferred.items()},
        "shared_by": (("region", "across_latent"), readers),
        "loadings": (("neuron", "column"), loadings),
        "noise": ("neuron", variance),
        "offset": ("neuron", level),
        "across": (("trial", "time", "across_latent"), smooth[..., :n_across]),
        "within": (("trial", "time", "within_latent"), smooth[..., len(regions) * n_across :]),
        "readouts": (("trial", "time", "readout"), readouts),
    }
    coords = {
        "region": names,
        "time": ("time", times, in_seconds),
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
    """Check that numbers are positive and finite, and return (count,) of them.

    One number given may serve for all.
    """
    array = np.asarray(value, float)
    _require((np.isfinite(array) & (array > 0)).all(), f"{name} must be positive and finite, not {array}")
    _require(array.shape in ((), (count,)), f"{name} has shape {array.shape}: give one number, or {count}")
    return np.broadcast_to(array, count)


def _own_parameters(prior: Prior, given: Mapping[str, ArrayLike]) -> dict[str, Float[np.ndarray, "latent"]]:
    """Parameters of the kernel other than the timescale, s or Hz, (latent,) each.

    They are fixed by the kernel, or given for each kind.
    """
    counts = {"across": prior.assignment.n_across, "within": sum(prior.assignment.n_within)}
    own: dict[str, np.ndarray] = {}
    known: set[str] = set()
    for name, value in prior.kernel.parameters().items():
        if isinstance(value, float | int):
            own[name] = np.full(sum(counts.values()), float(value))
            continue
        sites = {f"{name}_{kind}": count for kind, count in counts.items() if count}
        remedy = "give it a number to simulate from it, or pass kernel_parameters"
        _require(sites.keys() <= given.keys(), f"the kernel's {name} is left to be inferred: {remedy}")
        parts = [np.broadcast_to(np.asarray(given[site], float), count) for site, count in sites.items()]
        own[name] = np.concatenate(parts)
        known |= sites.keys()
    unknown = ", ".join(sorted(given.keys() - known))
    _require(not unknown, f"the kernel has no parameters {unknown} that are left to be inferred: leave them out")
    return own


def _readers(
    shared_by: ArrayLike | None, assignment: Assignment, names: Sequence[str]
) -> Bool[np.ndarray, "region across_latent"]:
    """Check ``shared_by``, and return it as bool, (region, across_latent).

    Every region must read something, and every latent must be read.
    """
    shape = assignment.n_regions, assignment.n_across
    table = np.asarray(True if shared_by is None else shared_by)
    given = shared_by is None or table.shape == shape
    _require(given, f"shared_by has shape {table.shape}, not (region, across_latent) = {shape}")
    _require(np.isin(table, (0, 1)).all(), f"shared_by says yes or no, True or False, not {table}")
    readers = np.broadcast_to(table.astype(bool), shape)
    for name, reads, n_within in zip(names, readers, assignment.n_within, strict=True):
        _require(reads.any() or n_within > 0, f"region {name} reads no latent, so it has no signal: give it one")
    for k, read in enumerate(readers.any(0)):
        _require(read, f"across latent {k + 1} of {shape[1]} is read by no region: give it one, or leave it out")
    return readers


def _emission(
    assignment: Assignment,
    readers: Bool[np.ndarray, "region across_latent"],
    snr: Float[np.ndarray, "region"],
    noise: Float[np.ndarray, "neuron"],
    heterogeneity: float,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "neuron column"], Float[np.ndarray, "neuron"]]:
    """Draw loadings and noise variances with signal-to-noise ratios ``snr``."""
    region = assignment.region_of_neuron
    used = np.hstack([readers[region], assignment.used[:, assignment.n_across :]])

    def spread(*shape: int) -> np.ndarray:
        return np.exp(heterogeneity * rng.standard_normal(shape))

    variance = noise * spread(len(used))
    loadings = used * rng.standard_normal(used.shape) * spread(len(used), 1)
    loadings *= spread(len(snr), used.shape[1])[region]
    for r, wanted in enumerate(snr):
        own = region == r
        signal = (loadings[own] ** 2).sum()  # readouts have unit variance
        loadings[own] *= np.sqrt(wanted * variance[own].sum() / signal)
    return loadings, variance


def _smooth_readouts(
    prior: Prior,
    hyper: Mapping[str, np.ndarray],
    delays: np.ndarray,
    n_trials: int,
    n_bins: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "trial time readout"]:
    """Draw the readouts before GP noise, (trial, time, readout).

    Kernel parameters are (latent,), delays (region, across_latent[, time]) in bins.
    """
    n_regions, n_across = prior.assignment.n_regions, prior.assignment.n_across
    bins = np.arange(n_bins, dtype=float)
    clock = bins - (delays if delays.ndim == 3 else delays[..., None])  # (region, across_latent, time)

    def draw(points: np.ndarray, latent: int) -> Float[np.ndarray, "trial point"]:
        lag = jnp.asarray(points[:, None] - points)[..., None]
        own = {name: jnp.asarray(values[[latent]]) for name, values in hyper.items()}
        K = np.array(prior.kernel.correlation(lag, own)[..., 0])
        K[np.diag_indices_from(K)] += JITTER
        try:
            root = np.linalg.cholesky(K)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{prior.kernel} is no covariance: it is not positive definite") from error
        return rng.standard_normal((n_trials, len(points))) @ root.T

    shape = n_trials, n_regions, n_bins
    copies = [draw(clock[:, k].ravel(), k).reshape(shape) for k in range(n_across)]
    across = [copies[k][:, r] for r in range(n_regions) for k in range(n_across)]
    own = range(n_across, len(hyper["timescale"]))
    return np.stack([*across, *(draw(bins, latent) for latent in own)], axis=-1)


def _observed(
    shape: tuple[int, ...], ragged: float, missing: float, rng: np.random.Generator
) -> Bool[np.ndarray, "trial time neuron"]:
    """Draw which entries are kept, bool (trial, time, neuron).

    They are drawn last, so that what is kept does not depend on it.
    """
    n_trials, n_bins, n_neurons = shape
    length = rng.integers(max(1, round((1 - ragged) * n_bins)), n_bins + 1, n_trials)
    length[length.argmax()] = n_bins
    inside = np.arange(n_bins) < length[:, None]
    place, total = inside.cumsum().reshape(inside.shape) - 1, inside.sum()  # of a bin in the session
    start = ((rng.permutation(n_neurons) + rng.random()) / n_neurons * total).astype(int)
    lost = (place[..., None] - start) % total < round(missing * total)
    return inside[..., None] & ~lost
