r"""MR-LFADS: learned dynamics of every region, and messages between regions.

Liu et al. (2025, ICLR), with transmission delays that are learned. Its authors have announced a patent on their method:
who wants to use it commercially should look into that.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, lax
from numpyro import distributions as dist

from mrgp.families.amortised import Amortised
from mrgp.parts.communication import EFFECTS, MESSAGES, ROUTING
from mrgp.parts.delays.base import DEFAULT_LONGEST
from mrgp.parts.delays.history import lag_weights
from mrgp.parts.emissions import Emission, Poisson
from mrgp.parts.networks import GRU, Perceptron, gaussian, network, quiet, single
from mrgp.parts.networks.autoregression import Autoregression, law_of_inputs
from mrgp.parts.networks.cells import Cell, Gated
from mrgp.parts.networks.channels import Channels, Edges, RateChannels
from mrgp.parts.networks.of_regions import Places, each, of_each
from mrgp.parts.sites import Site
from mrgp.recordings.arrays import SAME_STEP
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.channels_fit import ChannelsFit
from mrgp.results.fit import Fit

TRANSMISSION_DELAY = Site("transmission_delay", "edge", unit="s")
HELD = "held"  # deterministic site: expected values at which others hear neurons, NaN for what they are
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
    communicate, and a region that is silenced is missed by others (``fit.perturb``). Inputs u are inferred from the
    region's own bins up to the present one. The scale of a message is not identified: ``fit.effectome()`` measures by
    what it moves in its target.

    Sample sites: ``initial`` (trial; region, dim), ``inputs`` (trial; time, region x input), ``message_noise`` (trial;
    time, edge, message); ``transmission_delay`` (edge) beyond one bin, ``input_timescale``, in seconds;
    ``input_spread``, and those of the emission.

    Args:
        n_factors: Factors of each region that its neurons read.
        n_states: States of each region.
        n_inputs: Inferred inputs of each region; 0 for none.
        n_messages: Numbers of a message.
        n_initial: Numbers z from which a region's trial starts.
        dynamics: "gru", "residual" or a :class:`mrgp.parts.networks.cells.Cell`.
        channels: "rates", "graph", "attention" or a :class:`mrgp.parts.networks.channels.Channels`.
        max_delay: Longest transmission delay in seconds, beyond the one bin that a message always takes; 0 for no
            more, None for five bins.
        message_noise: s, sd of a message's noise; signals of a message are of the order of 1.
        width: States of each of a region's networks that infer.
        emission: An :class:`mrgp.Emission` or its name.
    """

    n_factors: int = 10
    n_states: int = 32
    n_inputs: int = 1
    n_messages: int = 2
    n_initial: int = 16
    _: KW_ONLY
    dynamics: Cell = Gated()  # noqa: RUF009  a frozen part
    channels: Channels = RateChannels()  # noqa: RUF009  a frozen part
    max_delay: float | None = None
    message_noise: float = 0.1
    width: int = 64
    emission: Emission = Poisson()  # noqa: RUF009  a frozen part

    fit_class: ClassVar[type[Fit]] = ChannelsFit
    sends_messages: ClassVar[bool] = True
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
        layout, own = data.layout, partial(_of_regions, data.layout)
        readout, unit, usual = self.emission_sites(data), self.unit(data), self.usual(data)  # d, and units
        start = own("start", partial(Perceptron.of, (self.n_initial, self.n_states)))  # W^0, m
        cell = own("cell", partial(self.dynamics.make, self._n_driving(layout), self.n_states))
        W = own("factors", partial(Perceptron.of, (self.n_states, self.n_factors), offset=False))
        C = self._neurons(layout)
        edges, places = Edges.of(layout.n_regions), Places.of(layout)
        made = partial(self.channels.make, layout, self.n_messages, self.n_states)
        channel = network("channels", made, lambda found: found.log_prior(places, edges))  # M
        lags = lag_weights(self._delay(layout) / layout.bin_width, self.n_lags(layout)).astype(C.dtype)
        law = law_of_inputs(layout.n_regions * self.n_inputs, layout.bin_width)
        held = numpyro.deterministic(HELD, jnp.full(layout.total_neurons, jnp.nan))

        def eta_of(states: Array) -> tuple[Array, Array]:
            factors = each(W, states)
            return factors, unit.astype(C.dtype) * (C * factors[:, layout.region_of_neuron]).sum(-1)

        def change_of(states: Array) -> Array:
            """Change of a region's eta by states, root mean square in units, (trial, region)."""
            added = places(eta_of(states)[1] / unit)
            return jnp.sqrt((added**2).sum(-1) / places.there.sum(-1))

        def sent(signal: Array) -> Array:
            """Messages as they leave, of the rates that regions are predicted to have."""
            rates = self.emission.given(readout, signal + readout.offset).mean
            heard = usual.units(jnp.where(jnp.isnan(held), rates, held))
            return channel.send(places(jnp.clip(heard, -LARGEST, LARGEST).astype(C.dtype)), edges)

        with self.trials(data) as some:
            z = numpyro.sample("initial", dist.Normal(jnp.zeros((layout.n_regions, self.n_initial)), 1.0).to_event(2))
            u = jnp.zeros((some.n_trials, data.n_bins, 0), C.dtype)
            if law is not None:
                u = numpyro.sample("inputs", Autoregression(*law, data.n_bins, some.length))
            noise = self.message_noise * numpyro.sample("message_noise", self._noise(data))
            gates = self._gates(layout)

            def step(now: Now, drive: tuple[Array, Array]) -> tuple[Now, Then]:
                u, noise = drive
                m = jnp.einsum("el,blem->bem", lags, now.history) + noise
                heard = channel.receive(m, now.states, gates, edges)
                driving = jnp.concatenate([u, heard.inputs.reshape(*u.shape[:2], -1)], -1)
                g = each(cell, now.states, driving)
                f, eta = eta_of(g)
                history = jnp.concatenate([sent(eta)[:, None], now.history[:, :-1]], 1)
                return Now(g, history), Then(now.states, driving, g, f, eta, m, heard.routing)

            g = each(start, z)
            before = sent(eta_of(g)[1])[:, None]  # rates were always what they are at first
            first = Now(g, jnp.broadcast_to(before, (len(before), lags.shape[-1], *before.shape[2:])))
            drive = u.reshape(*u.shape[:2], layout.n_regions, self.n_inputs), noise
            by_bin = jax.tree.map(lambda array: jnp.moveaxis(single(array), 1, 0), drive)
            then = jax.tree.map(lambda array: jnp.moveaxis(array, 0, 1), lax.scan(step, first, by_bin)[1])
            numpyro.deterministic("states", then.states)
            numpyro.deterministic(MESSAGES, then.messages)
            numpyro.deterministic(ROUTING, then.routing)
            numpyro.deterministic(EFFECTS, self._effects(cell, change_of, then, edges))
            self.observe(some, then.eta, readout, latents=then.factors.reshape(*u.shape[:2], -1))

    def guide(self, data: MultiRegionData) -> None:
        layout, own, size = data.layout, partial(_of_regions, data.layout), self.width
        C, n_read = self._neurons(layout), 2 * self.n_factors
        back = own("back", partial(GRU.of, n_read, size))
        initial = own("initial_head", partial(Perceptron.of, (size, 2 * self.n_initial)))
        causal, head = None, None
        if self.n_inputs:
            causal = own("causal", partial(GRU.of, n_read, size))
            head = own("inputs_head", partial(Perceptron.of, (size, 2 * self.n_inputs)))
        with self.trials(data) as some:
            read = self._read(some, C)
            first = each(back, read, axis=2, by=lambda net, bins: net(bins, reverse=True))[:, 0]
            numpyro.sample("initial", gaussian(each(initial, first)).to_event(2))
            if causal is not None:
                numbers = each(head, each(causal, read, axis=2), axis=2)  # (trial, time, region, 2 x input)
                parts = [half.reshape(*half.shape[:2], -1) for half in jnp.split(numbers, 2, -1)]
                q = gaussian(jnp.concatenate(parts, -1))
                if some.length is not None:  # bins after a trial's end cost nothing
                    q = q.mask((jnp.arange(data.n_bins) < some.length[:, None])[..., None])
                numpyro.sample("inputs", q.to_event(2))
            if self.channels.has_gates:
                center = numpyro.param("gate_center", jnp.full(Edges.of(layout.n_regions).n_edges, HALF_OPEN))
                spread = numpyro.param("gate_spread", jnp.zeros_like(center))
                numpyro.sample("gates", dist.Normal(center, jnp.exp(spread)).to_event(1))
            numpyro.sample("message_noise", self._noise(data))

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

    def held_at(self, layout: Layout, sites: Mapping[str, Any], region: str, rate: float | None) -> dict[str, Any]:
        """Make the program's switch by which others hear a region at a rate that it does not have.

        ``rate`` is in spikes per second where values are counts; None for each neuron's own mean.

        Raises:
            DataError: there is no such region.
        """
        if region not in layout.regions:
            raise DataError(f"there is no region {region!r} here: choose from {', '.join(layout.regions)}")
        per_bin = layout.bin_width if self.emission.is_of_counts else 1.0
        level = np.asarray(sites["input_center"]) if rate is None else np.full(layout.total_neurons, rate * per_bin)
        own = layout.region_of_neuron == layout.regions.index(region)
        return {HELD: jnp.asarray(np.where(own, level, np.nan))}

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
        return jax.nn.sigmoid(numpyro.sample("gates", logits)).astype(jnp.float32)

    def _n_driving(self, layout: Layout) -> int:
        """Count the inputs and messages that drive a region."""
        return self.n_inputs + (layout.n_regions - 1) * self.n_messages

    def _neurons(self, layout: Layout) -> Array:
        """Loadings of neurons on the factors of their region, (neuron, factor)."""
        return network("neurons", partial(quiet, self.n_factors, layout.total_neurons)).weight

    def _read(self, data: MultiRegionData, loadings: Array) -> Array:
        """Sum what the guide sees of each region by its loadings, (trial, time, region, 2 x factor)."""
        n_regions, region = data.layout.n_regions, data.layout.region_of_neuron
        own = region[:, None] == np.arange(n_regions)
        of_all = (loadings[:, None] * own[..., None]).reshape(len(loadings), -1)  # each region reads its own neurons
        told = self.on_loadings(data, of_all)
        parts = told.reshape(*told.shape[:2], 2, n_regions, self.n_factors)
        return jnp.moveaxis(parts, 2, 3).reshape(*told.shape[:2], n_regions, -1)

    def _effects(self, cell: Any, change_of: Callable[[Array], Array], then: "Then", edges: Edges) -> Array:
        """Compute how far messages move the neurons of their targets, (trial, time, edge).

        It is, in each bin, what they do with the message less what they would do with its mean.
        """
        usual = then.driving.mean((0, 1))
        flat = then.before.reshape(-1, *then.before.shape[2:])
        slot_of = (jnp.arange(usual.shape[-1]) - self.n_inputs) // self.n_messages  # -1 for inputs

        def without(slot: Array) -> Array:
            driving = jnp.where(slot_of == slot, usual, then.driving)
            moved = each(cell, flat, driving.reshape(-1, *driving.shape[2:]))
            return change_of(then.states.reshape(moved.shape) - moved)

        moved = jax.lax.map(without, jnp.arange(edges.n_regions - 1))  # (source, trial x time, region)
        return jnp.moveaxis(moved, 0, -1).reshape(*then.states.shape[:2], edges.n_edges)


class Now(NamedTuple):
    """State of the program between two bins.

    Attributes:
        states: (trial, region, state).
        history: What was said in the last bins, the latest first, (trial, lag, edge, carried).
    """

    states: Array
    history: Array


class Then(NamedTuple):
    """Numbers of all bins, (trial, time, ...).

    Attributes:
        before: States of the bin before, (..., region, state).
        driving: Inputs and messages, (..., region, number).
        states: (..., region, state).
        factors: (..., region, factor).
        eta: Less the offsets, (..., neuron).
        messages: What has arrived, (..., edge, carried).
        routing: How far edges are open, (..., edge).
    """

    before: Array
    driving: Array
    states: Array
    factors: Array
    eta: Array
    messages: Array
    routing: Array


def _of_regions(layout: Layout, name: str, make: Any) -> Any:
    """Enter one network for each region."""
    return network(name, partial(of_each, make, layout.n_regions))
