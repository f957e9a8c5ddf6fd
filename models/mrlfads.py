r"""MR-LFADS: learned dynamics of every region, and messages between regions.

Liu et al. (2025, ICLR), with transmission delays that are learned. Its authors have announced a patent on their method:
who wants to use it commercially should look into that.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, lax, random
from numpyro import distributions as dist
from numpyro import handlers

from mrgp.families.amortised import Amortised, Usual
from mrgp.parts.communication import EFFECTS, INPUTS, MESSAGES, ROUTING
from mrgp.parts.delays.base import DEFAULT_LONGEST
from mrgp.parts.delays.history import lag_weights
from mrgp.parts.drift import Drift, NoDrift
from mrgp.parts.emissions import Emission, Poisson
from mrgp.parts.networks import GRU, Perceptron, gaussian, network, quiet, single
from mrgp.parts.networks.autoregression import Steps, law_of_inputs, steps_of
from mrgp.parts.networks.cells import Cell, Gated
from mrgp.parts.networks.channels import Channels, Edges, RateChannels
from mrgp.parts.networks.controllers import Controller, Filtering, Seen, Sizes
from mrgp.parts.networks.first_messages import first_messages
from mrgp.parts.networks.of_regions import Places, each, network_of_each
from mrgp.parts.networks.talking import Now, Talking, Then
from mrgp.parts.readout import Readout
from mrgp.parts.sites import Site
from mrgp.recordings.arrays import SAME_STEP
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import inside
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.channels_fit import ChannelsFit
from mrgp.results.fit import Fit

TRANSMISSION_DELAY = Site("transmission_delay", "edge", unit="s")
IN_CHANNELS = "channels$params:{}"  # an array of the network of all edges, among the parameters of a fit
HELD = "held"  # deterministic site, (time, neuron): expected values that others hear, NaN for those that there are
RARE, SURE = -2.0, 2.0  # mean and sd, a priori, of the logit of a gate
HALF_OPEN = 0.0  # such a logit at first
LARGEST = 5.0  # of a neuron's rate around its mean, in units of its sd, as others hear it


@dataclass(frozen=True)
class MRLFADS(Amortised):
    r"""Regions with dynamics of their own that send each other messages.

    .. math::
        g_{i,t} = \mathrm{cell}_i(g_{i,t-1}, [u_{i,t}, \{m_{ji,t}\}_j]), \qquad
        \eta_{i,t} = C_i W_i g_{i,t} + d_i, \qquad r = E[y \mid \eta] \\
        m_{ji,t} \sim N(M_{ji}\, r_j(t - 1 - \delta_{ji}), s^2), \qquad u_i \sim AR(1), \qquad g_{i,0} = m_i + W^0_i z_i

    Messages are of the **rates** that the source is predicted to have, not of its hidden states: that is what makes
    their content identifiable. They are part of the generative program, so that recordings drawn from the model
    communicate, and a region that is silenced is missed by others (``fit.perturb``). The scale of a message is not
    identified: ``fit.effectome()`` measures by what it moves in its target.

    Inputs u are inferred bin after bin by a controller, from the region's own neurons: from what they do, and what of
    it the state of all regions had not led to expect (as in LFADS, Pandarinath et al. 2018, Nat. Methods 15, 805-815).

    Sample sites: ``initial`` (trial; region, dim), ``innovations`` (trial; time, region, input), what is new in an
    input, N(0, 1), ``message_noise`` (trial; time, edge, message); ``transmission_delay`` (edge) beyond one bin,
    ``input_timescale``, in seconds; ``input_spread``, and those of the emission.

    Args:
        n_factors: Factors of each region that its neurons read.
        n_states: States of each region.
        n_inputs: Inferred inputs of each region; 0 for none.
        n_messages: Numbers of a message.
        n_initial: Numbers z from which a region's trial starts.
        dynamics: "gru", "residual" or a :class:`mrgp.parts.networks.cells.Cell`.
        controller: How inputs are inferred: "filtering", from the bins so far, or "smoothing", from later ones too, by
            which rates of sparse counts come out better; or a :class:`mrgp.parts.networks.controllers.Controller`.
        channels: "rates", "graph", "attention" or a :class:`mrgp.parts.networks.channels.Channels`.
        max_delay: Longest transmission delay in seconds, beyond the one bin that a message always takes; 0 for no
            more, None for five bins.
        message_noise: s, sd of a message's noise; signals of a message are of the order of 1.
        width: States of each of a region's networks that infer.
        drift: "none", "slow" or a :class:`mrgp.SlowDrift`: what changes slowly from trial to trial of a session, and
            is neither in a trial's latents nor in messages.
        emission: An :class:`mrgp.Emission` or its name.
    """

    n_factors: int = 16
    n_states: int = 48
    n_inputs: int = 1
    n_messages: int = 2
    n_initial: int = 16
    _: KW_ONLY
    dynamics: Cell = Gated()  # noqa: RUF009  a frozen part
    controller: Controller = Filtering()  # noqa: RUF009  a frozen part
    channels: Channels = RateChannels()  # noqa: RUF009  a frozen part
    max_delay: float | None = None
    message_noise: float = 0.1
    width: int = 64
    drift: Drift = NoDrift()  # noqa: RUF009  a frozen part
    emission: Emission = Poisson()  # noqa: RUF009  a frozen part

    fit_class: ClassVar[type[Fit]] = ChannelsFit
    sends_messages: ClassVar[bool] = True
    has_own_posteriors: ClassVar[bool] = False  # noise of messages and gates have the same posterior in all trials
    # Inputs are read from a region's own bins: were these hidden, others would have to send it what it has lost.
    reads_across: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"n_factors": 1, "n_states": 1, "n_inputs": 0, "n_messages": 1, "n_initial": 1, "width": 1}
        for name, fewest in least.items():
            if getattr(self, name) < fewest:
                raise ValueError(f"MRLFADS: {name} counts at least {fewest}, not {getattr(self, name)}")
        for name in ("max_delay", "message_noise"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"MRLFADS: {name} is a number from 0 on, not {getattr(self, name)}")
        self.channels.n_carried(self.n_messages)  # refuses what it cannot send

    def __call__(self, data: MultiRegionData) -> None:
        layout, shape = data.layout, (data.n_bins, data.layout.n_regions, self.n_inputs)
        held = numpyro.deterministic(HELD, jnp.full((data.n_bins, layout.total_neurons), jnp.nan))
        regions, readout = self._regions(data)
        drift, law = self.drift.sample(data, regions.unit), self._law(data)
        with self.trials(data) as some:
            z = numpyro.sample("initial", dist.Normal(jnp.zeros((layout.n_regions, self.n_initial)), 1.0).to_event(2))
            new = jnp.zeros((some.n_trials, *shape), jnp.float32)
            if self.n_inputs:
                new = numpyro.sample("innovations", dist.Normal(new[0], 1.0).to_event(3))
            noise = self.message_noise * numpyro.sample("message_noise", self._noise(data))
            gates = self._gates(layout)

            def step(now: Now, own: Any) -> tuple[Now, Then]:
                kick, new, noise, held = own
                u, m = law.keep * now.inputs + kick * new, regions.arriving(now, noise)
                then = regions.driven(now, u, m, gates)
                return regions.after(now, then, held), then

            by_bin = law.kicks, *map(_by_bin, (new, noise)), held
            begin = regions.begin(single(z), self.n_inputs, held[0])
            then = jax.tree.map(_by_trial, lax.scan(step, begin, by_bin)[1])
            numpyro.deterministic("states", then.states)
            if self.n_inputs:
                numpyro.deterministic(INPUTS, then.inputs)
            numpyro.deterministic(MESSAGES, then.messages)
            numpyro.deterministic(ROUTING, then.routing)
            numpyro.deterministic(EFFECTS, regions.effects(then, self.observed(some).any(-1)))
            latents = then.factors.reshape(*then.factors.shape[:2], -1)
            self.observe(some, drift.added(then.eta, some), readout, latents=latents)

    def guide(self, data: MultiRegionData) -> None:
        own, size = partial(network_of_each, data.layout), self.width
        n_read = 2 * self.n_factors + self.drift.n_told
        regions, readout = self._regions(data)
        drift = self.drift.sample(data, regions.unit)
        back = own("back", partial(GRU.of, n_read, size))
        initial = own("initial_head", partial(Perceptron.of, (size, 2 * self.n_initial)))
        law = self._law(data)
        if self.n_inputs:
            control = self.controller.enter(own, Sizes(n_read, self.n_factors, size, self.n_inputs))
        with self.trials(data) as some:
            seen = self.reading(some, self._by_region(data.layout, regions.loadings))
            read = drift.beside(self._parts(data.layout, seen.all), some)
            ahead = each(back, read, axis=2, by=lambda net, bins: net(bins, reverse=True))
            z = single(numpyro.sample("initial", gaussian(each(initial, ahead[:, 0])).to_event(2)))
            noise = self.message_noise * numpyro.sample("message_noise", self._noise(data))
            gates = self._gates_inferred(data.layout)
            if not self.n_inputs:
                return
            usual, zero = self._usual(data), jnp.zeros((len(read), 1, data.layout.total_neurons))
            slow = drift.added(zero, some)[:, 0]

            def step(carried: tuple[Now, Array], own: Any) -> tuple[tuple[Now, Array], Any]:
                (now, memory), (kick, white, noise, read, ahead, of_bin) = carried, own
                m = regions.arriving(now, noise)
                expected = regions.driven(now, law.keep * now.inputs, m, gates)  # before the bin is seen
                news = seen.beyond(usual.units(self._rates(readout, expected.eta + slow)), *of_bin)
                told = Seen(read, ahead, self._parts(data.layout, news), expected.factors)
                memory, numbers = control.step(memory, told)
                q = gaussian(numbers)
                new = q.loc + q.scale * white
                then = regions.driven(now, law.keep * now.inputs + kick * new, m, gates)
                return (regions.after(now, then), memory), (q.loc, q.scale, new)

            shape = len(read), data.n_bins, data.layout.n_regions, self.n_inputs
            white = random.normal(numpyro.prng_key(), shape, jnp.float32)
            of_bins = jax.tree.map(_by_bin, (white, noise, read, ahead, (seen.values, seen.shown, seen.size)))
            begin = regions.begin(z, self.n_inputs), control.begin(len(read))
            mean, sd, new = jax.tree.map(_by_trial, lax.scan(step, begin, (law.kicks, *of_bins))[1])
            # Bins after a trial's end cost nothing.
            there = inside(some.length, *seen.values.shape[:2])[..., None, None]
            q = dist.Normal(jnp.where(there, mean, 0.0), jnp.where(there, sd, 1.0)).to_event(3)
            with handlers.substitute(data={"innovations": new}):  # what is inferred of a bin follows from those before
                numpyro.sample("innovations", q)

    def first_guess(self, data: MultiRegionData) -> dict[str, Any]:
        """First guess, where channels begin by a regression: what of a region predicts the others."""
        if not self.channels.begins_by_regression:
            return {}
        usual = Usual(jnp.asarray(data.center), jnp.asarray(data.scale))
        values = np.where(data.mask, usual.units(jnp.asarray(data.floats)), 0.0)
        messages = first_messages(values, data.layout, self.n_messages)
        if messages is None:
            return {}
        return {IN_CHANNELS.format(name): own for name, own in self.channels.first_guess(messages).items()}

    # ---- what results ask ----------------------------------------------------------------------------------------

    def delay_of(self, layout: Layout, sites: Mapping[str, Any]) -> np.ndarray:
        """Transmission delay of every edge in seconds beyond one bin, (edge,)."""
        return np.asarray(sites.get(TRANSMISSION_DELAY.name, np.zeros(Edges.of(layout.n_regions).n_edges)))

    def delayed_by(self, delay: np.ndarray) -> dict[str, Any]:
        """Make the program's switch by which edges are late by ``delay``, (edge,), in seconds."""
        return {TRANSMISSION_DELAY.name: jnp.asarray(delay)}

    def longest_delay(self, layout: Layout) -> float:
        """Longest transmission delay in seconds, beyond one bin."""
        return DEFAULT_LONGEST * layout.bin_width if self.max_delay is None else self.max_delay

    def held_at(
        self, layout: Layout, sites: Mapping[str, Any], region: str, rate: float | None, when: np.ndarray
    ) -> dict[str, Any]:
        """Make the program's switch by which others hear a region at a rate that it does not have.

        ``rate`` is in spikes per second where values are counts; None for each neuron's own mean. It is held in
        bins where ``when`` (time,) is true.

        Raises:
            DataError: there is no such region.
        """
        if region not in layout.regions:
            raise DataError(f"there is no region {region!r} here: choose from {', '.join(layout.regions)}")
        per_bin = layout.bin_width if self.emission.is_of_counts else 1.0
        level = np.asarray(sites["input_center"]) if rate is None else np.full(layout.total_neurons, rate * per_bin)
        own = layout.region_of_neuron == layout.regions.index(region)
        return {HELD: jnp.asarray(np.where(when[:, None] & own, level, np.nan))}

    # ---- pieces --------------------------------------------------------------------------------------------------

    def n_lags(self, layout: Layout) -> int:
        """Count the bins whose messages may still be on their way."""
        return int(np.ceil(self.longest_delay(layout) / layout.bin_width - SAME_STEP)) + 1

    def _delay(self, layout: Layout) -> Array:
        """Transmission delay of every edge in seconds, (edge,)."""
        n_edges, longest = Edges.of(layout.n_regions).n_edges, self.longest_delay(layout)
        if not (longest and n_edges):
            return jnp.zeros(n_edges)
        return TRANSMISSION_DELAY.sample(dist.Uniform(0.0, longest).expand((n_edges,)).to_event(1))

    def _noise(self, data: MultiRegionData) -> dist.Distribution:
        """Law of what is added to messages, the same with and without a recording."""
        n_edges, carried = Edges.of(data.layout.n_regions).n_edges, self.channels.n_carried(self.n_messages)
        return dist.Normal(jnp.zeros((data.n_bins, n_edges, carried), jnp.float32), 1.0).to_event(3)

    def _gates(self, layout: Layout) -> Array | None:
        """Sample how far edges are open, (trial, edge); None where they always are."""
        if not self.channels.has_gates:
            return None
        logits = dist.Normal(RARE, SURE).expand((Edges.of(layout.n_regions).n_edges,)).to_event(1)
        return _share_of(numpyro.sample("gates", logits))

    def _gates_inferred(self, layout: Layout) -> Array | None:
        """Sample the same from what was inferred of them."""
        if not self.channels.has_gates:
            return None
        center = numpyro.param("gate_center", jnp.full(Edges.of(layout.n_regions).n_edges, HALF_OPEN))
        spread = numpyro.param("gate_spread", jnp.zeros_like(center))
        return _share_of(numpyro.sample("gates", dist.Normal(center, jnp.exp(spread)).to_event(1)))

    def _regions(self, data: MultiRegionData) -> tuple[Talking, Readout]:
        """Enter the networks of all regions, and sample what the emission has of its own."""
        layout, own = data.layout, partial(network_of_each, data.layout)
        readout, unit, usual = self.emission_sites(data), self.unit(data), self._usual(data)  # d, and units
        start = own("start", partial(Perceptron.of, (self.n_initial, self.n_states)))  # W^0, m
        cell = own("cell", partial(self.dynamics.make, self._n_driving(layout), self.n_states))
        W = own("factors", partial(Perceptron.of, (self.n_states, self.n_factors), offset=False))
        C = network("neurons", partial(quiet, self.n_factors, layout.total_neurons)).weight
        edges, places = Edges.of(layout.n_regions), Places.of(layout)
        made = partial(self.channels.make, layout, self.n_messages, self.n_states)
        channel = network("channels", made, lambda found: found.log_prior(places, edges))  # M
        lags = lag_weights(self._delay(layout) / layout.bin_width, self.n_lags(layout)).astype(C.dtype)

        def heard(signal: Array, held: Array | None) -> Array:
            rates = self._rates(readout, signal)
            told = rates if held is None else jnp.where(jnp.isnan(held), rates, held)
            return jnp.clip(usual.units(told), -LARGEST, LARGEST)

        return Talking(start, cell, W, C, unit, channel, lags, edges, places, layout.region_of_neuron, heard), readout

    def _rates(self, readout: Readout, signal: Array) -> Array:
        """Expected values of neurons, from eta less the offsets, in single precision."""
        alone = jax.tree.map(single, readout)
        return self.emission.given(alone, single(signal) + alone.offset).mean

    def _usual(self, data: MultiRegionData) -> Usual:
        """Mean and sd of each neuron in single precision."""
        return jax.tree.map(single, self.usual(data))

    def _law(self, data: MultiRegionData) -> Steps:
        """Sample the law of inputs: keep (region, input), and kicks (time, region, input)."""
        n_regions = data.layout.n_regions
        steps = steps_of(law_of_inputs(n_regions * self.n_inputs, data.bin_width), data.n_bins)
        shape = n_regions, self.n_inputs
        return Steps(steps.keep.reshape(shape), steps.kicks.reshape(data.n_bins, *shape))

    def _n_driving(self, layout: Layout) -> int:
        """Count the inputs and messages that drive a region."""
        return self.n_inputs + (layout.n_regions - 1) * self.n_messages

    def _by_region(self, layout: Layout, loadings: Array) -> Array:
        """Loadings by which each region reads its own neurons, (neuron, region x factor)."""
        own = layout.region_of_neuron[:, None] == np.arange(layout.n_regions)
        return (loadings[:, None] * own[..., None]).reshape(len(loadings), -1)

    def _parts(self, layout: Layout, told: Array) -> Array:
        """Arrange (..., kind x region x factor) as (..., region, kind x factor)."""
        parts = told.reshape(*told.shape[:-1], -1, layout.n_regions, self.n_factors)
        return jnp.moveaxis(parts, -3, -2).reshape(*told.shape[:-1], layout.n_regions, -1)


def _share_of(logits: Array) -> Array:
    return jax.nn.sigmoid(logits).astype(jnp.float32)


def _by_bin(array: Array) -> Array:
    """Arrange (trial, time, ...) as (time, trial, ...), in single precision."""
    return jnp.moveaxis(single(array), 1, 0)


def _by_trial(array: Array) -> Array:
    """Arrange (time, trial, ...) as (trial, time, ...)."""
    return jnp.moveaxis(array, 0, 1)
