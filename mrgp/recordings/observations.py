"""Observations: the arrays of a recording that models see, and what is missing in them."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Shaped

from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import Missing, share_missing, written_out
from mrgp.runtime.display import Shown
from mrgp.runtime.sharding import mesh_over, on_all, shared_out

LARGE = 2**25  # entries: of more, a quarter of a GiB in double precision, none is made of the whole
AT_ONCE = 2**23  # entries of a recording that are looked at together: 64 MiB in double precision


class Block(NamedTuple):
    """Trials that follow each other, as numbers to reckon with.

    Attributes:
        trials: Which.
        values: float64 (trial, time, neuron), 0 where missing.
        mask: True where an entry was observed, of the same shape; not to be written to.
    """

    trials: slice
    values: Float[np.ndarray, "trial time neuron"]
    mask: Bool[np.ndarray, "trial time neuron"]


class Observations(Shown):
    """Arrays of a recording, and the patterns of what is missing in them.

    Entry (b, t, i) is observed when ``t < length[b]`` and ``observed[pattern[b], t, i]``; None is "always".
    Patterns are shared causally, on ``[0, length)``: a shorter trial without holes needs none of its own, and
    a filter that runs forward computes one covariance recursion per pattern.

    Only :class:`mrgp.MultiRegionData` is made of it.

    Attributes:
        layout: regions, neuron counts, bin width.
        values: (trial, time, neuron), regions side by side, 0 where missing, as they are kept: counts as uint8 or
            uint16, anything else as float64, or float32 where that was asked for. Differences and squares of integers
            wrap round: reckon with :attr:`floats`, or with :meth:`blocks` of them.
        observed: bool (pattern, time, neuron); None when nothing is missing within any trial's length.
        pattern: int32 (trial,), the row of ``observed`` that a trial follows; zeros when there is none.
        length: int32 (trial,), 1 + last bin with any observed entry; None when every trial fills all bins.
        trial_place: float64 (trial,), where each stood in its session: seconds of the trial coordinate "start_time",
            NaN where unknown, or else its position in the arrays that the recording was made from.
        condition: int32 (trial,), index into ``layout.conditions``; zeros when there are none.
        center: (neuron,), mean over what was observed.
        scale: (neuron,), standard deviation over what was observed; the unit of weak priors.
        is_gapless: Every neuron was observed in all bins of a trial, up to its end, or in none.
        batch_size: Trials that a model draws from the recording and scores, weighted to stand for all; None for all.
        mesh: Devices among which its trials are shared out where densities are computed; None for the usual device.
        n_spare: Trials at the end of the arrays that are none, so that devices have equally many.
        weight: How many trials each stands for, (trial,); None where every one is itself (see
            :mod:`mrgp.recordings.folding`).
    """

    layout: Layout
    values: Shaped[np.ndarray, "trial time neuron"]
    observed: Bool[np.ndarray, "pattern time neuron"] | None
    pattern: Int[np.ndarray, "trial"]
    length: Int[np.ndarray, "trial"] | None
    trial_place: Float[np.ndarray, "trial"]
    condition: Int[np.ndarray, "trial"]
    center: Float[np.ndarray, "neuron"]
    scale: Float[np.ndarray, "neuron"]
    is_gapless: bool
    batch_size: int | None = None
    mesh: Mesh | None = None
    n_spare: int = 0
    weight: Float[np.ndarray, "trial"] | None = None

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Layout, int | None, bool, int]]:
        arrays = (
            self.values, self.observed, self.pattern, self.length, self.condition, self.center, self.scale,
            self.trial_place, self.weight,
        )  # fmt: skip
        return arrays, (self.layout, self.batch_size, self.is_gapless, self.n_spare)

    def __len__(self) -> int:
        return self.n_trials

    def __getitem__(self: Any, trials: Any) -> Any:
        """Select trials by position, for libraries that divide sequences."""
        return self.select_trials(trials)

    def __iter__(self: Any) -> Iterator[Any]:
        return (self.select_trials(trial) for trial in range(self.n_trials))

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, in their order."""
        return self.layout.regions

    @property
    def n_trials(self) -> int:
        return self.values.shape[0]

    @property
    def n_bins(self) -> int:
        return self.values.shape[1]

    @property
    def bin_width(self) -> float:
        """Seconds per bin."""
        return self.layout.bin_width

    @property
    def times(self) -> Float[np.ndarray, "time"]:
        """Start of each bin in seconds; bin 0 at 0 where they are regular."""
        return self.layout.starts(self.n_bins)

    @property
    def is_complete(self) -> bool:
        """True if nothing is missing and all trials have the same length."""
        return self.observed is None and self.length is None

    @property
    def mask(self) -> Bool[np.ndarray, "trial time neuron"]:
        """True where an entry was observed, (trial, time, neuron), written out on the host."""
        return written_out(self._missing, *self.values.shape[1:])

    @property
    def floats(self) -> Float[np.ndarray, "trial time neuron"]:
        """Values in double precision, however they are kept; not to be written to.

        Of integers a whole copy.
        """
        if isinstance(self.values, np.ndarray):
            return np.asarray(self.values, np.float64)
        return jnp.asarray(self.values, jnp.result_type(float))

    def blocks(self, at_once: int = AT_ONCE) -> Iterator[Block]:
        """Go through all trials, some ``at_once`` entries at a time and one trial at least."""
        size = max(1, at_once // max(self.n_bins * self.values.shape[2], 1))
        observed, pattern, length = self._missing
        for start in range(0, self.n_trials, size):
            trials = slice(start, start + size)
            missing = Missing(observed, pattern[trials], None if length is None else length[trials])
            values = np.asarray(self.values[trials], np.float64)
            yield Block(trials, values, written_out(missing, *values.shape[1:]))

    def with_nan(self) -> Float[np.ndarray, "trial time neuron"]:
        """Return the values in double precision, NaN where missing; not to be written to."""
        values = self.floats
        shown = values.view() if self.is_complete else np.where(self.mask, values, np.nan)
        shown.flags.writeable = False
        return shown

    @property
    def missing_share(self) -> float:
        """Share of entries that were not observed, each trial counted as long as the longest."""
        return share_missing(self._missing, *self.values.shape[1:])

    def total(self, of_trials: Any) -> Any:
        """Sum an array (trial, ...) over all trials that its trials stand for."""
        return of_trials.sum(0) if self.weight is None else jnp.tensordot(jnp.asarray(self.weight), of_trials, 1)

    @property
    def _missing(self) -> Missing:
        described: tuple[Any, ...] = self.observed, self.pattern, self.length  # a user's are NumPy's, a model's JAX's
        return Missing(*described)

    @property
    def fingerprint(self) -> str:
        """Digest of the regions, the bin width and every array that a model sees.

        It tells this recording from another. Places of trials are left aside, and their weights.
        """
        digest = hashlib.sha256(repr((self.layout, self.values.shape)).encode())
        digest.update(np.array(self.layout.times).tobytes())  # of none, nothing
        for block in self.blocks():  # the same however the values are kept
            digest.update(np.ascontiguousarray(block.values))
        for array in self.tree_flatten()[0][1:-2]:
            digest.update(b"None" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def in_batches_of(self, n_trials: int) -> Self:
        """Return the recording for stochastic gradients, in batches of ``n_trials``.

        A model then scores ``n_trials`` trials drawn anew at every step.
        """
        if not 1 <= n_trials <= self.n_trials:
            raise DataError(f"a batch of {n_trials} trials is asked for, but there are {self.n_trials}")
        batched = copy.copy(self)
        batched.batch_size = n_trials
        return batched

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "mesh": None}  # devices are those of one process

    def on(self, devices: Sequence[Any]) -> Self:
        """Return the recording with its trials shared out among devices, such as ``jax.devices()``.

        Climbs of a fit (``"map"``, and what begins with one) and ``log_likelihood`` compute each trial's density where
        the trial is; other methods compute on one device. A selection of trials or neurons is shared out among the same
        devices, but a recording sent to another process is on none. The devices may be those of several processes that
        have the same recording and run the same program (see :mod:`mrgp.runtime.sharding`): each process puts the
        trials of its own devices there, and reads no others of a recording that stays in its file.
        """
        shared = copy.copy(self)
        shared.mesh = mesh_over(devices)
        return shared

    def placed(self) -> Self:
        """Return the recording with arrays of JAX, where they are computed with.

        Values that are not large become numbers in double precision once, and not at every evaluation.
        """
        mesh, there = self.mesh, copy.copy(self)
        if self.values.size <= LARGE and isinstance(self.values, np.ndarray):
            there.values = self.floats
        if mesh is None:
            return jax.tree.map(jnp.asarray, there)
        there.n_spare = -self.n_trials % mesh.size
        for name in ("values", "pattern", "condition", "trial_place", *(() if self.length is None else ("length",))):
            setattr(there, name, shared_out(getattr(there, name), mesh))
        for name in ("center", "scale", *(() if self.observed is None else ("observed",))):
            setattr(there, name, on_all(getattr(self, name), mesh))
        return there

    @property
    def trimmed(self) -> Self:
        """The recording without spare trials."""
        return self if self.n_spare == 0 else self.batch(slice(None, -self.n_spare))

    def batch(self, trials: Any) -> Self:
        """Select the trials of one batch by position, which may be traced, or by a slice.

        Patterns, ``center`` and ``scale`` are of all trials.
        """
        chosen: Any = copy.copy(self)
        chosen.values, chosen.pattern = jnp.asarray(self.values)[trials], jnp.asarray(self.pattern)[trials]
        chosen.condition, chosen.trial_place = (
            jnp.asarray(array)[trials] for array in (self.condition, self.trial_place)
        )
        chosen.length = None if self.length is None else jnp.asarray(self.length)[trials]
        chosen.batch_size, chosen.n_spare = None, 0
        return chosen


def placed(tree: Any) -> tuple[Any, Mesh | None]:
    """Put the arrays of a pytree where they are computed with.

    Returns the mesh of the recording in it, too.
    """
    meshes = []

    def put(part: Any) -> Any:
        if not _is_recording(part):
            return jnp.asarray(part)
        meshes.append(part.mesh)
        return part.placed()

    there = jax.tree.map(put, tree, is_leaf=_is_recording)
    return there, next((mesh for mesh in meshes if mesh is not None), None)


def _is_recording(part: Any) -> bool:
    return isinstance(part, Observations)
