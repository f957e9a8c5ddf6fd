"""The command ``mrgp``: what a person types at a shell, and what comes back.

Exit codes: 0 done, 1 failed (a recording, a folder or the run itself), 2 wrong use. A user's mistake gets one
sentence on stderr that begins with ``mrgp:``. Every command imports what it needs once its arguments are understood.
"""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mrgp.cli.catalogue import KERNELS, MISUSED, NEEDS_WITHIN, flag
from mrgp.cli.shared import (
    Failure,
    Misuse,
    base_of,
    build_model,
    check_compared,
    check_suffix,
    divided,
    finish,
    given,
    load,
    make_folder,
    preprocessing,
    preprocessing_for,
    read_known,
    read_truth,
    said,
    tell_of_own_numbers,
    watched,
)
from mrgp.cli.shared_arguments import parse

DONE, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    try:
        args = parse(argv)
    except SystemExit as stop:   # the parser has said why
        return stop.code if isinstance(stop.code, int) else FAILED
    from mrgp.recordings.checks import DataError

    try:
        with _notes(args):
            COMMANDS[args.command](args)
        return DONE
    except Misuse as error:
        code, sentence = MISUSED, str(error)
    except KeyboardInterrupt:
        code, sentence = FAILED, "interrupted"
    except (Failure, DataError, OSError, FloatingPointError) as error:
        code, sentence = FAILED, said(error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):   # JAX's want of memory
            raise
        code, sentence = FAILED, "out of memory: take fewer latents, trials or bins, or the markov likelihood"
    print(f"mrgp: {' '.join(sentence.split())}", file=sys.stderr)
    return code


