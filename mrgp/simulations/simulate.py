r"""Recordings drawn from a model's own program, together with the truth that made them.

    x_{r,k}(t) = sqrt(1 - eps) g_k(t - delay_{r,k}(t)) + sqrt(eps) eta,      y_r ~ p(y | C_r [x_r; w_r] + d_r).

The program says what depends on what; its parameters are given, designed (:mod:`mrgp.simulations.design`) or drawn from
their priors. Latents are drawn under the exact, dense likelihood of the model, where it has one: nothing is
interpolated between bins, nothing is special at a trial's edges.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import NOISE
from mrgp.recordings.layout import CONDITION, Layout
from mrgp.recordings.recording import MultiRegionData, stand_in
from mrgp.recordings.units import read_bin_width, unmistaken
from mrgp.simulations.delayed import Plain, delayed_model
from mrgp.simulations.design import designed, observed, positive, readers_of, require
from mrgp.simulations.program import exact_distribution, sites_from, typical_recording
from mrgp.simulations.simulation import Simulation, populations, truth_of

MAX_POINTS = 4000
"""Largest time x region of one latent: its dense factor then takes 128 MB and a few seconds."""

TWO_REGIONS: Mapping[str, int] = MappingProxyType({"V1": 20, "V2": 20})


def simulate(
    model: GaussianProcesses | None = None,
    *,
    sites: Mapping[str, ArrayLike] | None = None,
    regions: Mapping[str, int] = TWO_REGIONS,
    n_across: int | None = None,
    n_within: int | Sequence[int] | None = None,
    shared_by: ArrayLike | None = None,
    n_trials: int = 50,
    n_bins: int = 100,
    bin_width: float = 0.02,
    conditions: Sequence[str] = (),
    kernel: Kernel | None = None,
    kernel_parameters: Mapping[str, ArrayLike] | None = None,
    timescale_across: ArrayLike | None = None,
    timescale_within: ArrayLike | None = None,
    delay: ArrayLike | None = None,
    max_delay: float | None = None,
    delay_shape: str | None = None,
    shape_parameters: Mapping[str, ArrayLike] | None = None,
    snr: ArrayLike = 1.0,
    noise: ArrayLike = 1.0,
    offset: float = 1.0,
    heterogeneity: float = 0.0,
    ragged: float = 0.0,
    missing: float = 0.0,
    gp_noise: float | None = None,
    seed: int = 0,
) -> Simulation:
    """Draw a recording from a model. Times are in seconds.

    With a ``model``, such as ``LDS(3)`` or ``DLAG(1, 1, emission="poisson")``, its parameters are those of ``sites``,
    loadings, noise and offsets as ``snr``, ``noise``, ``offset`` and ``heterogeneity`` say, and draws from the model's
    priors for the rest. Without one it is DLAG, with the parameters that are named here.

    Args:
        model: What to draw from; None for DLAG of ``n_across``, ``n_within``, ``kernel`` and ``gp_noise``.
        sites: Of the model: values of parameters by name, in s, Hz or the recording's units, a number or an array of
            the site's shape, such as ``{"delay": 0.03, "timescale_across": [0.1, 0.05]}``.
        regions: Region name -> number of neurons; delays are measured from the first.
        n_across: Latents that regions share; 2 unless there is a model.
        n_within: Private latents of every region, or one number per region; 0 is allowed; 1 unless there is a model.
        shared_by: Which region reads which across latent, (region, across_latent) of booleans; None: all
            read all. The delay of a region that does not read a latent has no effect; of a latent that the
            first region does not read, only differences of delays do.
        n_trials: Number of trials; the parameters do not depend on it.
        n_bins: Bins of a whole trial.
        bin_width: Seconds per bin.
        conditions: Names of what trials are of, which take turns; models with a mean of their own for each draw one.
        kernel: Covariance of every latent; None is the squared exponential.
        kernel_parameters: Values of what the kernel leaves to be inferred, such as ``frequency_across`` and
            ``frequency_within`` in Hz: a number each, or one per latent of that kind.
        timescale_across: A number or (across_latent,), 0.1 if it is not given; without effect, and 0 in the truth, if
            the kernel has none.
        timescale_within: A number or (within_latent,), those of the first region first; 0.06 if it is not given.
        delay: (region, across_latent) or (region, across_latent, time), positive where a region lags the
            first, whose own delays are 0; None draws them uniformly from [-max_delay, max_delay].
        max_delay: Bound of delays that are drawn, 0.1 if it is not given.
        delay_shape: A name in :data:`mrgp.parts.delays.shapes.SHAPES`; (region, across_latent) delays are its
            amplitudes.
        shape_parameters: Parameters of that shape by name, each a number or (region, across_latent).
        snr: Variance of the signal over variance of the noise, each summed over a region's neurons; a number
            or (region,). Met exactly, by scaling the region's loadings, which are N(0, 1) before; of latents of
            variance 1, as all are but those of an LDS with a transition and a start of one's own.
        noise: Noise variance, a number or (neuron,), those of the first region first; with heterogeneity
            the median of a neuron's. Of counts that with which one bin measures a log-rate: one over the mean count.
        offset: Standard deviation of the neurons' offsets; of counts that of the logarithms of mean counts.
        heterogeneity: Standard deviation of the logarithm of three scales that are else equal: each neuron's
            noise variance, each neuron's loadings, each latent's loadings in each region.
        ragged: Trials last (1 - ragged) n_bins to n_bins bins, equally likely, the longest whole; in [0, 1).
        missing: Share of its entries that every neuron misses, in one block of the session, as when a unit
            drifts away; the blocks are spread evenly over the session. In [0, 1).
        gp_noise: Share eps of white noise in every readout, independent between regions; 0.001 if it is not given.
        seed: Seeds everything that is drawn.

    Raises:
        ValueError: An argument is out of range or misshapen, a region reads nothing, an across latent is
            read by no region, a trial is too long for a dense factor, or an argument is the model's to say.
    """
    named = {
        "n_across": n_across, "n_within": n_within, "kernel": kernel, "kernel_parameters": kernel_parameters,
        "timescale_across": timescale_across, "timescale_within": timescale_within, "delay": delay,
        "max_delay": max_delay, "delay_shape": delay_shape, "shape_parameters": shape_parameters, "gp_noise": gp_noise,
    }  # fmt: skip
    own: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    bin_width = read_bin_width(bin_width)
    for name, count in {"n_trials": n_trials, "n_bins": n_bins, **regions}.items():
        require(count >= 1, f"{name} must count at least 1, not {count}")
    for name, value in {"offset": offset, "heterogeneity": heterogeneity}.items():
        require(0 <= value < np.inf, f"{name} must be 0 or more, and finite, not {value}")
    for name, value in {"ragged": ragged, "missing": missing}.items():
        require(0 <= value < 1, f"{name} is a fraction in [0, 1), not {value}")
    require(len(regions) > 0, "a recording needs at least one region: pass regions like {'V1': 20}")

    rng = np.random.default_rng(seed)
    attrs: dict[str, Any] = {"seed": seed}
    layout = Layout(tuple(regions), tuple(regions.values()), bin_width, tuple(sorted(set(conditions))))
    delays = None
    if model is None:
        require(sites is None, "sites are those of a model: pass model, or name parameters one by one")
        plain = Plain(**own)
        model, sites, delays = delayed_model(plain, regions, n_bins, bin_width, rng)
        attrs |= {"gp_noise": plain.gp_noise, "kernel": type(plain.kernel or SquaredExponential()).__name__}
    else:
        name = type(model).__name__
        require(model.is_simulated, f"{name} draws with what it has learned: fit it, and use mrgp.simulate_from(fit)")
        taken = f"{', '.join(own)}: the model says that, or its sites do; leave it out, or leave model out"
        require(not own, taken)
        attrs["model"] = json.dumps(model.to_settings(), default=str)
    assignment = model.assignment(layout)
    if delays is None:  # neurons are the same, whether delays are drawn here or by the program
        rng.random((assignment.n_regions, assignment.n_across))
    readers = readers_of(shared_by, assignment, populations(model, layout))
    check_length(assignment, n_bins)
    given = dict(sites or {})
    typical_noise = positive("noise", given.get(NOISE.name, noise), layout.total_neurons)
    ratio = positive("snr", snr, layout.n_regions)

    region = layout.region_of_neuron
    neurons = designed(assignment, region, readers, ratio, typical_noise, offset, heterogeneity, rng)
    with jax.enable_x64(True):  # whatever the session's precision
        values = sites_from(model, typical_recording(layout, n_bins, neurons), given, neurons, jax.random.key(seed))
        frame = stand_in(layout, n_trials, n_bins)
        distribution = exact_distribution(model, frame, values)
        if delays is not None and delays.ndim > 2:
            distribution = distribution.with_delay(np.moveaxis(delays, -1, 0) / bin_width)
        drawn = distribution.draw(rng)
    table = model.tables.delays(values, layout, n_bins) if delays is None else delays
    data = _recording(frame, drawn.values, observed(drawn.values.shape, ragged, missing, rng))
    return Simulation(data, truth_of(model, frame, values, drawn, table, readers, attrs), values)


def check_length(assignment: LatentLayout, n_bins: int) -> None:
    """Raise ValueError if trials are too long for a dense factor."""
    longest = MAX_POINTS // (assignment.n_regions if assignment.n_across else 1)
    require(n_bins <= longest, f"n_bins = {n_bins} is too long to draw exactly: take trials of <= {longest}")


def _recording(frame: MultiRegionData, values: np.ndarray, kept: np.ndarray) -> MultiRegionData:
    """Make a recording like ``frame`` of the values that are kept."""
    shown = np.where(kept, values, np.nan)
    parts = {name: shown[..., part] for name, part in frame.layout.region_slices.items()}
    of_trials = {CONDITION: frame.trial_coords[CONDITION]} if frame.layout.conditions else {}
    return MultiRegionData(parts, unmistaken(frame.bin_width), trial_coords=of_trials, drop_dead=None)
