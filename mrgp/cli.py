"""The command ``mrgp``: what a person types at a shell, and what comes back.

Exit codes: 0 done, 1 failed (a recording, a folder or the run itself), 2 wrong use. A user's mistake gets one
sentence on stderr that begins with ``mrgp:``. Every command imports what it needs once its arguments are understood.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.arguments import KERNELS, MEANT_FOR, MISUSED, NEEDS_WITHIN, parse

if TYPE_CHECKING:
    import xarray as xr

    from mrgp import Fit, MultiRegionData
    from mrgp.preset import Preset

DONE, FAILED = 0, 1
RECORDING = ("bin_width", "regions", "n_neurons", "drop_dead")   # options on how a file is read
LONG_BIN = 1.0   # s: a bin width above it was more likely meant in milliseconds


class Misuse(Exception):
    """The command line asks for something that cannot be."""


class Failure(Exception):
    """The command was understood, but could not be carried out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    try:
        args = parse(argv)
    except SystemExit as stop:   # the parser has said why
        return stop.code if isinstance(stop.code, int) else FAILED
    from mrgp.checks import DataError

    try:
        with _notes():
            COMMANDS[args.command](args)
        return DONE
    except Misuse as error:
        code, sentence = MISUSED, str(error)
    except KeyboardInterrupt:
        code, sentence = FAILED, "interrupted"
    except (Failure, DataError, OSError, FloatingPointError) as error:
        code, sentence = FAILED, str(error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):   # JAX's want of memory
            raise
        code, sentence = FAILED, "out of memory: take fewer latents, trials or bins, or the markov likelihood"
    print(f"mrgp: {' '.join(sentence.split())}", file=sys.stderr)
    return code


