"""Recordings of several brain regions on one clock.

Checks, missing data, and the pytree that models see.
"""

import copy
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from mrgp.recordings.arrays import arranged, check_index, read_region
from mrgp.recordings.checks import (
    DataError,
    check_finite,
    check_living,
    living_neurons,
    neurons_named,
    tell_left_out,
    warn,
)
from mrgp.recordings.digests import Digests, whole_trials
from mrgp.recordings.labels import Coords, check_names, free_name, labels_of, names_among, read_coords
from mrgp.recordings.layout import CONDITION, Layout
from mrgp.recordings.missing import share_patterns
from mrgp.recordings.neurons import Neurons, all_of
from mrgp.recordings.plausibility import doubts
from mrgp.recordings.units import read_bin_width
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.sentences import Argument, Part

MOST_LISTED = 6  # conditions that a recording shows one by one
DROP_DEAD = Argument("drop_dead", True)
LEAVE_OUT = Argument("drop_dead", True, python="data.drop_dead() or data.select_neurons")  # once there is a recording
SOME_TRIALS = Argument("trials", python="by select_trials", shell="of the file, or give it one there")


@jax.tree_util.register_pytree_node_class
class MultiRegionData(Shown):
    """Simultaneous recordings of one or more regions, checked.

    Missing entries are described once, by patterns.

    Entry (b, t, i) is observed when ``t < length[b]`` and ``observed[pattern[b], t, i]``; None is "always".
    Patterns are shared causally, on ``[0, length)``: a shorter trial without holes needs none of its own, and
    a filter that runs forward computes one covariance recursion per pattern. As a pytree the arrays are
    leaves and ``layout`` is static; coordinates do not travel through ``jit``.

    Args:
        regions: region name -> array (trials, bins, neurons), NaN = missing; or a list with one array
            (bins_i, neurons) per trial, for trials of different length. Arrays of xarray are arranged by the
            names of their dimensions.
        bin_width: seconds per bin; a number, or what carries a unit of time (see
            :func:`mrgp.recordings.units.seconds`).
        neuron_coords: region name -> one label per neuron (channel, unit name).
        trial_coords: coordinate name -> one value per trial (stimulus, block). The one named "condition" says which
            trials have a mean response of their own, for models whose mean varies. Labels are kept as they are.
        drop_dead: leave out neurons that never change or were never observed, with a warning that names them. False
            refuses them; None keeps them, for trials on which a fit to others is to be scored, and for counts, whose
            models know what a silent neuron says.

    Two recordings are equal where they are the same object; of the same contents where ``fingerprint`` is the same.

    Attributes:
        layout: regions, neuron counts, bin width.
        values: float64 (trial, time, neuron), regions side by side, 0 where missing.
        observed: bool (pattern, time, neuron); None when nothing is missing within any trial's length.
        pattern: int32 (trial,), the row of ``observed`` that a trial follows; zeros when there is none.
        length: int32 (trial,), 1 + last bin with any observed entry; None when every trial fills all bins.
        condition: int32 (trial,), index into ``layout.conditions``; zeros when there are none.
        center: (neuron,), mean over what was observed.
        scale: (neuron,), standard deviation over what was observed; the unit of weak priors.
        is_gapless: Every neuron was observed in all bins of a trial, up to its end, or in none.
        known_as: Digests of the trials before their values were changed; None where they were not.
        origin: region -> where its neurons stood in the arrays that the recording was made from.
        trial_origin: Where its trials did, (trial,).
        batch_size: Trials that a model draws from the recording and scores, weighted to stand for all; None for all.

    Raises:
        DataError: the recording cannot be used; the message names region and neuron and says what mends it.
    """

    layout: Layout
    values: Float[np.ndarray, "trial time neuron"]
    observed: Bool[np.ndarray, "pattern time neuron"] | None
    pattern: Int[np.ndarray, "trial"]
    length: Int[np.ndarray, "trial"] | None
    condition: Int[np.ndarray, "trial"]
    center: Float[np.ndarray, "neuron"]
    scale: Float[np.ndarray, "neuron"]
    is_gapless: bool
    batch_size: int | None = None
    known_as: Digests | None = None

    def __init__(
        self,
        regions: Mapping[str, ArrayLike | Sequence[ArrayLike]],
        bin_width: float,
        *,
        neuron_coords: Mapping[str, ArrayLike] | None = None,
        trial_coords: Mapping[str, ArrayLike] | None = None,
        drop_dead: bool | None = False,
    ) -> None:
        width = read_bin_width(bin_width)
        if not isinstance(regions, Mapping) or not regions:
            raise DataError("a recording needs at least one region: pass a mapping like {'V1': array}")
        check_names(list(regions), list(trial_coords or {}))
        named = {name: arranged(f"region {name}", value) for name, value in regions.items()}
        check_index(named, width)
        arrays = {name: read_region(name, value) for name, value in named.items()}
        first, expected = next((name, array.shape) for name, array in arrays.items())
        for name, array in arrays.items():
            for what, size, wanted in zip(("trials", "bins"), array.shape, expected, strict=False):
                if size != wanted:
                    raise DataError(
                        f"region {name} has {size} {what} but region {first} has {wanted}: "
                        f"cut both to the same {what}, or put NaN where one is missing"
                    )
        labels = read_coords("neuron", neuron_coords, {name: a.shape[2] for name, a in arrays.items()})
        trials = read_coords("trial", trial_coords, dict.fromkeys(trial_coords or {}, expected[0]))
        origin = {name: all_of(array.shape[2]) for name, array in arrays.items()}
        for name, array in arrays.items():
            own = origin[name].labelled(labels.get(name))
            check_finite(name, array, own)
            if drop_dead is None or (alive := living_neurons(array)).all():
                continue
            if not drop_dead:
                check_living(name, array, own, alive, "remove it, or pass ", DROP_DEAD, " to leave such neurons out")
            tell_left_out(name, own, alive)
            arrays[name], origin[name] = array[:, :, alive], origin[name].only(np.flatnonzero(alive))
            labels.update({name: labels[name][alive]} if name in labels else {})
        kinds = tuple(sorted(set(labels_of(trials.get(CONDITION, ())))))
        layout = Layout(tuple(arrays), tuple(array.shape[2] for array in arrays.values()), width, kinds)
        self._fill(layout, np.concatenate(list(arrays.values()), axis=2, dtype=np.float64), labels, trials, origin)
        for doubt in doubts(self):
            warn(doubt)

    @classmethod
    def unchecked(cls, layout: Layout, values: np.ndarray, trial_coords: Coords | None = None) -> Self:
        """Make a recording of ``values`` (trial, time, neuron) without any check.

        It is for values that no user has brought: no message could name them.
        """
        origin = {name: all_of(n) for name, n in zip(layout.regions, layout.n_neurons, strict=True)}
        return object.__new__(cls)._fill(layout, values, {}, trial_coords or {}, origin)

    def _fill(
        self, layout: Layout, values: np.ndarray, labels: Coords, trials: Coords, origin: dict[str, Neurons],
        trial_origin: np.ndarray | None = None,
    ) -> Self:  # fmt: skip
        """Set all attributes from ``values`` with NaN, which are overwritten by 0 in place."""
        self.layout, self.values, self.neuron_coords, self.trial_coords = layout, values, labels, trials
        self.origin = origin
        self.trial_origin = np.arange(len(values)) if trial_origin is None else trial_origin
        self.observed, self.pattern, self.length = None, np.zeros(len(values), np.int32), None
        kinds = labels_of(trials[CONDITION]) if layout.conditions else [""] * len(values)
        self.condition = np.searchsorted(np.array(layout.conditions or ("",)), kinds).astype(np.int32)
        if not (mask := ~np.isnan(values)).all():
            self.observed, self.pattern, self.length = share_patterns(mask)
            if self.length is not None and not self.length.all():
                trial, where = self.name_trial(int(np.argmin(self.length))), ", ".join(layout.regions)
                raise DataError(f"{trial} has nothing observed in any neuron of {where}: leave it out")
            values[~mask] = 0.0
        self.is_gapless = self.observed is None or _gapless(self.mask)
        self.center, self.scale = _mean_and_sd(values, None if self.is_complete else mask)
        return self

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Layout, int | None, bool]]:
        arrays = (
            self.values, self.observed, self.pattern, self.length, self.condition, self.center, self.scale,
        )  # fmt: skip
        return arrays, (self.layout, self.batch_size, self.is_gapless)

    @classmethod
    def tree_unflatten(cls, static: tuple[Layout, int | None, bool], children: tuple[Any, ...]) -> Self:
        # Children may be tracers or placeholders: nothing is checked or converted here.
        data = object.__new__(cls)
        data.layout, data.batch_size, data.is_gapless = static
        data.neuron_coords, data.trial_coords, data.origin, data.trial_origin = {}, {}, {}, np.arange(0)
        data.values, data.observed, data.pattern, data.length, data.condition, data.center, data.scale = children
        return data

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
        """Start of each bin in seconds, bin 0 at 0."""
        return np.arange(self.n_bins) * self.bin_width

    @property
    def is_complete(self) -> bool:
        """True if nothing is missing and all trials have the same length."""
        return self.observed is None and self.length is None

    @property
    def mask(self) -> Bool[np.ndarray, "trial time neuron"]:
        """True where an entry was observed, (trial, time, neuron), written out on the host."""
        always = np.ones((1, *self.values.shape[1:]), bool)
        observed = always if self.observed is None else np.asarray(self.observed)
        length = np.full(self.n_trials, self.n_bins) if self.length is None else np.asarray(self.length)
        return observed[self.pattern] & (np.arange(self.n_bins) < length[:, None])[:, :, None]

    @property
    def digests(self) -> Digests:
        """Digests of the trials, of their values before these were changed.

        They are changed by :meth:`with_values`.
        """
        return Digests.of(self.values) if self.known_as is None else self.known_as

    @property
    def trial_fingerprints(self) -> tuple[str, ...]:
        """Short digests, one per trial, by which a trial is recognized in another recording.

        They are of the values before these were changed, in the neurons that are left.

        Of what they were before they were changed, in the neurons that are left.
        """
        return self.digests.of_trials

    @property
    def fingerprint(self) -> str:
        """Digest of the regions, the bin width and every array that a model sees.

        It tells this recording from another.
        """
        digest = hashlib.sha256(repr((self.layout, self.values.shape)).encode())
        for array in self.tree_flatten()[0]:
            digest.update(b"None" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def trial_labels(self, name: str) -> np.ndarray:
        """Return the trial coordinate ``name``, one value per trial.

        Raises:
            DataError: there is none of that name, or a trial has no value.
        """
        if name not in self.trial_coords:
            known = f"choose from {', '.join(self.trial_coords)}" if self.trial_coords else "they have none"
            raise DataError(f"trials have no coordinate {name!r}: {known}, or leave it out")
        labels = self.trial_coords[name]
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            trial = self.name_trial(int(np.argmax(np.isnan(labels))))
            raise DataError(f"{trial} has no {name}: leave it out ", SOME_TRIALS)
        return labels

    def with_nan(self) -> Float[np.ndarray, "trial time neuron"]:
        """Return ``values`` with NaN where missing; not to be written to."""
        values = np.asarray(self.values)
        shown = values.view() if self.is_complete else np.where(self.mask, values, np.nan)
        shown.flags.writeable = False
        return shown

    def region(self, name: str) -> Float[np.ndarray, "trial time neuron"]:
        """Return one region's values, NaN where missing."""
        return self.with_nan()[:, :, self._columns(name)].copy()

    def with_values(self, values: Float[np.ndarray, "trial time neuron"]) -> Self:
        """Return the recording with other numbers of the same shape, NaN where missing."""
        if np.shape(values) != self.values.shape:
            raise DataError(f"values have shape {np.shape(values)}, the recording has {self.values.shape}")
        changed = object.__new__(type(self))
        changed.batch_size, changed.known_as = self.batch_size, self.digests
        neurons, trials = dict(self.neuron_coords), dict(self.trial_coords)
        return changed._fill(
            self.layout, np.array(values, np.float64), neurons, trials, self.origin, self.trial_origin
        )

    def select_trials(self, indices: ArrayLike | slice) -> Self:
        """Select trials by position (integers, booleans or a slice), in all bins of the recording."""
        chosen = _choose(self.n_trials, indices, "trials")
        if chosen.size == 0:
            raise DataError("select_trials was given no trial: choose at least one")
        trials = {name: coord[chosen] for name, coord in self.trial_coords.items()}
        some = object.__new__(type(self))
        some.known_as = None if self.known_as is None else self.known_as.of_some(chosen)
        neurons, taken = dict(self.neuron_coords), self.trial_origin[chosen]
        return some._fill(self.layout, self.with_nan()[chosen], neurons, trials, self.origin, taken)

    def in_batches_of(self, n_trials: int) -> Self:
        """Return the recording for stochastic gradients, in batches of ``n_trials``.

        A model then scores ``n_trials`` trials drawn anew at every step.
        """
        if not 1 <= n_trials <= self.n_trials:
            raise DataError(f"a batch of {n_trials} trials is asked for, but there are {self.n_trials}")
        batched = copy.copy(self)
        batched.batch_size = n_trials
        return batched

    def batch(self, trials: Any) -> Self:
        """Select the trials of one batch by position, which may be traced.

        Patterns, ``center`` and ``scale`` are of all trials.
        """
        chosen: Any = copy.copy(self)
        chosen.values, chosen.pattern = jnp.asarray(self.values)[trials], jnp.asarray(self.pattern)[trials]
        chosen.condition = jnp.asarray(self.condition)[trials]
        chosen.length = None if self.length is None else jnp.asarray(self.length)[trials]
        chosen.batch_size = None
        return chosen

    def select_neurons(self, indices: Mapping[str, ArrayLike | slice]) -> Self:
        """Select neurons by position within their region.

        Args:
            indices: region name -> integers, booleans or a slice. A region that is not named stays whole,
                one that is given an empty list is left out.
        """
        parts = {name: self._columns(name) for name in (*self.layout.regions, *indices)}
        kept = {
            name: _choose(part.stop - part.start, indices.get(name, slice(None)), f"neurons of region {name}")
            for name, part in parts.items()
        }
        kept = {name: chosen for name, chosen in kept.items() if chosen.size}
        if not kept:
            raise DataError("select_neurons was asked to leave out every neuron: keep at least one")
        columns = np.concatenate([chosen + parts[name].start for name, chosen in kept.items()])
        counts = tuple(chosen.size for chosen in kept.values())
        layout = Layout(tuple(kept), counts, self.bin_width, self.layout.conditions)
        labels = {name: coord[kept[name]] for name, coord in self.neuron_coords.items() if name in kept}
        # In the order of other recordings, so that sums over equal numbers are equal to the last digit.
        values = np.ascontiguousarray(self.with_nan()[:, :, columns])
        origin = {name: self.origin[name].only(chosen) for name, chosen in kept.items()}
        trials, some = dict(self.trial_coords), object.__new__(type(self))
        some._fill(layout, values, labels, trials, origin, self.trial_origin)
        if self.known_as is not None:
            some.known_as = Digests(self.known_as.of_neurons[:, columns], whole_trials(some.values))
        return some

    @property
    def neurons(self) -> dict[str, Neurons]:
        """Neurons of each region, by which a fit recognizes them in another recording."""
        return {name: own.labelled(self.neuron_coords.get(name)) for name, own in self.origin.items()}

    @property
    def living(self) -> dict[str, Bool[np.ndarray, "neuron"]]:
        """True for neurons that take two values or more in these trials, by region, (neuron,)."""
        values = self.with_nan()
        return {name: living_neurons(values[:, :, part]) for name, part in self.layout.region_slices.items()}

    def drop_dead(self, regions: Collection[str] | None = None) -> Self:
        """Leave out neurons that never change or were never observed in this recording.

        A warning names them.

        Args:
            regions: Of which; None for all.
        """
        living = {name: alive for name, alive in self.living.items() if regions is None or name in regions}
        neurons = self.neurons
        for name, alive in living.items():
            tell_left_out(name, neurons[name], alive)
        return self if all(alive.all() for alive in living.values()) else self.select_neurons(living)

    def require_living(self) -> None:
        """Raise DataError if a neuron never changes or was never observed in these trials."""
        remedy: tuple[Part, ...] = ("it says nothing in these trials: leave it out by ", LEAVE_OUT)
        values, neurons = self.with_nan(), self.neurons
        for name, part in self.layout.region_slices.items():
            own = values[:, :, part]
            check_living(name, own, neurons[name], living_neurons(own), *remedy)

    def name_entry(self, trial: int, time: int, column: int) -> tuple[str, str]:
        """Name a neuron, by its column of ``values``, and a bin of a trial, for a sentence."""
        return self.name_neuron(column), f"{self.name_trial(trial)}, bin {time}"

    def name_neuron(self, column: int) -> str:
        """Name a neuron, by its column of ``values``: its region, its place there, its label."""
        region = self.layout.regions[self.layout.region_of_neuron[column]]
        place = np.array([column - self.layout.region_slices[region].start])
        return neurons_named(region, place, self.neurons[region])

    def name_trial(self, trial: int) -> str:
        """Name a trial by its position, and by its position as loaded if that is another."""
        before = int(self.trial_origin[trial])
        return f"trial {trial}" if before == trial else f"trial {trial} ({before} as loaded)"

    def without(self, neurons: Mapping[str, ArrayLike | slice]) -> Self:
        """Hide some neurons: the layout stays, but none of their entries counts as observed.

        Args:
            neurons: region name -> integers, booleans or a slice, by position within the region.
        """
        values = self.with_nan().copy()
        for name, indices in neurons.items():
            part = self._columns(name)
            chosen = _choose(part.stop - part.start, indices, f"neurons of region {name}")
            values[:, :, chosen + part.start] = np.nan
        return self.with_values(values)

    def among(self, conditions: tuple[str, ...]) -> Self:
        """Return the recording with other ``conditions`` in its layout, its own among them.

        Raises:
            DataError: trials have another condition, or none.
        """
        if conditions == self.layout.conditions:
            return self
        layout, own = replace(self.layout, conditions=conditions), self.layout.conditions
        if conditions and not own:
            raise DataError(f"trials need a condition ({', '.join(conditions)}): give trial_coords['{CONDITION}']")
        named = names_among(own, conditions)
        if conditions and (unknown := [own[i] for i in np.unique(self.condition) if named[i] not in conditions]):
            raise DataError(f"condition {unknown[0]} is not one of {', '.join(conditions)}: leave its trials out")
        trials, same = dict(self.trial_coords), object.__new__(type(self))
        if conditions and named != own:
            trials[CONDITION] = np.array(named)[self.condition]
        same.known_as = self.known_as
        neurons = dict(self.neuron_coords)
        return same._fill(layout, self.with_nan().copy(), neurons, trials, self.origin, self.trial_origin)

    def less(self, course: np.ndarray) -> Self:
        """Subtract ``course`` (condition, time, neuron) from every trial of each condition."""
        return self.with_values(self.with_nan() - course[self.condition])

    def require(self, n_regions_at_least: int, model: str = "this model") -> None:
        """Raise DataError unless there are that many regions; the message speaks of ``model``."""
        names = self.layout.regions
        if len(names) < n_regions_at_least:
            have = f"{len(names) if len(names) > 1 else 'one'} ({', '.join(names)})"
            remedy = f"load at least {n_regions_at_least}, or use GPFA"
            raise DataError(f"{model} compares regions; this recording has only {have}: {remedy}")

    def to_xarray(self) -> xr.Dataset:
        """Convert to a dataset with one variable (trial, time, neuron_<region>) per region.

        Time and ``attrs["bin_width"]`` are in seconds.
        """
        coords: dict[str, Any] = {"time": ("time", self.times, {"units": "s"})}
        coords |= {name: ("trial", coord) for name, coord in self.trial_coords.items()}
        coords |= {f"neuron_{name}": labels for name, labels in self.neuron_coords.items()}
        names = self.layout.regions
        arrays = {name: (("trial", "time", f"neuron_{name}"), self.region(name)) for name in names}
        # Some file formats sort variables by name, and the order of regions is part of the recording.
        return xr.Dataset(arrays, coords, {"bin_width": self.bin_width, "regions": json.dumps(names)})

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset, *, drop_dead: bool | None = False) -> Self:
        """Invert :meth:`to_xarray`; without ``attrs["regions"]`` every variable is a region."""
        if "bin_width" not in dataset.attrs:
            raise DataError('the dataset has no attrs["bin_width"]: set it to the seconds per bin')
        every = [str(name) for name, array in dataset.data_vars.items() if array.ndim != 1]
        names = json.loads(dataset.attrs.get("regions", "null")) or every
        arrays = {}
        for name in names:
            if name not in dataset or dataset[name].ndim != 3:
                dims = ("trial", "time", f"neuron_{name}")
                raise DataError(f"region {name} must be a variable of the dataset with dimensions {dims}")
            arrays[name] = arranged(f"region {name}", dataset[name])
        labels = {name: array.coords[array.dims[2]] for name, array in arrays.items() if array.dims[2] in array.coords}
        # A file holds those as plain variables whose names its list of coordinates has no place for.
        axes = {array.dims[:1] for array in arrays.values()}
        of_trials = {str(name): array.values for name, array in dataset.variables.items() if array.dims in axes}
        trials = {free_name(name, names) if name == "trial" else name: of for name, of in of_trials.items()}
        labels, arrays = ({name: array.values for name, array in part.items()} for part in (labels, arrays))
        width = dataset.attrs["bin_width"]
        return cls(arrays, width, neuron_coords=labels, trial_coords=trials, drop_dead=drop_dead)

    def _card(self) -> Card:
        if not isinstance(self.values, np.ndarray):  # what a model sees while it is compiled
            return Card(f"{type(self).__name__} inside JAX: {self.layout}")
        holes = "" if self.observed is None else f", {len(self.observed)} pattern(s) of missing entries"
        ragged = "" if self.length is None else ", trials of different length"
        sizes = f"{self.n_trials} trials x {self.n_bins} bins of {1e3 * self.bin_width:g} ms"
        counts = zip(self.layout.regions, self.layout.n_neurons, strict=True)
        facts = {name: f"{n} neurons" for name, n in counts}
        if kinds := self.layout.conditions:
            trials = np.bincount(self.condition, minlength=len(kinds))
            each = ", ".join(f"{kind} ({n} trials)" for kind, n in zip(kinds, trials, strict=True))
            many = f"{len(kinds)}, of {trials.min()} to {trials.max()} trials"
            facts["conditions"] = each if len(kinds) <= MOST_LISTED else many
        if not self.is_complete:
            facts["missing"] = f"{100 * self.missing_share:.3g}% of entries"
        return Card(f"{type(self).__name__}: {sizes}{holes}{ragged}", facts)

    @property
    def missing_share(self) -> float:
        """Share of entries that were not observed, each trial counted as long as the longest."""
        if self.is_complete:
            return 0.0
        always = np.ones((1, self.n_bins, self.values.shape[2]), bool)
        seen = (always if self.observed is None else np.asarray(self.observed)).sum(2).cumsum(1)
        last = np.full(self.n_trials, self.n_bins) if self.length is None else np.asarray(self.length)
        return float(1 - seen[self.pattern, last - 1].sum(dtype=float) / self.values.size)

    def _columns(self, name: str) -> slice:
        if name not in self.layout.regions:
            raise DataError(f"there is no region {name!r} here: choose from {', '.join(self.layout.regions)}")
        return self.layout.region_slices[name]


