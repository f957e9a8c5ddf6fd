"""``mrgp evaluate``: score a fit on trials that it has not seen."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.cli.argument_types import count, flag, positive_count, share
from mrgp.cli.shared import Failure, Misuse, divided, make_folder, preprocessing, read_known, said, watched
from mrgp.cli.shared_arguments import add_division, add_out, add_quiet, add_recording, divided_twice, miscounted

if TYPE_CHECKING:
    import xarray as xr

    from mrgp import Fit, MultiRegionData

EVALUATED = """DIR receives summary.json, evaluation.nc (all tables, one group each) and figures.

Of FILE the neurons are taken that the fit knows, silent or not.
A test is one only on trials that the fit was not made from. Name them to both commands:
  mrgp fit FILE --split-seed 0 ... --out DIR
  mrgp evaluate DIR/fit.nc FILE --split-seed 0 --out DIR/test
Without --test-trials, --split-seed or --train, all trials of FILE are scored and the
baselines are made from them too; the report says what the fit has seen of them."""


def add_evaluate(commands: Any) -> None:
    """Add the command."""
    about = """How well does a fit predict neurons and regions that it is not shown, beside baselines that need
no latents? How much variance do its latents explain, and which way do signals flow?"""
    evaluate = commands.add_parser(
        "evaluate", help="score a fit on trials it has not seen", description=about, epilog=EVALUATED
    )
    evaluate.set_defaults(parser=evaluate, checks=(divided_twice, miscounted))
    add = evaluate.add_argument
    add("fit", type=Path, metavar="FIT.nc", help="as mrgp fit wrote it")
    add("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add_out(evaluate)
    text = "share of each region's neurons held out, between 0 and 1 (%(default)s)"
    add("--held-out", type=share, default=0.2, metavar="SHARE", help=text)
    text = "sets of held-out neurons to average over (%(default)s)"
    add("--masks", type=positive_count, default=3, metavar="N", help=text)
    add("--seed", type=count, default=0, help="of the first set of held-out neurons (%(default)s)")
    text = "a label of the trials, such as the stimulus: PSTHs are those of each of its values"
    add("--condition", metavar="NAME", help=text)
    add("--truth", type=Path, metavar="FILE_truth.nc", help="of a simulation: report errors against it")
    add_quiet(add)
    add_recording(evaluate)
    add_division(evaluate, "score these trials; all others made the fit")
    text = "a recording of the trials that the fit was made from; FILE then holds the test alone"
    add("--train", type=Path, metavar="FILE", help=text)


def run_evaluate(args: argparse.Namespace) -> None:
    """Load fit and recording, score, write."""
    import mrgp
    from mrgp.studies.evaluation.evaluate import evaluate

    fit = mrgp.load_fit(args.fit)
    args.record.add_file(args.fit)
    args.regions = args.regions or fit.layout.regions
    test = read_known(args, fit)
    train = None if args.train is None else read_known(args, fit, args.train)
    if (parts := divided(args, test)) is not None:
        train, test = parts
    steps = preprocessing_for(args, fit, args.fit)
    test = mrgp.preprocess(test, reference=train, **steps)
    if train is None:
        tell_of_own_numbers(fit, test, steps)
    else:
        train = mrgp.preprocess(train, **steps)
    truth = None if args.truth is None else read_truth(args.truth)
    fit.recording(test)
    make_folder(args)
    if not args.quiet:
        print(f"{test}\nscoring ...", flush=True)
    settings = {"held_out": args.held_out, "n_masks": args.masks, "seed": args.seed, "condition": args.condition}
    progress = not args.quiet and watched()
    try:
        evaluation = evaluate(fit, test, train, truth=truth, progress=progress, **settings)
    except ValueError as error:
        raise Failure(said(error)) from error
    evaluation.save(args.out)
    if not args.quiet:
        print(f"{evaluation.report()}\n\nsummary.json, evaluation.nc and figures are in {args.out}")


def read_truth(path: Path) -> "xr.Dataset":
    """Read the truth that `mrgp simulate` wrote beside a recording."""
    import xarray as xr

    from mrgp.metrics.recovery import NEEDED
    from mrgp.metrics.recovery_of_trials import SCORED
    from mrgp.recordings.checks import DataError

    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    try:
        truth = xr.load_dataset(path)
    except Exception as error:  # whatever a reader raises on a broken file
        raise DataError(f"{path.name} is damaged or is no truth of a simulation ({error})") from error
    if not (set(truth.variables) >= NEEDED or SCORED & set(truth.variables)):
        remedy = "give the truth that mrgp simulate wrote"
        raise DataError(f"{path.name} has neither loadings nor latents or rates: {remedy}")
    return truth


def preprocessing_for(args: argparse.Namespace, fit: "Fit", path: Path) -> dict[str, Any]:
    """Preprocessing that the fit's file states; where it states none, that of the arguments."""
    asked, own = preprocessing(args), fit.preprocessing
    if own is None:
        return asked
    typed, wanted = _as_typed(asked), _as_typed(own)
    if typed and typed != wanted:
        how = f"with {wanted}: give the same options, or none" if wanted else f"as it was: leave {typed} out"
        raise Misuse(f"{path.name} was fitted to a recording {how}")
    return own


def _as_typed(steps: dict[str, Any]) -> str:
    taken = {flag(name): value for name, value in sorted(steps.items()) if value}
    return " ".join(option if value is True else f"{option} {value}" for option, value in taken.items())


def tell_of_own_numbers(fit: "Fit", test: "MultiRegionData", steps: dict[str, Any]) -> None:
    """Warn if trials were centred or scaled by means and sds that the fit never saw."""
    from mrgp.recordings.checks import warn

    seen = fit.has_seen(test)
    same = seen is not None and seen.all() and test.n_trials == len(fit.training_trials)
    if (steps.get("zscore") or steps.get("remove_condition_mean")) and not same:
        text = "means and standard deviations are those of the trials scored: name the training trials, by --train"
        warn(text)
