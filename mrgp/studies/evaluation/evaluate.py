"""Evaluation of a fit on its own or other trials, with the baselines beside it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from mrgp import metrics
from mrgp.metrics.baselines import baselines
from mrgp.metrics.metric import Metric, ScoredTrials, SimulatedTrials
from mrgp.parts.means import MEAN_CHANGE
from mrgp.plots.flow import plot_flow
from mrgp.plots.save import save_all
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.splits import HELD_OUT, MASKS, HeldOut
from mrgp.results.fit import Fit, of_processes
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_json, write_netcdf
from mrgp.runtime.versions import versions
from mrgp.studies.evaluation.account import account_of
from mrgp.studies.evaluation.figure import plot_held_out, plot_scores
from mrgp.studies.evaluation.report import build, report

KIND = "evaluation"  # of a summary


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Shown):
    """Result of :func:`evaluate`.

    Tables of metrics of trials are attributes by the metrics' names: those below, and those of your own
    (:class:`mrgp.Metric`), as a dataset each. One is None if the model has no such thing; ``notes`` then say why.

    Attributes:
        model: Its name.
        trials: In a sentence, which trials were scored and whether the fit was made from them.
        cosmoothing: As :func:`mrgp.metrics.cosmoothing` has it, with a dimension ``predictor``: the model first, then
            the baselines.
        left_out: As :func:`mrgp.metrics.leave_region_out`, likewise.
        psths: PSTHs of the first set of held-out neurons, one variable per region (source, held_<region>, time).
        likelihood: As :func:`mrgp.metrics.trial_log_likelihood`.
        reconstruction: As :func:`mrgp.metrics.reconstruction`.
        variance: As :func:`mrgp.metrics.variance_explained`.
        flow: As :func:`mrgp.metrics.signal_flow`.
        recovery: As :func:`mrgp.metrics.recovery_errors`, where a truth was given.
        tables: All of these by name, without those that the model does not have.
        modes: Of regions (``V1``) dominant modes, of pairs predictive (``V1 to V2``) and correlative (``V1 and V2``).
        masks: The sets of held-out neurons.
        notes: What could not be computed, and why.
        about: Settings and versions.
    """

    model: str
    trials: str
    cosmoothing: xr.Dataset
    left_out: xr.Dataset | None
    psths: xr.Dataset
    tables: dict[str, xr.Dataset]
    modes: dict[str, xr.Dataset]
    masks: list[HeldOut]
    notes: tuple[str, ...]
    about: dict[str, Any]

    def __getattr__(self, name: str) -> xr.Dataset | None:
        if name in {metric.name for metric in Metric.scored_on(SimulatedTrials)}:
            return self.tables.get(name)
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tables]

    def _card(self) -> Card:
        return Card(f"Evaluation of {self.model}", notes=self.notes, text=self.report())

    def _account(self) -> Account:
        return account_of(self)

    def figures(self) -> dict[str, Figure]:
        drawn = {"scores": plot_scores(self.cosmoothing, self.left_out), "held_out": plot_held_out(self.psths)}
        return drawn if self.flow is None else {**drawn, "flow": plot_flow(self.flow)}

    def summary(self) -> dict[str, Any]:
        """Every score by method and region, in the units of its table; ready for JSON."""
        return {"kind": KIND, **build(self)}

    def report(self) -> str:
        """Format the scores as tables that fit on a screen."""
        return report(self)

    def to_xarray(self) -> xr.DataTree:
        """Convert to a tree with every table as a group.

        Modes of regions and of pairs are below ``modes``.
        """
        tables = {"cosmoothing": self.cosmoothing, "left_out": self.left_out, "psths": self.psths} | self.tables
        groups = {f"/{name}": table for name, table in tables.items() if table is not None}
        groups |= {f"/modes/{name}": table for name, table in self.modes.items()}
        return xr.DataTree.from_dict(groups)

    def save(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``report.json``, ``evaluation.nc`` and the figures.

        Each file is replaced whole.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_netcdf(place / "evaluation.nc", self.to_xarray())
        write_json(place / "summary.json", self.summary())
        save_all(self.figures(), place)
        self.account().save(place)


def evaluate(
    fit: Fit,
    test: MultiRegionData,
    train: MultiRegionData | None = None,
    *,
    held_out: float = HELD_OUT,
    n_masks: int = MASKS,
    seed: int = 0,
    condition: str | None = None,
    truth: xr.Dataset | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a fit on trials that it has not seen, beside baselines without latents.

    Args:
        fit: Of any model.
        test: The trials scored.
        train: Those that the fit was made from, for the baselines; None for the fit's own, or ``test`` where it holds
            none: then the baselines know the trials that they are scored on, and the report says so.
        held_out: Share of each region's neurons that is held out and predicted from the others.
        n_masks: Sets of held-out neurons whose scores are averaged.
        seed: Of the first set; the others follow.
        condition: A trial coordinate, such as the stimulus: PSTHs, the baselines' too, are those of each of its values.
            None for "condition" where the fit has a mean for each, else for none.
        truth: Of a simulation, for the errors of delays, timescales and subspaces.
        progress: Show progress bars.

    Raises:
        DataError: the recording does not suit the fit, or no neuron can be held out.
    """
    began = time.perf_counter()
    test = fit.recording(test)
    known = fit.data if train is None else train
    reference = test if known is None else fit.recording(known)
    name = type(fit.model).__name__
    notes: list[str] = []
    if condition is None and MEAN_CHANGE.name in fit.sites and fit.layout.conditions:
        condition = CONDITION  # the baselines know what the fit knows
    masks = metrics.neuron_masks(test.layout, n_masks, seed, held_out)
    methods: dict[str, Any] = {name: fit, **baselines(reference, condition)}
    scores = _by_method(methods, lambda one: metrics.cosmoothing(one, test, masks, condition, progress))
    left_out = None
    if test.layout.n_regions > 1:
        alone = partial(_by_method, methods, lambda one: metrics.leave_region_out(one, test, condition, progress))
        left_out = _known(alone, "regions left out", notes)
    else:
        notes.append("regions left out: the recording has one region")
    case = ScoredTrials(fit, test, reference) if truth is None else SimulatedTrials(fit, test, reference, truth)
    tables = _tables(case, notes)
    return Evaluation(
        model=name.lower(),
        trials=_seen(fit, test, reference),
        cosmoothing=scores,
        left_out=left_out,
        psths=_psths(methods, test, masks[0]),
        tables=tables,
        modes=_modes(fit),
        masks=masks,
        notes=tuple(notes),
        about={
            "settings": fit.model.to_settings(), "method": fit.method, "fixed": list(fit.fixed),
            "preprocessing": fit.preprocessing, "condition": condition, "seed": seed,
            "n_masks": n_masks, "held_out": held_out, "n_test_trials": test.n_trials,
            "n_seen_trials": _count_seen(fit, test), "n_train_trials": reference.n_trials,
            "wall_s": time.perf_counter() - began, "versions": versions(),
        },
    )  # fmt: skip


