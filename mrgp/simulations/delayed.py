"""Model that is simulated where none is given: DLAG, from plain numbers in seconds.

Its delays may also follow any course over a trial. No program has a parameter for that: ADM's delays are sums of
smooth modes. The courses take the place of the delays in the distribution that the program observes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.likelihoods.likelihood import Dense
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.part import rebuilt
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.delays.shapes import check_delay, trajectory
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.latents import LatentLayout
from mrgp.parts.sites import kernel_site
from mrgp.recordings.units import one_time, seconds
from mrgp.simulations.design import positive, require

KINDS = ("across", "within")
MODEL = "dlag"


class Plain(NamedTuple):
    """Arguments of :func:`mrgp.simulate` that stand for a model, with their defaults."""

    n_across: int = 2
    n_within: int | Sequence[int] = 1
    kernel: Kernel | None = None
    kernel_parameters: Mapping[str, ArrayLike] | None = None
    timescale_across: ArrayLike = 0.1
    timescale_within: ArrayLike = 0.06
    delay: ArrayLike | None = None
    max_delay: float = 0.1
    delay_shape: str | None = None
    shape_parameters: Mapping[str, ArrayLike] | None = None
    gp_noise: float = 1e-3


class Delayed(NamedTuple):
    """Model of delayed latents, and its sites.

    Attributes:
        model: DLAG under the dense likelihood.
        sites: Delays and kernel parameters, s or Hz.
        delays: (region, across_latent), or with an axis of time where they follow a course; seconds.
    """

    model: GaussianProcesses
    sites: dict[str, np.ndarray]
    delays: Float[np.ndarray, "region across_latent *time"]


def delayed_model(
    plain: Plain, regions: Mapping[str, int], n_bins: int, bin_width: float, rng: np.random.Generator
) -> Delayed:
    """Check the arguments, and draw delays where none are given.

    Raises:
        ValueError: An argument is out of range or misshapen.
    """
    max_delay = one_time("max_delay", plain.max_delay, "seconds, such as 0.1 for 100 ms")
    given = None if plain.delay is None else seconds("delay", plain.delay)
    timescales = {
        "across": seconds("timescale_across", plain.timescale_across),
        "within": seconds("timescale_within", plain.timescale_within),
    }
    require(0 <= max_delay < np.inf, f"max_delay must be 0 or more, and finite, not {max_delay}")
    within = np.asarray(plain.n_within)
    per_region = within.shape in ((), (len(regions),))
    require(per_region, f"n_within = {plain.n_within} is neither one number nor one per region")
    n_within = tuple(np.broadcast_to(within, len(regions)).tolist())
    kernel = SquaredExponential() if plain.kernel is None else plain.kernel
    prior = Prior(kernel, plain.gp_noise, LatentLayout(tuple(regions.values()), plain.n_across, n_within))
    counts = dict(zip(KINDS, (plain.n_across, sum(n_within)), strict=True))
    scales = {kind: positive(f"timescale_{kind}", timescales[kind], count) for kind, count in counts.items()}
    sites = _own_parameters(kernel, plain.kernel_parameters or {}, counts)
    if kernel.has_timescale:
        sites |= {kernel_site("timescale", kind).name: scales[kind] for kind, count in counts.items() if count}

    drawn = rng.uniform(-max_delay, max_delay, (len(regions), plain.n_across))
    drawn[0] = 0.0
    delays = check_delay(drawn if given is None else given, len(regions), plain.n_across, n_bins)
    if plain.delay_shape is not None:
        require(delays.ndim == 2, "delay_shape needs amplitudes: a delay of shape (region, across_latent)")
        times, duration = np.arange(n_bins) * bin_width, n_bins * bin_width
        delays = trajectory(plain.delay_shape, times, duration, delays, plain.shape_parameters or {})
        delays = check_delay(delays, len(regions), plain.n_across, n_bins)
    require(plain.delay_shape is not None or not plain.shape_parameters, "shape_parameters need a delay_shape")
    if len(regions) > 1:  # one has nothing to lag behind
        sites[DELAY.name] = (delays if delays.ndim == 2 else delays.mean(-1))[1:]
    reach = 2 * max(float(np.abs(delays).max(initial=0.0)), max_delay)
    settings = {"n_across": plain.n_across, "n_within": n_within, "kernel": kernel, "gp_noise": prior.gp_noise}
    model = rebuilt("model", {"model": MODEL, **settings, "likelihood": Dense(), "max_delay": reach or None})
    return Delayed(model, sites, delays)


def _own_parameters(
    kernel: Kernel, given: Mapping[str, ArrayLike], counts: Mapping[str, int]
) -> dict[str, Float[np.ndarray, "latent"]]:
    """Sites of the kernel's parameters that are left to be inferred, in s or Hz."""
    own: dict[str, np.ndarray] = {}
    for name, value in kernel.parameters().items():
        if isinstance(value, float | int):
            continue
        sites = {kernel_site(name, kind).name: count for kind, count in counts.items() if count}
        remedy = "give it a number to simulate from it, or pass kernel_parameters"
        require(sites.keys() <= given.keys(), f"the kernel's {name} is left to be inferred: {remedy}")
        own |= {site: np.broadcast_to(np.asarray(given[site], float), count) for site, count in sites.items()}
    unknown = ", ".join(sorted(given.keys() - own.keys()))
    require(not unknown, f"the kernel has no parameters {unknown} that are left to be inferred: leave them out")
    return own
