"""Steps that commands share: what is checked before work begins, and what is written and printed after it."""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.cli.catalogue import COUNTED, COUNTING, KERNELS, MEANT_FOR, flag, typed
from mrgp.runtime.sentences import Refusal

if TYPE_CHECKING:
    import xarray as xr

    from mrgp import Fit, MultiRegionData
    from mrgp.families.model import Preset

RECORDING = ("bin_width", "regions", "n_neurons", "drop_dead", *COUNTING)   # options on how a file is read


class Misuse(Exception):
    """The command line asks for something that cannot be."""


class Failure(Exception):
    """The command was understood, but could not be carried out."""


def said(error: Exception) -> str:
    """The sentence of an error, in which arguments are options as they are typed."""
    return error.typed(typed) if isinstance(error, Refusal) else str(error)


def watched() -> bool:
    """Whether a person sees progress bars: in a log file they are noise."""
    return sys.stderr.isatty()


def check_suffix(path: Path) -> None:
    if path.suffix not in (".npz", ".nc"):
        raise Misuse(f"cannot write {path.name}: give --out a path that ends in .npz or .nc")


def given(args: argparse.Namespace, options: Iterable[str]) -> dict[str, Any]:
    """Options that were typed; the library has the defaults of all others."""
    return {name: value for name in options if (value := getattr(args, name)) is not None}


def make_folder(folder: Path) -> None:
    """Find out now, and not after the fit, that results cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Failure(f"cannot write into folder {folder} ({error.strerror}): choose another --out") from error


def divided(args: argparse.Namespace, data: "MultiRegionData") -> "tuple[MultiRegionData, MultiRegionData] | None":
    """Training and test trials, as --test-trials or --split-seed divide them; None where neither was typed.

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


def read_truth(path: Path) -> "xr.Dataset":
    """The truth that `mrgp simulate` wrote beside a recording."""
    import xarray as xr

    from mrgp.recordings.checks import DataError

    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    try:
        truth = xr.load_dataset(path)
    except Exception as error:   # whatever a reader raises on a broken file
        raise DataError(f"{path.name} is damaged or is no truth of a simulation ({error})") from error
    if missing := sorted({"delay", "loadings", "noise", "timescale_across", "timescale_within"} - set(truth.variables)):
        raise DataError(f"{path.name} has no {missing[0]}: give the truth that mrgp simulate wrote")
    return truth


