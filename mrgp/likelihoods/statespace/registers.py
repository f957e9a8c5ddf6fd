r"""Automatic choice of registers: the cheapest window that reads every delay well enough.

Reading is by the conditional mean E[g(t - delay) | s] of :mod:`mrgp.likelihoods.statespace.readout`.

"Well enough" is a missed variance below the model's own GP noise at the shortest timescale expected. The cost of a
window is that of the covariance recursion, states and readouts cubed per step.
"""

from collections.abc import Iterator

import numpy as np

from mrgp.likelihoods.statespace.assemble import Prior, StateSpace
from mrgp.likelihoods.statespace.lift import Lift
from mrgp.likelihoods.statespace.readout import RIDGE, Window

SUBSTEPS = (1, 2, 3, 4)
STEPS = (2, 3, 4, 5, 8, 10)
OVERHEAD_STATES = 40  # a step of 30 states costs about as much in overhead as in arithmetic
LAG_DIGITS = 9  # of a bin: lags that differ by less are one, as differences of registers are
SHARED_STEP = 0.1  # bins of one step miss the same part of the signal: ask more of windows that cover several


def missed_variance(lift: Lift, window: Window, hyper: dict[str, np.ndarray], offsets: np.ndarray) -> float:
    """Largest variance that reading misses, in host NumPy.

    ``offsets`` (point, latent) are bins behind the front.
    """
    latents = range(len(hyper["timescale"]))
    own = ({name: value[k : k + 1] for name, value in hyper.items()} for k in latents)
    return max((_missed(lift, window, one, offsets[:, k]) for k, one in zip(latents, own, strict=True)), default=0.0)


def _missed(lift: Lift, window: Window, hyper: dict[str, np.ndarray], offsets: np.ndarray) -> float:
    """Largest variance missed for one latent, parameters (1,), at offsets (point,)."""
    h = lift.read()
    behind = np.arange(1, window.n_registers + 1) * window.spacing

    def propagate(lags: np.ndarray) -> np.ndarray:  # (lag, state, state)
        return np.asarray(lift.propagate(lags[:, None], hyper))[:, 0]

    def correlation(lags: np.ndarray) -> np.ndarray:
        distinct, place = np.unique(np.abs(lags).round(LAG_DIGITS), return_inverse=True)
        return (propagate(distinct) @ h @ h)[place.reshape(lags.shape)]

    transition = propagate(np.abs(offsets))
    with_front = np.where((offsets >= 0)[:, None], transition @ h, h @ transition)
    k = np.concatenate([with_front, correlation(offsets[:, None] - behind)], axis=-1)
    cross = (propagate(behind) @ h).T if len(behind) else np.zeros((lift.order, 0))
    G = np.block([[np.eye(lift.order), cross], [cross.T, correlation(behind[:, None] - behind)]])
    weights = np.linalg.solve(G + RIDGE[8] * np.eye(len(G)), k.T).T
    return float((1 - np.einsum("pi,pi->p", weights, 2 * k - weights @ G)).max(initial=0.0))


def _candidates(reach: float, autocorrelated: bool) -> Iterator[Window]:
    span = int(np.ceil(2 * reach + autocorrelated - 1e-9))
    shifts = (-0.5,) if autocorrelated else ()
    for registers in range(span + 1):
        yield Window(registers, shifts=shifts)
    for substeps in SUBSTEPS[1:]:
        for registers in range(substeps, max(span, 1) * substeps + 1):
            yield Window(registers, 1, substeps, shifts)
    for step in () if autocorrelated else STEPS:
        for registers in range(1, int(np.ceil((2 * reach + step - 1) / step)) + 1):
            yield Window(registers, step)


def choose_window(
    prior: Prior,
    lift: Lift,
    reach: np.ndarray,
    shortest_across: dict[str, np.ndarray],
    shortest_within: dict[str, np.ndarray],
    tolerance: float | None = None,
    autocorrelated: bool = False,
) -> Window:
    """Choose the cheapest window that misses at most ``tolerance`` of a copy's variance.

    Args:
        prior: The model's prior.
        lift: Lift of its kernel.
        reach: Largest |delay| from the middle of the window in bins, (across_latent,).
        shortest_across: Kernel parameters of the across latents, or of one that is as hard to read, each
            (across_latent,).
        shortest_within: The same of the within latents; matters where a step covers several bins.
        tolerance: Largest missed variance; None for the prior's GP noise.
        autocorrelated: Whether noise is: the bin before is read too.

    Returns:
        The window; where none is good enough (delays of a rough process between bins), the finest.
    """
    tolerance = prior.gp_noise if tolerance is None else tolerance

    def cost(window: Window) -> float:
        space = StateSpace(prior, lift, window)
        read = window.step * prior.assignment.n_readouts
        return (2 * space.n_states**3 + read**3 + OVERHEAD_STATES**3) / window.step

    finest, finest_missed = Window(0), np.inf
    for window in sorted(_candidates(float(reach.max(initial=0.0)), autocorrelated), key=cost):
        edges = np.linspace(-reach, reach + window.step - 1 + autocorrelated, 8 * window.n_registers + 9)
        missed = missed_variance(lift, window, shortest_across, window.lead + edges)
        if window.step > 1 and any(prior.assignment.n_within):
            own = StateSpace(prior, lift, window).within_window
            inside = own.center + np.arange(window.step, dtype=float)[:, None]
            everywhere = np.broadcast_to(inside, (window.step, len(shortest_within["timescale"])))
            missed = max(missed, missed_variance(lift, own, shortest_within, everywhere))
        if missed <= (tolerance if window.step == 1 else SHARED_STEP * tolerance):
            return window
        if missed < 0.99 * finest_missed:
            finest, finest_missed = window, missed
    return finest
