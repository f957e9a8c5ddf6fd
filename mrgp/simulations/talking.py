r"""Recursion of regions that talk: states, rates and messages, bin by bin.

.. math::
    z_{i,t} = F_i(z_{i,t-1}, u_{i,t}, \{m_{ji,t}\}, c_t), \qquad h_{i,t} = G_i(z_{i,t}), \qquad
    m_{ji,t} = \varphi\big(P_{ji}\, h_j(t - 1 - \delta_{ji})\big)

with private stimuli u, an input c that all regions get, and messages of few dimensions, read from the source's rates.
The delay is in bins, beyond the one bin that every message takes. Where it is a fraction, rates are interpolated
linearly between bins. Before the trial they are those of the state that a region starts from.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

type Squash = Callable[[np.ndarray], np.ndarray]
type Step = Callable[[np.ndarray, Arrivals], np.ndarray]

STIMULUS_BINS = 10.0  # time constant of stimuli: white ones leave nothing for a model to win


class Arrivals(NamedTuple):
    """Everything that reaches a region in one bin.

    Attributes:
        stimulus: u, private.
        messages: Those of its incoming edges, in their order.
        common: c.
    """

    stimulus: Float[np.ndarray, "trial input"]
    messages: Float[np.ndarray, "trial incoming message"]
    common: Float[np.ndarray, "trial common"]


class Region(NamedTuple):
    """Dynamics of one region.

    Attributes:
        start: State before the first bin, (trial, state).
        step: F, from the state of the bin before and arrivals to the state.
        rates: G, from states (..., state) to rates of order 1, (..., unit).
    """

    start: Float[np.ndarray, "trial state"]
    step: Step
    rates: Callable[[np.ndarray], np.ndarray]


class Edge(NamedTuple):
    """One region that talks to another.

    Attributes:
        source, target: Places of the regions.
        readout: P, from the source's rates.
        delay: In bins, 0 or more.
    """

    source: int
    target: int
    readout: Float[np.ndarray, "message unit"]
    delay: float


class Course(NamedTuple):
    """States, rates and messages of all regions in all bins.

    Attributes:
        states: Of each region, (trial, time, state).
        rates: Of each region, (trial, 1 + time, unit): the first are those before the trial.
        messages: Of all edges.
    """

    states: list[np.ndarray]
    rates: list[np.ndarray]
    messages: Float[np.ndarray, "trial time edge message"]


def run(
    regions: Sequence[Region],
    edges: Sequence[Edge],
    stimuli: Float[np.ndarray, "trial time region input"],
    common: Float[np.ndarray, "trial time common"],
    squash: Squash,
    forced: Float[np.ndarray, "trial time edge message"] | None = None,
    heard: np.ndarray | None = None,
) -> Course:
    """Run the recursion above over all bins.

    ``squash`` is phi. With ``forced``, these are the messages, and nothing is read from rates. Edges that are not
    ``heard`` (time, edge) carry 0.
    """
    n_trials, n_bins = stimuli.shape[:2]
    state = [region.start for region in regions]
    rates = [np.repeat(region.rates(region.start)[:, None], 1 + n_bins, 1) for region in regions]
    states = [np.empty((n_trials, n_bins, z.shape[1])) for z in state]
    n_dims = len(edges[0].readout) if edges else 0
    messages = np.empty((n_trials, n_bins, len(edges), n_dims)) if forced is None else forced
    incoming = [[e for e, edge in enumerate(edges) if edge.target == r] for r in range(len(regions))]
    for t in range(n_bins):
        if forced is None:
            for e, edge in enumerate(edges):
                sent = squash(delayed(rates[edge.source], t, edge.delay) @ edge.readout.T)
                messages[:, t, e] = sent if heard is None or heard[t, e] else 0.0
        for r, region in enumerate(regions):
            arrived = Arrivals(stimuli[:, t, r], messages[:, t, incoming[r]], common[:, t])
            state[r] = region.step(state[r], arrived)
            states[r][:, t], rates[r][:, 1 + t] = state[r], region.rates(state[r])
    return Course(states, rates, messages)


def delayed(rates: Float[np.ndarray, "trial bin unit"], t: int, delay: float) -> Float[np.ndarray, "trial unit"]:
    """Rates one bin and ``delay`` bins before bin t.

    The first of ``rates`` are those before the trial.
    """
    whole = int(np.floor(delay))
    share = delay - whole
    late, later = (rates[:, max(t - whole - more, 0)] for more in (0, 1))
    return late if share == 0 else (1 - share) * late + share * later


def delayed_series(values: Float[np.ndarray, "trial bin value"], delay: float) -> Float[np.ndarray, "trial time value"]:
    """All bins of :func:`delayed`: one fewer than ``values`` have."""
    return np.stack([delayed(values, t, delay) for t in range(values.shape[1] - 1)], 1)


def smooth_stimuli(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw AR(1) courses of variance 1 along the second axis, with a time constant of ten bins."""
    keep = np.exp(-1 / STIMULUS_BINS)
    white = rng.standard_normal(shape)
    white[:, 1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], white, axis=1)


def orthonormal(rng: np.random.Generator, n_rows: int, n_columns: int) -> np.ndarray:
    """Draw orthonormal columns, (row, column): what is sent through them keeps its norm."""
    return np.linalg.qr(rng.standard_normal((n_rows, n_columns)))[0]


def random_weights(rng: np.random.Generator, n_units: int, gain: float) -> np.ndarray:
    """Draw recurrent weights, normal with variance gain^2 / units, (unit, unit)."""
    return gain * rng.standard_normal((n_units, n_units)) / np.sqrt(n_units)
