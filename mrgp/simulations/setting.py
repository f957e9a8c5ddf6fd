"""Options that all networks of talking regions have, and the recording of their rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from mrgp.parts.communication import EFFECTOME, INPUTS, MESSAGES, SOURCE, TARGET, effectome_of
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import read_bin_width, unmistaken
from mrgp.simulations.design import require
from mrgp.simulations.simulation import SECONDS, Simulation
from mrgp.simulations.talking import Course, Edge, Squash, smooth_stimuli


@dataclass(frozen=True, eq=False)
class Setting:
    """Size of a recording of talking regions, and how hard it is to learn from.

    Attributes:
        n_trials: Trials.
        n_bins: Bins of each.
        bin_width: Seconds.
        n_seen: Units of each region that are recorded, drawn at random; None for all.
        counts: Mean count of every neuron in a bin, for Poisson counts; None for Gaussian values.
        spread: Change of a log-rate per unit of a rate h, for counts.
        noise: sd of Gaussian values around h; 0 for h itself.
        common: sd of the input that all regions get and nobody records; 0 for none.
        saturating: Messages pass through tanh.
        silenced: Place of a region that others do not hear: its messages are 0. All else is drawn as it is without.
        silenced_from: Bin from which on what it says is lost; 0 for the whole trial.
        delay: Of messages in bins, beyond the one that each takes; one number, or one per edge.

    Raises:
        ValueError: a number is out of its range.
    """

    n_trials: int = 512
    n_bins: int = 60
    bin_width: float = 0.01
    n_seen: int | None = None
    counts: float | None = None
    spread: float = 1.0
    noise: float = 0.1
    common: float = 0.0
    saturating: bool = False
    delay: ArrayLike = 0.0
    silenced: int | None = None
    silenced_from: int = 0

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_bins"):
            require(getattr(self, name) >= 1, f"{name} counts at least 1, not {getattr(self, name)}")
        object.__setattr__(self, "bin_width", read_bin_width(self.bin_width))
        require(self.n_seen is None or self.n_seen >= 1, f"n_seen counts at least 1 unit, not {self.n_seen}")
        require(self.counts is None or self.counts > 0, f"counts is a positive mean per bin, not {self.counts}")
        require(self.spread > 0, f"spread is positive, not {self.spread}")
        for name in ("noise", "common"):
            require(getattr(self, name) >= 0, f"{name} is a standard deviation, 0 or more, not {getattr(self, name)}")
        delay = np.asarray(self.delay, float)
        wrong = f"delay is 0 or more bins and fewer than the {self.n_bins} of a trial, not {self.delay}"
        require((delay >= 0).all() and (delay < self.n_bins).all(), wrong)
        late = f"silenced_from is one of {self.n_bins} bins from 0, not {self.silenced_from}"
        require(self.silenced_from in range(self.n_bins), late)
        nobody = "silenced_from says when a region falls silent: give its place by silenced"
        require(self.silenced is not None or not self.silenced_from, nobody)

    def sizes(self, **sizes: int) -> None:
        """Refuse sizes of a network below 1, and more neurons recorded than there are units."""
        for name, size in sizes.items():
            require(size >= 1, f"{name} counts at least 1, not {size}")
        n_units = sizes["n_units"]
        require((self.n_seen or 0) <= n_units, f"n_seen is {self.n_seen}, but a region has {n_units} units")

    def delays(self, n_edges: int) -> np.ndarray:
        """Delays of the edges in bins, (edge,)."""
        delay = np.asarray(self.delay, float)
        fits = delay.shape in ((), (n_edges,))
        require(fits, f"delay has shape {delay.shape}: give one number, or one for each of {n_edges} edges")
        return np.broadcast_to(delay, n_edges)

    @property
    def squash(self) -> Squash:
        """Function phi that messages pass through."""
        return np.tanh if self.saturating else np.asarray

    def hears(self, edges: Sequence[Edge]) -> np.ndarray:
        """Edges that carry anything, in each bin in which it arrives, (time, edge)."""
        loud = np.array([edge.source != self.silenced for edge in edges], bool)
        if not self.silenced_from:
            return np.tile(loud, (self.n_bins, 1))
        late = np.array([edge.delay for edge in edges]) + 1  # bins after which what was said arrives
        return loud | (np.arange(self.n_bins)[:, None] - late < self.silenced_from)

    def common_input(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the common input, (trial, time, 1)."""
        return self.common * smooth_stimuli(rng, self.n_trials, self.n_bins, 1)