@contextmanager
def _notes(args: argparse.Namespace) -> Iterator[None]:
    """Print every warning meant for users as one line, once; those of libraries to programmers not at all.

    Arguments that the command has as options are named as these are typed.
    """
    told = set()
    options = "|".join(name for name in vars(args) if "_" in name)
    word = re.compile(rf"(?<![\w./'\"-])({options})(?![\w./='\"])") if options else None

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = word.sub(lambda name: flag(name[0]), str(message)) if word else str(message)
        if category is UserWarning and text not in told and not text.endswith(": interrupted"):
            told.add(text)
            print(f"mrgp: note: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


@contextmanager
def _resumable(records: Path) -> Iterator[None]:
    """A long run whose file of ``records`` grows as it goes on: say so where it is stopped."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = f"{records.parent} keeps what was done, the same command goes on from there"
        raise Failure(f"interrupted: {kept if records.is_file() else 'nothing was done yet'}") from error
    except ValueError as error:
        raise Failure(said(error)) from error


# --- commands


def run_demo(args: argparse.Namespace) -> None:
    """Simulate, fit, compare."""
    from mrgp.metrics.recovery import matched_delays
    from mrgp.models import DLAG
    from mrgp.simulations.scenarios import simulate_scenario

    make_folder(args.out)
    recording = simulate_scenario("demo", seed=args.seed)
    print(f"{recording.data}\nfitting DLAG ...", flush=True)
    fit = DLAG(n_across=2, n_within=1, max_delay=0.1).fit(recording.data, seed=args.seed, progress=watched())
    finish(fit, args.out, truth=matched_delays(fit, recording.truth), figures=not args.no_figures)


def run_fetch(args: argparse.Namespace) -> None:
    """Download, or find in the cache."""
    import mrgp
    from mrgp.runtime.devices import cache_folder

    if args.out is not None:
        check_suffix(args.out)
    data = mrgp.fetch_v1v2()
    print(f"{data}\nkept as {cache_folder() / 'v1v2.npz'}")
    if args.out is not None:
        mrgp.save_recording(data, args.out)
        print(f"written to {args.out}")


def run_simulate(args: argparse.Namespace) -> None:
    """A scenario's recording and its truth."""
    import mrgp
    from mrgp.runtime.files import write_atomically
    from mrgp.simulations.scenarios import SCENARIOS, simulate_scenario

    if args.list:
        print(*SCENARIOS, sep="\n")
        return
    if args.scenario is None or args.out is None:
        raise Misuse("simulate needs SCENARIO and --out FILE (`mrgp simulate --list` shows the scenarios)")
    check_suffix(args.out)
    changed = {name: value for name in ("n_trials", "n_bins") if (value := getattr(args, name)) is not None}
    try:
        recording = simulate_scenario(args.scenario, seed=args.seed, **changed)
    except ValueError as error:
        raise Misuse(said(error)) from error
    truth = args.out.with_name(f"{args.out.stem}_truth.nc")
    mrgp.save_recording(recording.data, args.out)
    write_atomically(truth, partial(recording.truth.to_netcdf, engine="h5netcdf"))
    print(f"{recording.data}\nwritten to {args.out}, its truth to {truth}")


def run_fit(args: argparse.Namespace) -> None:
    """Load, fit, write; a run that is stopped can be resumed."""
    import numpy as np

    import mrgp

    data = load(args)
    start = None if args.start is None else mrgp.load_fit(args.start)
    model = build_model(args, data)
    fixed = dict(args.fixed)
    try:
        model.checked(fixed, data)
    except ValueError as error:
        raise Misuse(said(error)) from error
    make_folder(args.out)
    checkpoint = args.out / "fit.checkpoint.npz"
    progress = not args.quiet and watched()
    if not args.quiet:
        print(f"{data}\n{f'going on from {checkpoint}' if checkpoint.is_file() else 'fitting'} ...", flush=True)
    settings = given(args, ("method", "seed", "n_starts", "tolerance", "max_iterations"))
    fit = None
    try:
        fit = model.fit(data, start=start, fixed=fixed, checkpoint=checkpoint, progress=progress, **settings)
    except KeyboardInterrupt:
        pass
    except np.linalg.LinAlgError as error:
        raise Failure(f"the numbers of {args.file.name} are too large or too small: check its units") from error
    except ValueError as error:
        raise Failure(said(error)) from error
    if checkpoint.is_file():   # a fit that comes to its end removes it
        raise Failure(f"interrupted: {checkpoint} keeps what was reached, the same command goes on from there")
    if fit is None:
        raise Failure("interrupted before there was anything to keep: the same command starts again")
    shown = {"intervals": not args.no_intervals, "figures": not args.no_figures, "quiet": args.quiet}
    finish(replace(fit, preprocessing=preprocessing(args)), args.out, **shown)


def run_evaluate(args: argparse.Namespace) -> None:
    """Load fit and recording, score, write."""
    import mrgp
    from mrgp.studies.evaluation.evaluate import evaluate

    fit = mrgp.load_fit(args.fit)
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
    make_folder(args.out)
    if not args.quiet:
        print(f"{test}\nscoring ...", flush=True)
    chosen = {"held_out": args.held_out, "n_masks": args.masks, "seed": args.seed, "condition": args.condition}
    progress = not args.quiet and watched()
    try:
        found = evaluate(fit, test, train, truth=truth, progress=progress, **chosen)
    except ValueError as error:
        raise Failure(said(error)) from error
    found.save(args.out)
    if not args.quiet:
        print(f"{found.report()}\n\nsummary.json, evaluation.nc and figures are in {args.out}")


def run_aggregate(args: argparse.Namespace) -> None:
    """Read summaries, tabulate, write."""
    from mrgp.studies.table_of_runs import aggregate

    found = aggregate(args.folders, args.means)
    make_folder(args.out)
    found.save(args.out)
    if not args.quiet:
        print(f"{found.report()}\n\naggregate.csv and aggregate.png are in {args.out}")


def run_cv(args: argparse.Namespace) -> None:
    """Fit every candidate in every fold, weigh them, write; a run that is stopped goes on."""
    from contextlib import nullcontext

    import mrgp
    from mrgp.studies.cross_validation.sweep import FILE

    data = load(args)
    model = base_of(args, data)
    make_folder(args.out)
    place = args.out / FILE
    if not args.quiet:
        print(f"{data}\n{f'going on from {place}' if place.is_file() else 'cross-validating'} ...", flush=True)
    chosen = {
        "n_across": args.n_across, "n_within": args.n_within, "n_folds": args.folds, "stratify": args.stratify,
        "search": args.search, "neighbours": args.neighbours, "seed": args.seed, "fixed": dict(args.fixed),
        "drop_dead": args.drop_dead,
        **given(args, ("method", "n_starts", "tolerance", "max_iterations")),
    }  # fmt: skip
    progress = not args.quiet and watched()
    workers = mrgp.process_pool(args.workers) if args.workers > 1 else nullcontext()
    with _resumable(place), workers as executor:
        found = mrgp.cross_validate(model, data, executor=executor, out=args.out, progress=progress, **chosen)
    found.save(args.out)
    if not args.quiet:
        within = ",".join(map(str, found.chosen.n_within))
        asked = f"--n-across {found.chosen.n_across}{f' --n-within {within}' if any(found.chosen.n_within) else ''}"
        print(f"{found.report()}\n\nchosen: {asked}\nsummary.json, scores.csv, scores.nc and cv.png are in {args.out}")


def run_compare(args: argparse.Namespace) -> None:
    """Fit every hypothesis, weigh them, write."""
    import mrgp

    data = load(args)
    chosen = given(args, ("max_delay", "timescale_bounds"))
    if args.kernel is not None:
        chosen["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    check_compared(args, data, chosen)
    make_folder(args.out)
    asked = {"n_across": args.n_across, "n_within": args.n_within, "probability": args.probability, "rope": args.rope}
    progress = not args.quiet and watched()
    if not args.quiet:
        print(f"{data}\ncomparing {', '.join(args.hypotheses)} ...", flush=True)
    try:
        found = mrgp.compare_delays(data, args.hypotheses, seed=args.seed, progress=progress, **asked, **chosen)
    except ValueError as error:
        raise Failure(said(error)) from error
    steps = preprocessing(args)
    fits = {name: replace(fit, preprocessing=steps) for name, fit in found.fits.items()}
    found = replace(found, fits=fits, settings=found.settings | {"preprocessing": steps})
    found.save(args.out)
    if not args.quiet:
        shown = found.table[["probability", "log_evidence", "elpd_diff", "dse"]].round(3).to_string()
        print(f"{shown}\n\n{found.verdict}\n\nsummary.json, comparison.png and the fits are in {args.out}")


def run_calibrate(args: argparse.Namespace) -> None:
    """Simulate and fit again and again; a run that is stopped goes on."""
    from mrgp.recordings.checks import DataError
    from mrgp.recordings.layout import Layout
    from mrgp.recordings.recording import stand_in
    from mrgp.studies.calibration.calibrate import calibrate
    from mrgp.studies.calibration.result import FILE

    regions = {f"V{i + 1}": size for i, size in enumerate(args.neurons)}
    if args.n_within is None and args.model in NEEDS_WITHIN:
        args.n_within = 1
    try:
        model = build_model(args, stand_in(Layout(tuple(regions), args.neurons, args.bin_width), 1, args.bins))
    except DataError as error:
        raise Misuse(f"{said(error)} (--neurons N,N)") from error
    make_folder(args.out)
    place = args.out / FILE
    if not args.quiet:
        print(f"{f'going on from {place}' if place.is_file() else 'simulating and fitting'} ...", flush=True)
    design = {"n_trials": args.trials, "n_bins": args.bins, "bin_width": args.bin_width, "snr": args.snr}
    with _resumable(place):
        found = calibrate(
            model, args.n, method=args.method, regions=regions, draws=args.draws, seed=args.seed, out=args.out,
            progress=not args.quiet and watched(), **design,
        )  # fmt: skip
    found.save(args.out)
    if not args.quiet:
        print(f"{found.report()}\n\nsummary.json, ranks.nc and calibration.png are in {args.out}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": run_demo,
    "fetch": run_fetch,
    "simulate": run_simulate,
    "fit": run_fit,
    "evaluate": run_evaluate,
    "cv": run_cv,
    "compare": run_compare,
    "calibrate": run_calibrate,
    "aggregate": run_aggregate,
}
