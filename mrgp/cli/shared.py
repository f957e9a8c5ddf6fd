"""Steps that commands share: checks before the work begins, results after it."""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.cli.argument_types import typed
from mrgp.cli.catalogue import CLASSES, COUNTED, FIELDS, KERNELS, MEANT_FOR, READING
from mrgp.cli.model_options import default_of
from mrgp.runtime.sentences import Refusal

if TYPE_CHECKING:
    import xarray as xr

    from mrgp import Fit, MultiRegionData
    from mrgp.families.model import Model
    from mrgp.parts.latents import LatentLayout

RECORDING = ("bin_width", "regions", "drop_dead", *READING)  # options on how a file is read


class Misuse(Exception):
    """Command line that asks for something impossible."""


class Failure(Exception):
    """Failure of a command that was understood, but could not be carried out."""


def said(error: Exception) -> str:
    """Sentence of an error, with arguments named as options are typed."""
    return error.typed(typed) if isinstance(error, Refusal) else str(error)


def watched() -> bool:
    """True if a person sees progress bars: in a log file they are noise."""
    return sys.stderr.isatty()


def given(args: argparse.Namespace, options: Iterable[str]) -> dict[str, Any]:
    """Options that were typed; the library has the defaults of all others."""
    return {name: value for name in options if (value := getattr(args, name)) is not None}


def make_folder(args: argparse.Namespace) -> None:
    """Make the folder for results, and begin the record of the run there.

    It fails now, not after the fit, if the folder cannot be written.
    """
    folder: Path = args.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Failure(f"cannot write into folder {folder} ({error.strerror}): choose another --out") from error
    args.record.begin(folder)