def _by_method(methods: dict[str, Any], score: Callable[[Any], xr.Dataset]) -> xr.Dataset:
    """Score every method; scores are along a dimension ``predictor``."""
    tables = [score(one) for one in methods.values()]
    joined = xr.concat(tables, "predictor", coords="minimal", compat="override", combine_attrs="override")
    return joined.assign_coords(predictor=list(methods))


def _tables(case: ScoredTrials, notes: list[str]) -> dict[str, xr.Dataset]:
    """Score the trials by every metric that needs no more.

    What could not be computed is added to ``notes``.
    """
    tables = {}
    for metric in (metric for metric in Metric.scored_on(type(case)) if metric.suits(case)):
        score = partial(metric.table, case)
        table = _known(score, metric.title, notes) if metric.optional else score()
        if table is not None:
            tables[metric.name] = table
            notes += [f"{metric.title}: {remark}" for remark in (metric.remark(case),) if remark]
    return tables


def _known[Table](table: Callable[[], Table], what: str, notes: list[str]) -> Table | None:
    try:
        return table()
    except DataError as error:
        notes.append(f"{what}: {error}")
        return None


def _count_seen(fit: Fit, test: MultiRegionData) -> int | None:
    """Count the trials scored that the fit was made from; None where its file does not say."""
    seen = fit.has_seen(test)
    return None if seen is None else int(seen.sum())


def _seen(fit: Fit, test: MultiRegionData, reference: MultiRegionData) -> str:
    """Say in a sentence how many trials were scored, and if fit and baselines knew them."""
    count, seen = test.n_trials, fit.has_seen(test)
    if seen is None:
        said = f"{count} trials; the fit's file does not say whether it was made from them"
    elif not seen.any():
        said = f"{count} trials that the fit has not seen"
    else:
        which = "all of them" if seen.all() else f"{int(seen.sum())} of them"
        said = f"{count} trials, {which} training trials of the fit: scores are too good by what it learned of them"
    shared = int(np.isin(test.trial_fingerprints, reference.trial_fingerprints).sum())
    return said + (f"; the baselines were made from {shared} of them too" if shared else "")


def _psths(methods: dict[str, Any], test: MultiRegionData, mask: HeldOut) -> xr.Dataset:
    """PSTHs of held-out neurons: of the data, then of every method.

    Missing entries count in neither.
    """
    given, arrays = test.without(mask), {}
    predicted = [one.predict(given) for one in methods.values()]
    for region, neurons in mask.items():
        observed = test.region(region)[:, :, neurons]
        seen = ~np.isnan(observed)
        sources = [np.nan_to_num(observed)]
        sources += [table[f"{region}_mean"].values[:, :, neurons] for table in predicted]
        count = seen.sum(0)
        means = [np.where(count > 0, np.where(seen, source, 0).sum(0) / np.maximum(count, 1), np.nan)
                 for source in sources]  # fmt: skip
        dims = ("source", f"held_{region}", "time")
        arrays[region] = xr.DataArray(np.swapaxes(means, 1, 2), {f"held_{region}": neurons}, dims)
    coords = {"source": ["data", *methods], "time": test.layout.time_axis(test.n_bins)}
    return xr.Dataset(arrays, coords, {"units": "data units", "regions": list(test.layout.regions)})


def _modes(fit: Fit) -> dict[str, xr.Dataset]:
    """Dominant modes of regions, predictive modes of ordered pairs, correlative modes of pairs.

    There are none where the model has no variances; the note on these says why.
    """
    regions = fit.layout.regions
    try:
        modes = {region: metrics.dominant_modes(fit, region) for region in regions}
    except DataError:
        return {}
    if not (of_processes(fit) and fit.assignment.n_across):
        return modes
    for first, second in permutations(regions, 2):
        modes[f"{first} to {second}"] = metrics.predictive_modes(fit, first, second)
        if regions.index(first) < regions.index(second):
            modes[f"{first} and {second}"] = metrics.correlative_modes(fit, first, second)
    return modes
