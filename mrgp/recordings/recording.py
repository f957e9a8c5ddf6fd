"""Recordings of several brain regions on one clock: checks, names, and selections."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Shaped
from numpy.typing import ArrayLike, DTypeLike

from mrgp.recordings.arguments import by_name, known_name, known_names
from mrgp.recordings.arrays import choose
from mrgp.recordings.card import card_of
from mrgp.recordings.checks import DataError, check_living, living_neurons, neurons_named, tell_left_out, warn
from mrgp.recordings.datasets import from_dataset, to_dataset
from mrgp.recordings.digests import Digests, whole_trials
from mrgp.recordings.entry import Contents, read_contents
from mrgp.recordings.labels import Coords, conditions_among, numbers_of, places_of
from mrgp.recordings.layout import CONDITION, START, Layout
from mrgp.recordings.missing import gapless, mask_of, mean_and_sd, share_patterns
from mrgp.recordings.neurons import Neurons, all_of
from mrgp.recordings.observations import Observations
from mrgp.recordings.plausibility import doubts
from mrgp.runtime.display import Card
from mrgp.runtime.sentences import Argument, Part

LEAVE_OUT = Argument("drop_dead", True, python="data.drop_dead() or data.select_neurons")  # once there is a recording
SOME_TRIALS = Argument("trials", python="by select_trials", shell="of the file, or give it one there")


@jax.tree_util.register_pytree_node_class
class MultiRegionData(Observations):
    """Simultaneous recordings of one or more regions, checked.

    As a pytree the arrays are leaves and ``layout`` is static; coordinates do not travel through ``jit``.

    Args:
        regions: region name -> array (trials, bins, neurons), NaN = missing; or a list with one array
            (bins_i, neurons) per trial, for trials of different length. Arrays of xarray are arranged by the
            names of their dimensions.
        bin_width: seconds per bin; a number, or what carries a unit of time (see
            :func:`mrgp.recordings.units.seconds`), which more than 5 s must: "60 s", ``datetime.timedelta(days=1)``.
        neuron_coords: region name -> one label per neuron (channel, unit name).
        trial_coords: coordinate name -> one value per trial (stimulus, block), kept as it is. "condition" says which
            trials have a mean response of their own, for models whose mean varies; "start_time", in seconds, when each
            began in its session, for models that drift.
        drop_dead: leave out neurons that never change or were never observed, with a warning that names them. False
            refuses them; None keeps them, for trials on which a fit to others is to be scored, and for counts, whose
            models know what a silent neuron says.
        dtype: of what is kept. None keeps arrays of integers or truth values as uint8 or uint16 where these hold them,
            an eighth of the memory, and anything else as float64; float32 keeps arrays that have no more digits, in
            half of it. Whatever is computed is the same to the last digit.
        times: start of each bin in seconds, in all trials, where bins do not follow each other, (bins,). Few models
            take such a recording; the others say so.
        event: what trials are aligned to, and when their first bin begins in seconds after it: ("cue", -0.2).

    Two recordings are equal where they are the same object; of the same contents where ``fingerprint`` is the same.
    The arrays, and what is missing in them, are as :class:`mrgp.recordings.observations.Observations` has them.

    Attributes:
        known_as: Digests of the trials before their values were changed; None where they were not.
        origin: region -> where its neurons stood in the arrays that the recording was made from.
        trial_origin: Where its trials did, (trial,).

    Raises:
        DataError: the recording cannot be used; the message names region and neuron and says what mends it.
    """

    known_as: Digests | None = None

    def __init__(
        self,
        regions: Mapping[str, ArrayLike | Sequence[ArrayLike]],
        bin_width: float | str,
        *,
        neuron_coords: Mapping[str, ArrayLike] | None = None,
        trial_coords: Mapping[str, ArrayLike] | None = None,
        drop_dead: bool | None = False,
        dtype: DTypeLike | None = None,
        times: ArrayLike | None = None,
        event: tuple[str, float] | None = None,
    ) -> None:
        self._fill(read_contents(regions, bin_width, neuron_coords, trial_coords, drop_dead, dtype, times, event))
        for doubt in doubts(self):
            warn(doubt)

    @classmethod
    def unchecked(cls, layout: Layout, values: np.ndarray, trial_coords: Coords | None = None) -> Self:
        """Make a recording of ``values`` (trial, time, neuron) without any check.

        It is for values that no user has brought: no message could name them.
        """
        origin = {name: all_of(n) for name, n in zip(layout.regions, layout.n_neurons, strict=True)}
        return object.__new__(cls)._fill(Contents(layout, values, {}, trial_coords or {}, origin))

    def _fill(
        self, contents: Contents, trial_origin: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> Self:
        """Set all attributes; what is missing in the values is overwritten by 0 in place.

        That is what is NaN, or not in ``mask`` if there is one.
        """
        layout, values, _, trials, _ = contents
        if (mask := mask_of(values) if mask is None else mask) is not None and not values.flags.writeable:
            values = values.copy()  # of a file
        self.layout, self.values, self.neuron_coords, self.trial_coords, self.origin = contents._replace(values=values)
        self.trial_origin = np.arange(len(values)) if trial_origin is None else trial_origin
        self.observed, self.pattern, self.length = None, np.zeros(len(values), np.int32), None
        self.condition = numbers_of(trials.get(CONDITION), layout.conditions, len(values))
        self.trial_place = places_of(trials.get(START), self.trial_origin)
        if mask is not None and not mask.all():
            self.observed, self.pattern, self.length = share_patterns(mask)
            if self.length is not None and not self.length.all():
                trial, where = self.name_trial(int(np.argmin(self.length))), ", ".join(layout.regions)
                raise DataError(f"{trial} has nothing observed in any neuron of {where}: leave it out")
            values[~mask] = 0.0
        self.is_gapless = self.observed is None or gapless(self.mask)
        self.center, self.scale = mean_and_sd(values, None if self.is_complete else mask)
        return self

    def with_contents(
        self, values: np.ndarray, mask: np.ndarray | None, trial_origin: np.ndarray | None = None, **changed: Any
    ) -> Self:
        """Make a recording of other contents, unchecked, missing where NaN or not in ``mask``."""
        own = Contents(self.layout, values, dict(self.neuron_coords), dict(self.trial_coords), self.origin)
        origin = self.trial_origin if trial_origin is None else trial_origin
        other = object.__new__(type(self))._fill(own._replace(**changed), origin, mask)
        other.mesh = self.mesh
        return other

    @classmethod
    def tree_unflatten(cls, static: tuple[Layout, int | None, bool, int], children: tuple[Any, ...]) -> Self:
        # Children may be tracers or placeholders: nothing is checked or converted here.
        data = object.__new__(cls)
        data.layout, data.batch_size, data.is_gapless, data.n_spare = static
        data.neuron_coords, data.trial_coords, data.origin, data.trial_origin = {}, {}, {}, np.arange(0)
        data.values, data.observed, data.pattern, data.length = children[:4]
        data.condition, data.center, data.scale, data.trial_place, data.weight = children[4:]
        return data

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
        """
        return self.digests.of_trials

    def trial_labels(self, name: str) -> np.ndarray:
        """Return the trial coordinate ``name``, one value per trial.

        Raises:
            DataError: there is none of that name, or a trial has no value.
        """
        if not isinstance(name, str) or name not in self.trial_coords:
            known = f": choose from {', '.join(self.trial_coords)}, or" if self.trial_coords else ", nor any other:"
            raise DataError(f"trials have no coordinate {name!r}{known} leave it out")
        labels = self.trial_coords[name]
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            trial = self.name_trial(int(np.argmax(np.isnan(labels))))
            raise DataError(f"{trial} has no {name}: leave it out ", SOME_TRIALS)
        return labels

    def region(self, name: str) -> Float[np.ndarray, "trial time neuron"]:
        """Return one region's values in double precision, NaN where missing."""
        return self.kept(name).astype(np.float64)

    def kept(self, name: str) -> Shaped[np.ndarray, "trial time neuron"]:
        """Return one region's values as they are kept, not to be written to.

        Where some are missing they have NaN, and integers are float64.
        """
        part = self._columns(name)
        values = np.asarray(self.values)[:, :, part]
        return values if self.is_complete else np.where(self.mask[:, :, part], values, np.nan)

    def with_values(self, values: Float[np.ndarray, "trial time neuron"]) -> Self:
        """Return the recording with other numbers of the same shape, NaN where missing."""
        if np.shape(values) != self.values.shape:
            raise DataError(f"values have shape {np.shape(values)}, the recording has {self.values.shape}")
        return self._altered(np.array(values, np.float64), None)

    def _altered(self, values: np.ndarray, mask: np.ndarray | None) -> Self:
        """Make this recording of other ``values``, which keeps the digests that it had."""
        changed = self.with_contents(values, mask)
        changed.batch_size, changed.known_as = self.batch_size, self.digests
        return changed

    def select_trials(self, indices: ArrayLike | slice) -> Self:
        """Select trials by position (integers, booleans or a slice), in all bins of the recording."""
        chosen = choose(self.n_trials, indices, "trials")
        if chosen.size == 0:
            raise DataError("select_trials was given no trial: choose at least one")
        trials = {name: coord[chosen] for name, coord in self.trial_coords.items()}
        mask = None if self.is_complete else self.mask[chosen]
        some = self.with_contents(np.asarray(self.values)[chosen], mask, self.trial_origin[chosen], trial_coords=trials)
        some.known_as = None if self.known_as is None else self.known_as.of_some(chosen)
        return some

    def select_neurons(self, indices: Mapping[str, ArrayLike | slice]) -> Self:
        """Select neurons by position within their region.

        Args:
            indices: region name -> integers, booleans or a slice. A region that is not named stays whole,
                one that is given an empty list is left out.
        """
        asked = by_name("the choice of neurons", indices, '{"V1": [0, 2]}')
        parts = {name: self._columns(name) for name in (*self.layout.regions, *asked)}
        kept = {
            name: choose(part.stop - part.start, asked.get(name, slice(None)), f"neurons of region {name}")
            for name, part in parts.items()
        }
        kept = {name: chosen for name, chosen in kept.items() if chosen.size}
        if not kept:
            raise DataError("select_neurons was asked to leave out every neuron: keep at least one")
        columns = np.concatenate([chosen + parts[name].start for name, chosen in kept.items()])
        counts = tuple(chosen.size for chosen in kept.values())
        layout = replace(self.layout, regions=tuple(kept), n_neurons=counts)
        labels = {name: coord[kept[name]] for name, coord in self.neuron_coords.items() if name in kept}
        # In the order of other recordings, so that sums over equal numbers are equal to the last digit.
        values = np.ascontiguousarray(np.asarray(self.values)[:, :, columns])
        mask = None if self.is_complete else self.mask[:, :, columns]
        origin = {name: self.origin[name].only(chosen) for name, chosen in kept.items()}
        some = self.with_contents(values, mask, layout=layout, neuron_coords=labels, origin=origin)
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
        return {name: living_neurons(self.kept(name)) for name in self.layout.regions}

    def drop_dead(self, regions: Collection[str] | None = None) -> Self:
        """Leave out neurons that never change or were never observed; a warning names them.

        Args:
            regions: Of which; None for all. DataError if they are no list of names, or unknown.
        """
        asked = self.layout.regions if regions is None else known_names(regions, self.layout.regions)
        living = {name: alive for name, alive in self.living.items() if name in asked}
        for name, alive in living.items():
            tell_left_out(name, self.neurons[name], alive)
        return self if all(alive.all() for alive in living.values()) else self.select_neurons(living)

    def require_living(self) -> None:
        """Raise DataError if a neuron never changes or was never observed in these trials."""
        remedy: tuple[Part, ...] = ("it says nothing in these trials: leave it out by ", LEAVE_OUT)
        for name, own in ((name, self.kept(name)) for name in self.layout.regions):
            check_living(name, own, self.neurons[name], living_neurons(own), *remedy)

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
        return f"trial {trial}{f' ({before} as loaded)' * (before != trial)}"

    def without(self, neurons: Mapping[str, ArrayLike | slice]) -> Self:
        """Hide some neurons: the layout stays, but none of their entries counts as observed.

        Args:
            neurons: region name -> integers, booleans or a slice, by position within the region.
        """
        mask = self.mask.copy()
        for name, indices in by_name("the choice of neurons", neurons, '{"V1": [0, 2]}').items():
            part = self._columns(name)
            chosen = choose(part.stop - part.start, indices, f"neurons of region {name}")
            mask[:, :, chosen + part.start] = False
        return self._altered(np.array(self.values), mask)

    def among(self, conditions: tuple[str, ...]) -> Self:
        """Return the recording with other ``conditions`` in its layout, its own among them.

        Raises:
            DataError: trials have another condition, or none.
        """
        if conditions == self.layout.conditions:
            return self
        named, trials = conditions_among(self.layout.conditions, conditions, self.condition), dict(self.trial_coords)
        if conditions and named != self.layout.conditions:
            trials[CONDITION] = np.array(named)[self.condition]
        layout = replace(self.layout, conditions=conditions)
        mask = None if self.is_complete else self.mask
        same = self.with_contents(np.asarray(self.values), mask, layout=layout, trial_coords=trials)
        same.known_as = self.known_as
        return same

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

        Values are in double precision; time and ``attrs["bin_width"]`` are in seconds.
        """
        arrays = {name: self.region(name) for name in self.layout.regions}
        return to_dataset(arrays, self.layout, self.neuron_coords, self.trial_coords)

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset, *, drop_dead: bool | None = False) -> Self:
        """Invert :meth:`to_xarray`; without ``attrs["regions"]`` every variable is a region."""
        return cls(**from_dataset(dataset), drop_dead=drop_dead)

    def _card(self) -> Card:
        return card_of(self)

    def _columns(self, name: str) -> slice:
        return self.layout.region_slices[known_name(name, self.layout.regions)]


def stand_in(layout: Layout, n_trials: int = 1, n_bins: int = 2) -> MultiRegionData:
    """Make a recording of noise with this layout, for code that needs shapes but no values."""
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal((n_trials, n_bins, n)) for n in layout.n_neurons]
    of_trials = {CONDITION: np.resize(layout.conditions, n_trials)} if layout.conditions else {}
    return MultiRegionData.unchecked(layout, np.concatenate(noise, axis=2), of_trials)
