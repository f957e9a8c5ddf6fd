"""``mrgp fit``: fit a model to a recording, and write what was found."""

import argparse
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from mrgp.cli.argument_types import count, counts, flag
from mrgp.cli.catalogue import FORMATS, MEANT_FOR, NEEDS_WITHIN, OF_METHODS
from mrgp.cli.model_options import listed, meant_for
from mrgp.cli.shared import Failure, Misuse, build_model, finish, given, load, make_folder, preprocessing, said, watched
from mrgp.cli.shared_arguments import (
    add_division,
    add_method,
    add_model,
    add_out,
    add_quiet,
    add_recording,
    add_run,
    add_training,
    divided_twice,
    miscounted,
    misplaced,
    unset,
    unsuited,
)
from mrgp.runtime.sentences import joined

LINE = 84  # letters of a line of the help, as wide as the rest of it
KNOWN = "\n".join(fill(f"  {suffix:<6}{about}", LINE, subsequent_indent=8 * " ") for suffix, about in FORMATS.items())
FILES = f"""FILE is one of
{KNOWN}

DIR receives summary.json, fit.nc (for mrgp.load_fit) and figures. A run that is stopped
keeps DIR/fit.checkpoint.npz, and the same command goes on from there."""


def add_fit(commands: Any) -> None:
    """Add the command."""
    about = "Fit a model to a recording: latent signals, their timescales, and the delays between regions."
    fit = commands.add_parser("fit", help="fit a model to a recording", description=about, epilog=FILES)
    fit.set_defaults(parser=fit, checks=(contradiction, miscounted))
    fit.add_argument("file", type=Path, metavar="FILE", help="the recording, see below")
    add_out(fit)
    add_recording(fit)

    add = add_model(fit)
    text = f"latents that all regions share; needed by {meant_for('n_across')}"
    add("--n-across", type=count, metavar="K", help=text)
    may = joined([model for model in MEANT_FOR["n_within"] if model not in NEEDS_WITHIN], "and")
    text = "latents private to a region: one number for all, or one per region; "
    add("--n-within", type=counts, metavar="W[,W..]", help=f"{text}{listed(NEEDS_WITHIN)} need it, {may} may")
    add = add_method(fit)
    add_training(add)

    add_division(fit, "keep these trials from the fit, for mrgp evaluate")
    add = add_run(fit)
    text = "go on from a fit saved before, instead of a search: of this model, or dlag for adm"
    add("--start", type=Path, metavar="FIT.nc", help=text)
    add("--no-figures", action="store_true", help="draw no figures")
    add("--no-intervals", action="store_true", help="leave out the intervals of the delays")
    add_quiet(add)


def contradiction(args: argparse.Namespace) -> str | None:
    """Refuse options that contradict each other: a sentence, or None."""
    model = args.model
    if (wrong := misplaced(args) or divided_twice(args)) is not None:
        return wrong
    if model in MEANT_FOR["n_across"] and args.n_across is None:
        return f"the following arguments are required: {flag('n_across')}"
    if model in NEEDS_WITHIN and args.n_within is None:
        return f"{model} needs --n-within, the latents private to each region: such as 2, or 17,1, or 0 for none"
    return unsuited(args) or unset(args)


def run_fit(args: argparse.Namespace) -> None:
    """Load, fit, write; a run that is stopped can be resumed."""
    import numpy as np

    import mrgp
    from mrgp.families.model import held_at

    data = load(args)
    start = None
    if args.start is not None:
        start = mrgp.load_fit(args.start)
        args.record.add_file(args.start)
    model = build_model(args, data)
    fixed = dict(args.fixed)
    try:
        held_at(model, fixed, data)
    except ValueError as error:
        raise Misuse(said(error)) from error
    make_folder(args)
    checkpoint = args.out / "fit.checkpoint.npz"
    progress = not args.quiet and watched()
    if not args.quiet:
        print(f"{data}\n{f'going on from {checkpoint}' if checkpoint.is_file() else 'fitting'} ...", flush=True)
    settings = given(args, ("method", "seed", "n_starts", "tolerance", "max_iterations", *OF_METHODS))
    fit = None
    try:
        fit = model.fit(data, start=start, fixed=fixed, checkpoint=checkpoint, progress=progress, **settings)
    except KeyboardInterrupt:
        pass
    except np.linalg.LinAlgError as error:
        raise Failure(f"the numbers of {args.file.name} are too large or too small: check its units") from error
    except ValueError as error:
        raise Failure(said(error)) from error
    if checkpoint.is_file():  # a fit that comes to its end removes it
        raise Failure(f"interrupted: {checkpoint} keeps what was reached, the same command goes on from there")
    if fit is None:
        raise Failure("interrupted before there was anything to keep: the same command starts again")
    shown = {"intervals": not args.no_intervals, "figures": not args.no_figures, "quiet": args.quiet}
    finish(replace(fit, preprocessing=preprocessing(args)), args.out, **shown)
