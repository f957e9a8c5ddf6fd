r"""The automatic choice of registers: the cheapest window that reads every delay well enough (DESIGN 2.2).

"Well enough" is a missed variance below the model's own GP noise at the shortest timescale expected. The cost of a
window is that of the covariance recursion, states and readouts cubed per step.
"""

from collections.abc import Iterator

import numpy as np

from mrgp.statespace.assemble import Prior, StateSpace
from mrgp.statespace.lift import Lift
from mrgp.statespace.readout import Window

SUBSTEPS = (1, 2, 3, 4)
STEPS = (2, 3, 4, 5, 8, 10)
OVERHEAD_STATES = 40  # a step of 30 states costs about as much in overhead as in arithmetic
SHARED_STEP = 0.1  # bins of one step miss the same part of the signal: ask more of windows that cover several


def missed_variance(lift: Lift, window: Window, hyper: dict[str, np.ndarray], offsets: np.ndarray) -> float:
    """Largest variance that reading at ``offsets`` (point,) bins behind the front misses, over latents; host NumPy."""
    h = lift.read()
    behind = np.arange(1, window.n_registers + 1) * window.spacing

    def propagate(lags: np.ndarray) -> np.ndarray:  # (lag, latent, state, state)
        return np.asarray(lift.propagate(np.broadcast_to(lags[:, None], (len(lags), len(hyper["timescale"]))), hyper))

    def correlation(lags: np.ndarray) -> np.ndarray:  # (..., latent)
        flat = np.einsum("i,lkij,j->lk", h, propagate(np.abs(lags).ravel()), h)
        return flat.reshape(*lags.shape, flat.shape[-1])

    transition = propagate(np.abs(offsets))
    with_front = np.where((offsets >= 0)[:, None, None], transition @ h, np.einsum("i,lkij->lkj", h, transition))
    k = np.concatenate([with_front, np.moveaxis(correlation(offsets[:, None] - behind), 1, 2)], axis=-1)
    worst = 0.0
    for latent in range(k.shape[1]):
        cross = (propagate(behind)[:, latent] @ h).T if len(behind) else np.zeros((lift.order, 0))
        registers = correlation(behind[:, None] - behind)[..., latent]
        G = np.block([[np.eye(lift.order), cross], [cross.T, registers]])
        weights = np.linalg.solve(G + 1e-11 * np.eye(len(G)), k[:, latent].T).T
        missed = 1 - np.einsum("pi,pi->p", weights, 2 * k[:, latent] - weights @ G)
        worst = max(worst, float(missed.max(initial=0.0)))
    return worst


def _candidates(max_delay: float) -> Iterator[Window]:
    span = int(np.ceil(2 * max_delay - 1e-9))
    for registers in range(span + 1):
        yield Window(registers)
    for substeps in SUBSTEPS[1:]:
        yield Window(max(span, 1) * substeps, 1, substeps)
    for step in STEPS:
        reach = int(np.ceil((2 * max_delay + step - 1) / step))
        for registers in range(1, reach + 1):
            yield Window(registers, step)


def choose_window(
    prior: Prior,
    lift: Lift,
    max_delay: float,
    shortest_across: dict[str, np.ndarray],
    shortest_within: dict[str, np.ndarray],
    tolerance: float | None = None,
) -> Window:
    """The cheapest window that misses at most ``tolerance`` of a copy's variance.

    Args:
        prior: The model's prior.
        lift: Lift of its kernel.
        max_delay: Bins.
        shortest_across: Kernel parameters, each (1,), of the across latent that is hardest to read.
        shortest_within: The same of the within latents; matters where a step covers several bins.
        tolerance: Largest missed variance; None for the prior's GP noise.

    Returns:
        The window; where none is good enough (delays of a rough process between bins), the finest.
    """
    tolerance = prior.gp_noise if tolerance is None else tolerance

    def cost(window: Window) -> float:
        space = StateSpace(prior, lift, window)
        read = window.step * prior.assignment.n_readouts
        return (2 * space.n_states**3 + read**3 + OVERHEAD_STATES**3) / window.step

    finest, finest_missed = Window(0), np.inf
    for window in sorted(_candidates(max_delay), key=cost):
        edges = np.linspace(-max_delay, max_delay + window.step - 1, 8 * window.n_registers + 9)
        missed = missed_variance(lift, window, shortest_across, window.center + edges)
        if window.step > 1 and any(prior.assignment.n_within):
            own = StateSpace(prior, lift, window).within_window
            inside = own.center + np.arange(window.step, dtype=float)
            missed = max(missed, missed_variance(lift, own, shortest_within, inside))
        if missed <= (tolerance if window.step == 1 else SHARED_STEP * tolerance):
            return window
        if missed < 0.99 * finest_missed:
            finest, finest_missed = window, missed
    return finest
