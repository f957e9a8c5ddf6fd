r"""State space of a whole model: across latents with their windows, then within latents.

States are ordered latent by latent; readouts as in :mod:`mrgp.likelihoods.reduction`. Blocks are built for all latents
at once and laid out by products with identity matrices, which keeps the traced program small.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.lift import Lift, is_white
from mrgp.likelihoods.statespace.readout import LatentBlocks, Past, Window, latent_blocks, readout_weights
from mrgp.parts.kernels import Hyperparameters, Kernel
from mrgp.parts.latents import LatentLayout


class Latents(NamedTuple):
    """Parameters of the latent signals, in bins.

    Attributes:
        delay: (time or 1, region, across_latent); positive means the region lags region 1.
        across: Parameters of the across latents, each (across_latent, ...); of a kernel, (across_latent,).
        within: Parameters of the within latents of all regions, each (within_latent, ...).
        autocorrelation: phi of the noise of every region, (region,), and then a time axis of every bin in ``delay``;
            None where noise is white (see ``emissions.autocorrelated``).
    """

    delay: Array
    across: Hyperparameters
    within: Hyperparameters
    autocorrelation: Array | None = None


@dataclass(frozen=True)
class Prior:
    """Gaussian-process prior of a model's readouts; static.

    Attributes:
        kernel: Covariance of every latent.
        gp_noise: Share eps of white noise in every readout, independent between regions; in (0, 1).
        assignment: Numbers of regions, neurons and latents.
    """

    kernel: Kernel
    gp_noise: float
    assignment: LatentLayout

    def __post_init__(self) -> None:
        if not 0 < self.gp_noise < 1:
            raise ValueError(f"gp_noise is a share of variance in (0, 1), not {self.gp_noise}")


class SignalReader(NamedTuple):
    """Weights that read latents from the state at several points of a step.

    Attributes:
        weights: (point, latent, state_of_latent).
        missed: Variance that reading misses, (point, latent).
        first: Index of the first state of these latents, which follow one another.
    """

    weights: Array
    missed: Array
    first: int


class Space(Protocol):
    """State space of latents and their readouts, as a Markov likelihood needs it.

    Static and hashable.
    """

    @property
    def prior(self) -> Any:
        """Prior that the state space represents; it has an ``assignment``."""

    @property
    def window(self) -> Window:
        """Bins per step, and registers."""

    @property
    def is_stationary(self) -> bool:
        """True if a trial begins anywhere in a process that always was."""

    @property
    def remembers(self) -> bool:
        """False if states of a step tell nothing of other steps."""

    @property
    def is_standard(self) -> bool:
        """True if readouts have mean 0 and variance 1 a priori, at all times."""

    @property
    def kinds(self) -> tuple[Alike, ...]:
        """States and readouts of independent latents; () if all are one process."""

    def for_reading(self) -> Self:
        """Copy with latents that can be read between bins.

        ValueError if they have no values there.
        """

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics of all states, and the weights that read readouts from them."""

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the latents of one kind ("across", "within").

        They read ``refine`` points per bin.
        """


def block_diagonal(blocks: Array) -> Array:
    """Lay (latent, row, column) blocks along the diagonal of one matrix."""
    count, rows, columns = blocks.shape
    laid = jnp.einsum("kij,kl->kilj", blocks, jnp.eye(count, dtype=blocks.dtype))
    return laid.reshape(count * rows, count * columns)


def join_diagonal(first: Array, second: Array) -> Array:
    """Block diagonal of two matrices with the same leading axes."""
    pad = [(0, 0)] * (first.ndim - 2)
    top = jnp.pad(first, [*pad, (0, 0), (0, second.shape[-1])])
    bottom = jnp.pad(second, [*pad, (0, 0), (first.shape[-1], 0)])
    return jnp.concatenate([top, bottom], axis=-2)


def laid_out(across: Array, within: Array) -> Array:
    """Lay blocks (latent, row, column) of both kinds of latents along one diagonal."""
    return join_diagonal(block_diagonal(across), block_diagonal(within))


@dataclass(frozen=True)
class StateSpace:
    """State space of a prior: the lift of its kernel and the window of registers; static.

    ``autocorrelated`` says that noise is, so that every bin reads the bin before too.
    """

    prior: Prior
    lift: Lift
    window: Window
    within_registers: int = 0
    autocorrelated: bool = False
    is_stationary: ClassVar[bool] = True
    is_standard: ClassVar[bool] = True

    @property
    def remembers(self) -> bool:
        windows = self.window, self.within_window
        several = any(window.n_registers > 0 or window.step > 1 for window in windows)
        return several or not is_white(self.prior.kernel)

    @property
    def n_states(self) -> int:
        assignment = self.prior.assignment
        across = (self.lift.order + self.window.n_registers) * assignment.n_across
        return across + (self.lift.order + self.within_window.n_registers) * sum(assignment.n_within)

    @property
    def within_window(self) -> Window:
        """Window of the within latents, which have no delay.

        With several bins per step they still need registers to be read inside it.
        """
        step = self.window.step
        if self.autocorrelated and not self.within_registers:
            return Window(1, shifts=(-0.5,))  # the bin is the front, the bin before its register
        return Window(self.within_registers) if step == 1 else Window(max(1, self.within_registers), step)

    @property
    def kinds(self) -> tuple[Alike, ...]:
        """States and readouts of the latents: of across ones, then of within ones."""
        assignment, order = self.prior.assignment, self.lift.order
        n_across, n_within, n_regions = assignment.n_across, len(assignment.region_of_within), assignment.n_regions
        reads_across = np.arange(n_across)[:, None] + n_across * np.arange(n_regions)
        reads_within = n_across * n_regions + np.arange(n_within)[:, None]
        of_bin = assignment.n_readouts * np.arange(self.window.step)[:, None]
        first, found = 0, []
        for window, reads in ((self.window, reads_across), (self.within_window, reads_within)):
            size = order + window.n_registers
            states = first + np.arange(len(reads) * size).reshape(len(reads), size)
            if len(reads):
                found.append(Alike.of(states, (of_bin + reads[:, None]).reshape(len(reads), -1)))
            first += states.size
        return tuple(found)

    def for_reading(self) -> "StateSpace":
        """Copy with registers on both sides of every bin, to read latents between bins."""
        window = self.window
        registers = max(window.n_registers, 2 * window.substeps) if window.step == 1 else window.n_registers + 1
        return replace(self, window=replace(window, n_registers=registers), within_registers=2)

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics and the readout of the model.

        Returns:
            Dynamics of all states, and a readout whose time axis counts steps. With ``window.step`` bins per step the
            readouts of the step's bins are stacked, earliest bin first: (step or 1, bin_in_step * readout, state).
        """
        if latents.autocorrelation is not None and not self.autocorrelated:
            raise ValueError("autocorrelated noise needs a state space that reads the bin before: autocorrelated=True")
        assignment = self.prior.assignment
        across = latent_blocks(self.lift, self.window, latents.across)
        within = latent_blocks(self.lift, self.within_window, latents.within)
        dynamics = Dynamics(
            laid_out(across.transition, within.transition),
            laid_out(across.process_noise, within.process_noise),
            laid_out(across.stationary, within.stationary),
            shifts=(across.shift, within.shift),
        )

        n_within = len(assignment.region_of_within)
        delay = in_steps(latents.delay, self.window.step)  # (step or 1, bin_in_step, region, across_latent)
        behind = _bins_behind(self.window.step)[:, None]  # (bin_in_step, latent)
        offset = delay + (self.window.lead + behind)[:, None]
        own = jnp.broadcast_to(self.within_window.lead + behind, (*delay.shape[:2], n_within)).astype(delay.dtype)
        past_across = past_within = None
        if latents.autocorrelation is not None:
            before = in_steps(jnp.concatenate([latents.delay[:1], latents.delay[:-1]]), self.window.step)
            first = (jnp.arange(delay.shape[0])[:, None] + jnp.arange(delay.shape[1])) == 0  # (step, bin_in_step)
            past_across = Past(
                offset - delay + before + 1, latents.autocorrelation[:, None], first[..., None, None]
            )
            past_within = Past(own + 1, latents.autocorrelation[assignment.region_of_within], first[..., None])
        weights_across, missed_across = _read(self.lift, self.window, across, latents.across, offset, past_across)
        weights_within, missed_within = _read(self.lift, self.within_window, within, latents.within, own, past_within)

        steps, bins = delay.shape[:2]
        identity = jnp.eye(assignment.n_across, dtype=delay.dtype)
        rows_across = jnp.einsum("tbrkn,kl->tbrkln", weights_across, identity).reshape(
            steps, bins, assignment.n_regions * assignment.n_across, assignment.n_across * weights_across.shape[-1]
        )
        size = weights_within.shape[-1]
        rows_within = jnp.einsum("tbjn,jl->tbjln", weights_within, jnp.eye(n_within, dtype=delay.dtype))
        rows_within = rows_within.reshape(steps, bins, n_within, n_within * size)
        eps = self.prior.gp_noise
        weights = jnp.sqrt(1 - eps) * join_diagonal(rows_across, rows_within)
        missed = jnp.concatenate([missed_across.reshape(steps, bins, -1), missed_within], axis=-1)
        phi = 0.0 if latents.autocorrelation is None else latents.autocorrelation[assignment.region_of_readout]
        fresh = 1 - phi**2
        noise = (1 - eps) * missed + eps * fresh
        return dynamics, StateReadout(weights.reshape(steps, -1, weights.shape[-1]), noise.reshape(steps, -1))

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the latents of one kind ("across", "within") from the state.

        They read ``refine`` points per bin.
        """
        assignment = self.prior.assignment
        across = kind == "across"
        window, hyper = (self.window, latents.across) if across else (self.within_window, latents.within)
        size = self.lift.order + self.window.n_registers
        after = np.arange(window.step * refine) / refine  # bins after the first bin of the step
        offset = jnp.asarray(window.lead + (window.step - 1 - after)[:, None])
        count = assignment.n_across if across else len(assignment.region_of_within)
        blocks = latent_blocks(self.lift, window, hyper)
        weights, missed = readout_weights(
            self.lift, window, blocks, hyper, jnp.broadcast_to(offset, (len(after), count))
        )
        return SignalReader(weights, missed, 0 if across else size * assignment.n_across)


def _bins_behind(step: int) -> np.ndarray:
    """Distance of each bin of a step from the step's last bin, in bins, earliest bin first."""
    return np.arange(step)[::-1].astype(float)


def _read(
    lift: Lift, window: Window, blocks: LatentBlocks, hyper: Hyperparameters, offset: Array, past: Past | None
) -> tuple[Array, Array]:
    """Call :func:`readout_weights` at offsets with any leading axes, (..., latent)."""
    lead, count = offset.shape[:-1], offset.shape[-1]
    flat = (int(np.prod(lead)), count)
    if past is not None:
        past = Past(*(jnp.broadcast_to(part, offset.shape).reshape(flat) for part in past))
    weights, missed = readout_weights(lift, window, blocks, hyper, offset.reshape(flat), past)
    return weights.reshape(*lead, *weights.shape[1:]), missed.reshape(*lead, count)


def in_steps(array: Array, step: int) -> Array:
    """Group a leading time axis of bins into steps: (step, bin_in_step, ...).

    It is padded by repetition; an axis of length 1 stays one step.
    """
    n_bins = array.shape[0]
    if n_bins == 1:
        return jnp.broadcast_to(array[:, None], (1, step, *array.shape[1:]))
    padded = jnp.pad(array, [(0, -n_bins % step)] + [(0, 0)] * (array.ndim - 1), mode="edge")
    return padded.reshape(padded.shape[0] // step, step, *array.shape[1:])
