"""Checks of what a model is made from."""

from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mrgp.parts.emissions import Emission
from mrgp.parts.emissions.autocorrelated import with_noise
from mrgp.parts.latents import LatentLayout
from mrgp.recordings.layout import Layout
from mrgp.recordings.units import positive_seconds, seconds
from mrgp.runtime.sentences import AR1, Argument, Refusal

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses


def check_numbers(model: "GaussianProcesses") -> None:
    """Check the numbers that a model is made from, and give them their types.

    Raises:
        ValueError: one is not what it has to be.
    """
    name = type(model).__name__
    single = isinstance(model.n_within, Integral)
    within: Any = int(model.n_within) if single else tuple(int(w) for w in model.n_within)  # type: ignore
    object.__setattr__(model, "n_within", within)
    if model.n_across < 0 or np.min(within) < 0 or model.n_across + np.max(within) == 0:
        counted, owned = Argument("n_across"), Argument("n_within")
        raise Refusal(f"{name}: ", counted, " and ", owned, " count latents; they cannot be negative, or all be 0")
    if model.timescale_bounds is not None:
        low, high = seconds(f"{name}: timescale_bounds", model.timescale_bounds).tolist()
        if not 0 < low < high < np.inf:
            raise ValueError(f"{name}: timescale_bounds are two positive seconds, low < high, not {low}, {high}")
        object.__setattr__(model, "timescale_bounds", (low, high))
    if model.duration is not None:
        object.__setattr__(model, "duration", positive_seconds(f"{name}: duration", model.duration))
    if not 0 < model.gp_noise < 1:
        share = f" is a share of variance between 0 and 1, not {model.gp_noise}"
        raise Refusal(f"{name}: ", Argument("gp_noise"), share)


def checked_emission(model: "GaussianProcesses", noise: str | None) -> Emission:
    """Emission of a model with noise as its short form says, checked against its likelihood.

    Raises:
        ValueError: the likelihood has no density of it, or the emission no such noise.
    """
    name = type(model).__name__

    def check(emission: Emission) -> Emission:
        if (objection := model.likelihood.objection(emission)) is not None:
            raise Refusal(f"{name}: ", *objection)
        reads_bin_before = model.kernel.has_timescale and not model.is_state_space
        if emission.is_autocorrelated and model.likelihood.is_statespace and not reads_bin_before:
            exact = () if model.is_state_space else (", or ", Argument("likelihood", "dense"))
            raise Refusal(f"{name}: ", AR1, " is for latents with a timescale: take another model", *exact)
        return emission

    own = check(model.emission)
    if noise is None:
        return own
    emission = with_noise(own, noise, name)
    if emission != own and "emission" in model.pinned_fields():
        raise ValueError(f"{name} has no use for noise: leave it out")
    return check(emission)


def assigned(model: "GaussianProcesses", layout: Layout) -> LatentLayout:
    """Assign the latents of a model to the neurons of a recording.

    Raises:
        ValueError: private latents are not one number, or one for every region; or regions are pooled, and have none.
    """
    name = type(model).__name__
    if model.pools_regions:
        if model.n_within != 0:
            instead = f", or use {model.private_in}" if model.private_in else ""
            raise ValueError(f"{name} has no within latents: leave n_within at 0{instead}")
        return LatentLayout((layout.total_neurons,), model.n_across, (0,))
    return LatentLayout(layout.n_neurons, model.n_across, private_counts(name, model.n_within, layout))


def private_counts(model: str, n_within: int | tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Numbers of private latents of every region, of the model of that name.

    Raises:
        ValueError: they are not one number, or one for every region.
    """
    within = (n_within,) * layout.n_regions if isinstance(n_within, int) else n_within
    if len(within) != layout.n_regions:
        names = f"{layout.n_regions} ({', '.join(layout.regions)})"
        raise Refusal(
            f"{model}: ", Argument("n_within", within), f" is for {len(within)} regions, but the recording has "
            f"{names}: give one number, or one per region",
        )  # fmt: skip
    return within


class MayHaveCourse(Protocol):
    """Interface of models that may have a course over the trial."""

    @property
    def has_course(self) -> bool: ...


def require_no_course(model: MayHaveCourse) -> None:
    """Raise ValueError if a model has a course over the trial, which is to be cut into blocks."""
    if model.has_course:
        raise ValueError(f"{type(model).__name__} has a course over the trial, which blocks have not: leave block out")