@contextmanager
def resumable(records: Path) -> Iterator[None]:
    """Tell whoever stops a long run whether its file of ``records`` lets it go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = f"{records.parent} keeps what was done, the same command goes on from there"
        raise Failure(f"interrupted: {kept if records.is_file() else 'nothing was done yet'}") from error
    except ValueError as error:
        raise Failure(said(error)) from error


# --- recordings and models, checked


def divided(args: argparse.Namespace, data: "MultiRegionData") -> "tuple[MultiRegionData, MultiRegionData] | None":
    """Training and test trials, as --test-trials or --split-seed divide them, or None.

    Test trials have all neurons: those that a fit knows are chosen once there is one.
    """
    import numpy as np

    from mrgp.recordings.checks import DataError
    from mrgp.recordings.splits import split_trials

    if args.split_seed is not None:
        split = split_trials(data.n_trials, args.split_seed)
        return data.select_trials(split.train), data.select_trials(split.test)
    if args.test_trials is None:
        return None
    chosen = np.zeros(data.n_trials, bool)
    chosen[args.test_trials] = True
    stop = args.test_trials.stop
    if chosen.all() or not chosen.any() or (stop is not None and stop > data.n_trials):
        raise DataError(f"--test-trials must name some, not all, of the recording's {data.n_trials} trials")
    return data.select_trials(~chosen), data.select_trials(chosen)


def build_model(args: argparse.Namespace, data: "MultiRegionData") -> "Model":
    """Build the model that the arguments describe; refuse one that does not suit the recording."""
    import mrgp

    check_seconds(args, data)
    model = make_model(args)
    try:
        model.check(data)
        latents = model.assignment(data.layout)
        if (objection := model.objection(args.method or model.methods[0], data)) is not None:
            raise Refusal(f"{type(model).__name__}: ", *objection)
    except mrgp.DataError:
        raise
    except ValueError as error:
        raise Misuse(said(error)) from error
    if latents is not None:
        check_latents(latents)
    return model


def make_model(args: argparse.Namespace) -> "Model":
    """Make the model that the arguments describe, for whatever recording."""
    import mrgp

    choices = {FIELDS.get(option, option): value for option, value in given(args, MEANT_FOR).items()}
    if "kernel" in choices:
        choices["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    try:
        return getattr(mrgp.models, CLASSES[args.model])(**choices)
    except ValueError as error:
        raise Misuse(said(error)) from error


def read(args: argparse.Namespace, path: Path | None = None, **changed: Any) -> "MultiRegionData":
    """Read the recording of the arguments, or of ``path``, with some options ``changed``.

    Silent neurons are refused, unless they are to be left out or values are counts, whose models take them.
    """
    import mrgp

    asked = {name: getattr(args, name) for name in RECORDING} | changed
    if asked["drop_dead"] is False and _is_of_counts(args):
        asked["drop_dead"] = None
    data = mrgp.load_recording(path or args.file, **asked)
    args.record.add_file(path or args.file, data)
    return data


def _is_of_counts(args: argparse.Namespace) -> bool:
    """True if the arguments have a model whose values are counts."""
    return "model" in args and (args.emission or default_of("emission", args.model)) in COUNTED


def read_known(args: argparse.Namespace, fit: "Fit", path: Path | None = None) -> "MultiRegionData":
    """Read the recording of the arguments, or of ``path``, with the neurons that the fit knows.

    Silent ones are among them; with --drop-dead they go where only their number tells which neurons the fit is of.
    """
    data = read(args, path, drop_dead=None)
    if args.drop_dead:
        mine = fit.neurons
        told = {name for name, own in data.neurons.items() if name in mine and mine[name].comparable(own)}
        data = data.drop_dead(set(fit.layout.regions) - told)
    return fit.known(data)


def load(args: argparse.Namespace) -> "MultiRegionData":
    """Read and preprocess the recording that is fitted to, without test trials.

    With --drop-dead neurons go that are dead in these trials, as they were recorded or once they are preprocessed.
    """
    import mrgp

    data = read(args)
    if "split_seed" in args and (parts := divided(args, data)) is not None:
        data = parts[0]
    if args.drop_dead:
        data = data.drop_dead()
    data = mrgp.preprocess(data, **preprocessing(args))
    return data.drop_dead() if args.drop_dead else data


def preprocessing(args: argparse.Namespace) -> dict[str, Any]:
    """Preprocessing that was asked for, as :func:`mrgp.preprocess` takes it."""
    asked = {name: getattr(args, name) for name in ("transform", "smooth", "zscore")}
    return asked | {"remove_condition_mean": args.remove_mean}


def check_seconds(args: argparse.Namespace, data: "MultiRegionData") -> None:
    """Refuse delays as long as a trial: they were not meant in seconds."""
    seconds = data.n_bins * data.bin_width
    if args.max_delay is not None and args.max_delay >= seconds:
        wrong = f"--max-delay {args.max_delay:g} is not shorter than the trials, {seconds:g} s"
        raise Misuse(f"{wrong}: give it in seconds, 0.1 for 100 ms")


def check_latents(assignment: "LatentLayout") -> None:
    """Refuse more latents than neurons."""
    latents, neurons = assignment.n_across + sum(assignment.n_within), sum(assignment.n_neurons)
    if latents > neurons:
        raise Misuse(f"{latents} latents for {neurons} neurons: lower --n-across or --n-within")


# --- results


def finish(
    fit: "Fit",
    folder: Path,
    *,
    truth: "xr.DataArray | None" = None,
    intervals: bool = True,
    figures: bool = True,
    quiet: bool = False,
) -> None:
    """Write and print results, the fit itself first: what follows takes a while."""
    from mrgp.recordings.checks import warn
    from mrgp.results.account import is_bound, titled
    from mrgp.results.fit import of_processes
    from mrgp.results.table import PROBABILITY, table, write_results

    total = write_results(fit, folder)["log_likelihood"]
    bounds = None
    try:
        if intervals and of_processes(fit) and fit.has_delays:
            shown = not quiet and watched()
            bounds = fit.delay_intervals(PROBABILITY, progress=shown, over_time=True)
            write_results(fit, folder, bounds)
            if not fit.curvature().positive:
                warn("the recording does not determine every delay: distrust wide intervals")
        if figures:
            from mrgp.plots import save_figures

            save_figures(fit, folder, truth=truth, intervals=bounds is not None)
        account = fit.account()
        replace(account, tables=titled(fit, bounds, truth)).save(folder)
    except KeyboardInterrupt as error:
        done = f"interrupted after the fit: {folder} has fit.nc and summary.json"
        raise Failure(f"{done}, but not all that should follow") from error
    if not quiet:
        state = "converged" if fit.converged else "NOT converged"
        state += f" after {fit.iterations} iterations, {fit.wall_s:.0f} s"
        of = "bound of " * is_bound(fit)
        reached = [] if total is None else [f"{of}log p(y | parameters) = {total:.2f} nats"]
        if (total is None or fit.climbs.is_bound) and not fit.method_class.gives_draws and len(fit.trace):
            reached += [f"{fit.climbed} = {fit.trace[-1]:.2f} nats{fit.climbs.remark}"]
        tables = table(fit, bounds, truth)
        print(f"{state}; {', '.join(reached)}\n{tables and f'\n{tables}\n'}")
        print(f"summary.json, fit.nc{' and figures' * figures} are in {folder}")