class Network(NamedTuple):
    """A network that has run.

    Attributes:
        edges: Who talks to whom.
        course: States, rates and messages.
        stimuli: (trial, time, region, input).
        common: (trial, time, common).
    """

    edges: Sequence[Edge]
    course: Course
    stimuli: np.ndarray
    common: np.ndarray


def recorded(
    setting: Setting,
    network: Network,
    rng: np.random.Generator,
    seed: int,
    *,
    conditions: np.ndarray | None = None,
    latents: bool = False,
    **attrs: Any,
) -> Simulation:
    """Record units of a network, and gather its truth.

    Args:
        setting: Of the recording.
        network: The network.
        rng: Draws units and noise.
        seed: Of the network, for the truth.
        conditions: Of trials, (trial,).
        latents: States are of few dimensions, and belong to the truth.
        **attrs: Of the truth.

    Returns:
        The recording, with regions "A", "B" and so on. Its truth has ``messages`` (trial, time, edge, message);
        ``inputs`` (trial, time, region, input), the private stimuli; ``common`` (trial, time, common) if there is one;
        ``rates`` (trial, time, neuron) of what is recorded, and of counts ``log_rate`` per bin; ``latents`` (trial,
        time, latent) where wanted; ``delay`` (edge) in seconds, beyond the one bin that every message takes;
        ``effectome`` (source, target), mean norms of messages around their mean. Coordinates ``source_of_edge``,
        ``target_of_edge``, ``region_of_neuron``, ``region_of_latent`` name regions; ``unit`` (neuron) is the place
        among the region's units.
    """
    names = list(ascii_uppercase[: len(network.course.rates)])
    place = setting.silenced
    require(place is None or place in range(len(names)), f"silenced is one of {len(names)} places from 0, not {place}")
    n_units = network.course.rates[0].shape[2]
    n_seen = setting.n_seen or n_units
    units = [np.sort(rng.choice(n_units, n_seen, replace=False)) for _ in names]
    rates = np.concatenate([h[:, 1:, own] for h, own in zip(network.course.rates, units, strict=True)], -1)
    per_neuron, per_edge = ("trial", "time", "neuron"), ("edge",)
    ends = [(edge.source, edge.target) for edge in network.edges]
    arrays: dict[str, Any] = {
        MESSAGES: (("trial", "time", "edge", "message"), network.course.messages),
        INPUTS: (("trial", "time", "region", "input"), network.stimuli),
        "rates": (per_neuron, rates),
        DELAY.name: (per_edge, np.array([edge.delay for edge in network.edges]) * setting.bin_width, SECONDS),
        EFFECTOME: (("source", "target"), effectome_of(network.course.messages, ends, len(names))),
    }
    if setting.counts is None:
        values = rates + setting.noise * rng.standard_normal(rates.shape)
    else:
        log_rate = setting.spread * rates
        log_rate += np.log(setting.counts / np.exp(log_rate).mean((0, 1)))  # so that every neuron has that mean
        values = rng.poisson(np.exp(log_rate)).astype(float)
        arrays["log_rate"] = (per_neuron, log_rate)
    if setting.common > 0:
        arrays["common"] = (("trial", "time", "common"), network.common)
    trial_coords = {} if conditions is None else {CONDITION: conditions}
    regions = {name: values[..., i * n_seen : (i + 1) * n_seen] for i, name in enumerate(names)}
    data = MultiRegionData(regions, unmistaken(setting.bin_width), drop_dead=None, trial_coords=trial_coords)
    coords: dict[str, Any] = {
        "region": names, "source": names, "target": names, "time": ("time", data.times, SECONDS),
        SOURCE: (per_edge, [names[source] for source, _ in ends]),
        TARGET: (per_edge, [names[target] for _, target in ends]),
        "region_of_neuron": ("neuron", np.repeat(names, n_seen)), "unit": ("neuron", np.concatenate(units)),
    }  # fmt: skip
    if latents:
        arrays["latents"] = (("trial", "time", "latent"), np.concatenate(network.course.states, -1))
        coords["region_of_latent"] = ("latent", np.repeat(names, [z.shape[2] for z in network.course.states]))
    if conditions is not None:
        coords["condition_of_trial"] = ("trial", conditions)
    return Simulation(data, xr.Dataset(arrays, coords, {**attrs, "bin_width": setting.bin_width, "seed": seed}))