@contextmanager
def _notes() -> Iterator[None]:
    """Print every warning meant for users as one line, once; those of libraries to programmers not at all."""
    told = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if category is UserWarning and text not in told and not text.endswith(": interrupted"):
            told.add(text)
            print(f"mrgp: note: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


# --- commands


def run_demo(args: argparse.Namespace) -> None:
    """Simulate, fit, compare."""
    from mrgp.models import DLAG
    from mrgp.report import matched_delays
    from mrgp.scenarios import simulate_scenario

    _make_folder(args.out)
    recording = simulate_scenario("demo", seed=args.seed)
    print(f"{recording.data}\nfitting DLAG ...", flush=True)
    fit = DLAG(n_across=2, n_within=1, max_delay=0.1).fit(recording.data, seed=args.seed, progress=_watched())
    _finish(fit, args.out, truth=matched_delays(fit, recording.truth), figures=not args.no_figures)


def run_fetch(args: argparse.Namespace) -> None:
    """Download, or find in the cache."""
    import mrgp

    if args.out is not None:
        _check_suffix(args.out)
    data = mrgp.fetch_v1v2()
    print(f"{data}\nkept as {mrgp.runtime.cache_folder() / 'v1v2.npz'}")
    if args.out is not None:
        mrgp.save_recording(data, args.out)
        print(f"written to {args.out}")


def run_simulate(args: argparse.Namespace) -> None:
    """A scenario's recording and its truth."""
    import mrgp
    from mrgp.io import write_atomically
    from mrgp.scenarios import SCENARIOS, simulate_scenario

    if args.list:
        print(*SCENARIOS, sep="\n")
        return
    if args.scenario is None or args.out is None:
        raise Misuse("simulate needs SCENARIO and --out FILE (`mrgp simulate --list` shows the scenarios)")
    _check_suffix(args.out)
    changed = {name: value for name in ("n_trials", "n_bins") if (value := getattr(args, name)) is not None}
    try:
        recording = simulate_scenario(args.scenario, seed=args.seed, **changed)
    except ValueError as error:
        raise Misuse(str(error)) from error
    truth = args.out.with_name(f"{args.out.stem}_truth.nc")
    mrgp.save_recording(recording.data, args.out)
    write_atomically(truth, partial(recording.truth.to_netcdf, engine="h5netcdf"))
    print(f"{recording.data}\nwritten to {args.out}, its truth to {truth}")


def run_fit(args: argparse.Namespace) -> None:
    """Load, fit, write; a run that is stopped can be resumed."""
    import numpy as np

    import mrgp

    data = mrgp.load_recording(args.file, **{name: getattr(args, name) for name in RECORDING})
    model = _model(args, data)
    fixed = dict(args.fixed)
    try:
        model.checked(fixed, data)
    except ValueError as error:
        raise Misuse(f"--fixed: {error}") from error
    start = None if args.start is None else mrgp.load_fit(args.start)
    _make_folder(args.out)
    checkpoint = args.out / "fit.checkpoint.npz"
    progress = not args.quiet and _watched()
    if not args.quiet:
        print(f"{data}\n{f'going on from {checkpoint}' if checkpoint.is_file() else 'fitting'} ...", flush=True)
    settings = _given(args, ("method", "seed", "n_starts", "tolerance", "max_iterations"))
    fit = None
    try:
        fit = model.fit(data, start=start, fixed=fixed, checkpoint=checkpoint, progress=progress, **settings)
    except KeyboardInterrupt:
        pass
    except np.linalg.LinAlgError as error:
        raise Failure(f"the numbers of {args.file.name} are too large or too small: check its units") from error
    except ValueError as error:
        raise Failure(str(error)) from error
    if checkpoint.is_file():   # a fit that comes to its end removes it
        raise Failure(f"interrupted: {checkpoint} keeps what was reached, the same command goes on from there")
    if fit is None:
        raise Failure("interrupted before there was anything to keep: the same command starts again")
    _finish(fit, args.out, intervals=not args.no_intervals, figures=not args.no_figures, quiet=args.quiet)


def run_compare(args: argparse.Namespace) -> None:
    """Fit every hypothesis, weigh them, write."""
    import mrgp

    data = mrgp.load_recording(args.file, **{name: getattr(args, name) for name in RECORDING})
    _make_folder(args.out)
    chosen = _given(args, ("max_delay", "timescale_bounds", "rope"))
    if args.kernel is not None:
        chosen["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    latents = {"n_across": args.n_across, "n_within": args.n_within}
    progress = not args.quiet and _watched()
    if not args.quiet:
        print(f"{data}\ncomparing {', '.join(args.hypotheses)} ...", flush=True)
    try:
        found = mrgp.compare_delays(
            data, args.hypotheses, **latents, probability=args.probability, seed=args.seed, progress=progress, **chosen
        )
    except ValueError as error:
        raise Misuse(str(error)) from error
    found.save(args.out)
    if not args.quiet:
        shown = found.table[["probability", "log_evidence", "elpd_diff", "dse"]].round(3).to_string()
        print(f"{shown}\n\n{found.verdict}\n\nsummary.json, comparison.png and the fits are in {args.out}")


def run_calibrate(args: argparse.Namespace) -> None:
    """Simulate and fit again and again; a run that is stopped goes on."""
    from mrgp.calibrate import calibrate
    from mrgp.calibration import FILE
    from mrgp.checks import DataError
    from mrgp.data import Layout, stand_in

    regions = {f"V{i + 1}": size for i, size in enumerate(args.neurons)}
    if args.n_within is None and args.model in NEEDS_WITHIN:
        args.n_within = 1
    try:
        model = _model(args, stand_in(Layout(tuple(regions), args.neurons, args.bin_width), 1, args.bins))
    except DataError as error:
        raise Misuse(f"{error} (--neurons N,N)") from error
    _make_folder(args.out)
    place = args.out / FILE
    if not args.quiet:
        print(f"{f'going on from {place}' if place.is_file() else 'simulating and fitting'} ...", flush=True)
    design = {"n_trials": args.trials, "n_bins": args.bins, "bin_width": args.bin_width, "snr": args.snr}
    try:
        found = calibrate(
            model, args.n, method=args.method, regions=regions, draws=args.draws, seed=args.seed, out=args.out,
            progress=not args.quiet and _watched(), **design,
        )  # fmt: skip
    except KeyboardInterrupt as error:
        kept = f"{place} keeps what was done, the same command goes on from there"
        raise Failure(f"interrupted: {kept if place.is_file() else 'nothing was done yet'}") from error
    except ValueError as error:
        raise Failure(str(error)) from error
    found.save(args.out)
    if not args.quiet:
        print(f"{found.report()}\n\nsummary.json, ranks.nc and calibration.png are in {args.out}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": run_demo,
    "fetch": run_fetch,
    "simulate": run_simulate,
    "fit": run_fit,
    "compare": run_compare,
    "calibrate": run_calibrate,
}


# --- steps


def _watched() -> bool:
    """Whether a person sees progress bars: in a log file they are noise."""
    return sys.stderr.isatty()


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".npz", ".nc"):
        raise Misuse(f"cannot write {path.name}: give --out a path that ends in .npz or .nc")


def _given(args: argparse.Namespace, options: Iterable[str]) -> dict[str, Any]:
    """Options that were typed; the library has the defaults of all others."""
    return {name: value for name in options if (value := getattr(args, name)) is not None}


def _make_folder(folder: Path) -> None:
    """Find out now, and not after the fit, that results cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Failure(f"cannot write into folder {folder} ({error.strerror}): choose another --out") from error


def _model(args: argparse.Namespace, data: "MultiRegionData") -> "Preset":
    """The model that the arguments describe, if it suits the recording."""
    import mrgp

    seconds = data.n_bins * data.bin_width
    if args.max_delay is not None and args.max_delay >= seconds:
        wrong = f"--max-delay {args.max_delay:g} is not shorter than the trials, {seconds:g} s"
        raise Misuse(f"{wrong}: give it in seconds, 0.1 for 100 ms")
    if data.bin_width > LONG_BIN:
        warnings.warn(f"bins of {data.bin_width:g} s: is that right? bin_width is in seconds", stacklevel=2)
    chosen = _given(args, ("n_across", *MEANT_FOR))
    if "kernel" in chosen:
        chosen["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    if "start_state" in chosen:
        chosen["start"] = chosen.pop("start_state")
    preset = getattr(mrgp.models, args.model.upper())
    try:
        model = preset(**chosen)
        data.require(model.regions_needed, preset.__name__)
        assignment = model.assignment(data.layout)
        if (objection := model.objection(args.method or model.methods[0], data)) is not None:
            raise ValueError(f"{preset.__name__}: {objection}")
    except mrgp.DataError:
        raise
    except ValueError as error:
        raise Misuse(str(error)) from error
    latents, neurons = assignment.n_across + sum(assignment.n_within), data.layout.total_neurons
    if latents > neurons:
        raise Misuse(f"{latents} latents for {neurons} neurons: lower --n-across or --n-within")
    return model


def _finish(
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
    from mrgp.report import PROBABILITY, table, write_results

    total = write_results(fit, folder)["log_likelihood"]
    bounds = None
    try:
        if intervals and fit.has_delays:
            shown = not quiet and _watched()
            bounds = fit.delay_intervals(PROBABILITY, progress=shown, over_time=True)
            write_results(fit, folder, bounds)
            if not fit.curvature().positive:
                warnings.warn("the recording does not determine every delay: distrust wide intervals", stacklevel=2)
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