def _mean_and_sd(values: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each neuron over what was observed, (neuron,) each.

    Two passes: however large the mean, the sd has all its digits.
    """
    count: Any = np.maximum(values.shape[0] * values.shape[1] if mask is None else mask.sum(axis=(0, 1)), 1)
    rough = values.sum(axis=(0, 1)) / count
    shift, square = np.zeros_like(rough), np.zeros_like(rough)
    for trial, seen in zip(values, values if mask is None else mask, strict=True):
        rest = trial - rough if mask is None else np.where(seen, trial - rough, 0.0)
        shift += rest.sum(axis=0)
        square += np.einsum("tn,tn->n", rest, rest)
    shift /= count
    return rough + shift, np.sqrt(np.maximum(square / count - shift**2, np.finfo(float).tiny))


def _gapless(mask: np.ndarray) -> bool:
    count, length = mask.sum(1), mask.any(2).sum(1)
    return bool(np.all((count == 0) | (count == length[:, None])))


def stand_in(layout: Layout, n_trials: int = 1, n_bins: int = 2) -> MultiRegionData:
    """Make a recording of noise with this layout, for code that needs shapes but no values."""
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal((n_trials, n_bins, n)) for n in layout.n_neurons]
    of_trials = {CONDITION: np.resize(layout.conditions, n_trials)} if layout.conditions else {}
    return MultiRegionData.unchecked(layout, np.concatenate(noise, axis=2), of_trials)


def _choose(n: int, indices: ArrayLike | slice, what: str) -> np.ndarray:
    wanted = indices if isinstance(indices, slice) else np.asarray(indices)
    if isinstance(wanted, np.ndarray) and wanted.size == 0:
        return np.empty(0, int)
    try:
        return np.atleast_1d(np.arange(n)[wanted])
    except IndexError as error:
        raise DataError(f"cannot choose these {what}, there are {n}: {error}") from error