def build_model(args: argparse.Namespace, data: "MultiRegionData") -> "Preset":
    """The model that the arguments describe, if it suits the recording."""
    import mrgp

    _check_seconds(args, data)
    chosen = given(args, ("n_across", *MEANT_FOR))
    if "kernel" in chosen:
        chosen["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    if "start_state" in chosen:
        chosen["start"] = chosen.pop("start_state")
    preset = getattr(mrgp.models, args.model.upper())
    try:
        model = preset(**chosen)
        model.check(data)
        assignment = model.assignment(data.layout)
        if (objection := model.objection(args.method or model.methods[0], data)) is not None:
            raise Refusal(f"{preset.__name__}: ", *objection)
    except mrgp.DataError:
        raise
    except ValueError as error:
        raise Misuse(said(error)) from error
    _check_latents(assignment)
    return model


def read(args: argparse.Namespace, path: Path | None = None, **changed: Any) -> "MultiRegionData":
    """The recording that the arguments name, or another read in the same way but for what is ``changed``.

    Silent neurons are refused, unless they are to be left out or values are counts, whose models take them.
    """
    import mrgp

    asked = {name: getattr(args, name) for name in RECORDING} | changed
    if asked["drop_dead"] is False and getattr(args, "emission", None) in COUNTED:
        asked["drop_dead"] = None
    return mrgp.load_recording(path or args.file, **asked)


def read_known(args: argparse.Namespace, fit: "Fit", path: Path | None = None) -> "MultiRegionData":
    """The recording that the arguments name, or another, with the neurons that the fit knows, silent or not.

    With --drop-dead silent ones go where only their number tells which neurons the fit is of.
    """
    data = read(args, path, drop_dead=None)
    if args.drop_dead:
        mine = fit.neurons
        told = {name for name, own in data.neurons.items() if name in mine and mine[name].comparable(own)}
        data = data.drop_dead(set(fit.layout.regions) - told)
    return fit.known(data)


def load(args: argparse.Namespace) -> "MultiRegionData":
    """The recording that is fitted to, read and preprocessed as the arguments say, without test trials.

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
    """What is done to the recording before the fit, as :func:`mrgp.preprocess` takes it."""
    asked = {name: getattr(args, name) for name in ("transform", "smooth", "zscore")}
    return asked | {"remove_condition_mean": args.remove_mean}


def preprocessing_for(args: argparse.Namespace, fit: "Fit", path: Path) -> dict[str, Any]:
    """What is done to the recording so that it suits a fit: what was done to the fit's own, if its file says so."""
    asked, own = preprocessing(args), fit.preprocessing
    if own is None:
        return asked
    typed, wanted = _as_typed(asked), _as_typed(own)
    if typed and typed != wanted:
        how = f"with {wanted}: give the same options, or none" if wanted else f"as it was: leave {typed} out"
        raise Misuse(f"{path.name} was fitted to a recording {how}")
    return own


def tell_of_own_numbers(fit: "Fit", test: "MultiRegionData", steps: dict[str, Any]) -> None:
    """Say that trials were centred or scaled by their own numbers, where those of the fit's recording were others."""
    from mrgp.recordings.checks import warn

    seen = fit.has_seen(test)
    same = seen is not None and seen.all() and test.n_trials == len(fit.training_trials)
    if (steps.get("zscore") or steps.get("remove_condition_mean")) and not same:
        text = "means and standard deviations are those of the trials scored: name the training trials, by --train"
        warn(text)


def _as_typed(steps: dict[str, Any]) -> str:
    taken = {flag(name): value for name, value in sorted(steps.items()) if value}
    return " ".join(option if value is True else f"{option} {value}" for option, value in taken.items())


def base_of(args: argparse.Namespace, data: "MultiRegionData") -> "Preset":
    """The model whose latents a cross-validation varies, if all the candidates suit the recording."""
    if args.folds < 2:
        raise Misuse("--folds is 2 or more: some trials are held out, others are fitted to")
    if args.stratify is not None and args.stratify not in data.trial_coords:
        known = f"it has {', '.join(data.trial_coords)}" if data.trial_coords else "it has none: leave --stratify out"
        raise Misuse(f"--stratify {args.stratify}: the recording has no trial coordinate of that name, {known}")
    asked = vars(args) | {"n_across": max(args.n_across or (1,))}
    widths = args.n_within or ((1,) if args.search else (None,))
    models = [build_model(argparse.Namespace(**(asked | {"n_within": width})), data) for width in widths]
    try:
        models[0].checked(dict(args.fixed), data)
    except ValueError as error:
        raise Misuse(said(error)) from error
    return models[0]


def check_compared(args: argparse.Namespace, data: "MultiRegionData", choices: dict[str, Any]) -> None:
    """Find out now, and not after the first fit, that a comparison of delays cannot be made of this recording."""
    from mrgp.models import DLAG

    _check_seconds(args, data)
    data.require(2, "a comparison of delays")
    try:
        _check_latents(DLAG(args.n_across, args.n_within, **choices).assignment(data.layout))
    except ValueError as error:
        raise Misuse(said(error)) from error


def _check_seconds(args: argparse.Namespace, data: "MultiRegionData") -> None:
    seconds = data.n_bins * data.bin_width
    if args.max_delay is not None and args.max_delay >= seconds:
        wrong = f"--max-delay {args.max_delay:g} is not shorter than the trials, {seconds:g} s"
        raise Misuse(f"{wrong}: give it in seconds, 0.1 for 100 ms")


def _check_latents(assignment: Any) -> None:
    latents, neurons = assignment.n_across + sum(assignment.n_within), sum(assignment.n_neurons)
    if latents > neurons:
        raise Misuse(f"{latents} latents for {neurons} neurons: lower --n-across or --n-within")


def finish(
    fit: "Fit",
    folder: Path,
    *,
    truth: "xr.DataArray | None" = None,
    intervals: bool = True,
    figures: bool = True,
    quiet: bool = False,
) -> None:
    """Write what was found and print it; the fit itself first, as what follows takes a while."""
    from mrgp.plots import save_figures
    from mrgp.recordings.checks import warn
    from mrgp.results.table import PROBABILITY, table, write_results

    total = write_results(fit, folder)["log_likelihood"]
    bounds = None
    try:
        if intervals and fit.has_delays:
            shown = not quiet and watched()
            bounds = fit.delay_intervals(PROBABILITY, progress=shown, over_time=True)
            write_results(fit, folder, bounds)
            if not fit.curvature().positive:
                warn("the recording does not determine every delay: distrust wide intervals")
        if figures:
            save_figures(fit, folder, truth=truth, intervals=bounds is not None)
    except KeyboardInterrupt as error:
        done = f"interrupted after the fit: {folder} has fit.nc and summary.json"
        raise Failure(f"{done}, but not all that should follow") from error
    if not quiet:
        state = "converged" if fit.converged else "NOT converged"
        state += f" after {fit.iterations} iterations, {fit.wall_s:.0f} s"
        reached = f"log p(y | parameters) = {total:.2f} nats"
        if fit.method == "vb":
            reached += f", {fit.climbed} = {fit.trace[-1]:.2f} nats"
        print(f"{state}; {reached}\n\n{table(fit, bounds, truth)}\n")
        print(f"summary.json, fit.nc{' and figures' * figures} are in {folder}")
