"""``mrgp compare``: fit and weigh hypotheses on delays."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.cli.argument_types import bounds, count, counts, hypotheses, positive, positive_count, share
from mrgp.cli.catalogue import DEFAULTS, HYPOTHESES, KERNELS
from mrgp.cli.model_options import MODEL_OPTIONS, add_choices, listed, meant_for
from mrgp.cli.shared import (
    Failure,
    Misuse,
    check_latents,
    check_seconds,
    given,
    load,
    make_folder,
    preprocessing,
    said,
    watched,
)
from mrgp.cli.shared_arguments import add_out, add_quiet, add_recording, alone, miscounted

if TYPE_CHECKING:
    from mrgp import MultiRegionData

COMPARED = """DIR receives summary.json, comparison.png and fit_HYPOTHESIS.nc each (for mrgp.load_fit).
none: no delays; constant: delays that stay (DLAG); varying: delays that move in a trial (ADM)

A line tells of every part of the work as it is done. A fit is written as soon as it is there: the
same command, after it was stopped, takes the fits that it finds in DIR. For 80 trials of 50 bins
and 30 neurons all three take some three minutes of one core, most of it the fits; --draws 1000
takes minutes more for each."""
SHARED = ("mean", "mean_timescale", "noise", "emission")  # options of models that mean what they mean to a fit
WORDS = {option: MODEL_OPTIONS[option]["help"].removeprefix(f"{meant_for(option)}: ") for option in SHARED}
WORDS["emission"] = f"values with Gaussian noise, or spike counts ({DEFAULTS['emission']})"


def add_compare(commands: Any) -> None:
    """Add the command."""
    about = "Is there a delay, which way, does it change, how sure are we? Fit every hypothesis and weigh them."
    compare = commands.add_parser("compare", help="compare hypotheses on delays", description=about, epilog=COMPARED)
    compare.set_defaults(parser=compare, checks=(alone, miscounted), model="dlag")
    add = compare.add_argument
    add("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add_out(compare)
    text = f"two or more of {listed(HYPOTHESES)} (all three)"
    add("--hypotheses", type=hypotheses, default=HYPOTHESES, metavar="A,B[,C]", help=text)
    add("--n-across", type=positive_count, required=True, metavar="K", help="latents that all regions share")
    text = "latents private to a region: one number for all, or one per region"
    add("--n-within", type=counts, required=True, metavar="W[,W..]", help=text)
    text = "longest delay considered (5 bins); the prior of delays is flat up to it"
    add("--max-delay", type=positive, metavar="SECONDS", help=text)
    add("--kernel", choices=KERNELS, metavar="NAME", help=f"{listed(KERNELS)} ({DEFAULTS['kernel']})")
    text = "shortest and longest timescale in seconds (none, but 0.1 s is typical)"
    add("--timescale-bounds", type=bounds, metavar="LOW,HIGH", help=text)
    add_choices(add, SHARED, WORDS)
    add("--rope", type=positive, metavar="SECONDS", help="a delay below it counts as none (half a bin)")
    add("--probability", type=share, default=0.9, metavar="P", help="of the intervals (%(default)s)")
    text = "predict unseen trials by so many posterior draws, in minutes (a Gaussian at the maximum; of counts, 1000)"
    add("--draws", type=positive_count, metavar="N", help=text)
    add("--seed", type=count, default=0, help="of starts and draws (%(default)s)")
    add_quiet(add)
    add_recording(compare)


def run_compare(args: argparse.Namespace) -> None:
    """Fit every hypothesis, weigh them, write."""
    import mrgp
    from mrgp.studies.compare.fitting import file_of

    data = load(args)
    choices = given(args, ("max_delay", "timescale_bounds", *SHARED))
    if args.kernel is not None:
        choices["kernel"] = getattr(mrgp, KERNELS[args.kernel])()
    check_compared(args, data, choices)
    make_folder(args)
    asked = {"n_across": args.n_across, "n_within": args.n_within, "probability": args.probability, "rope": args.rope}
    asked["n_draws"] = args.draws
    progress = not args.quiet and watched()
    if not args.quiet:
        print(f"{data}\ncomparing {', '.join(args.hypotheses)} ...", flush=True)
    try:
        result = mrgp.compare_delays(
            data, args.hypotheses, seed=args.seed, progress=progress, out=args.out, tell=None if args.quiet else told,
            **asked, **choices,
        )  # fmt: skip
    except KeyboardInterrupt as error:
        kept = any(file_of(args.out, name).is_file() for name in args.hypotheses)
        done = f"{args.out} keeps what was fitted, the same command goes on from there" if kept else "nothing was done"
        raise Failure(f"interrupted: {done}") from error
    except ValueError as error:
        raise Failure(said(error)) from error
    steps = preprocessing(args)
    fits = {name: replace(fit, preprocessing=steps) for name, fit in result.fits.items()}
    result = replace(result, fits=fits, settings=result.settings | {"preprocessing": steps})
    result.save(args.out)
    if not args.quiet:
        shown = result.table[["probability", "log_evidence", "elpd_diff", "dse"]].round(3).to_string()
        print(f"{shown}\n\n{result.verdict}\n\nsummary.json, comparison.png and the fits are in {args.out}")


def told(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def check_compared(args: argparse.Namespace, data: "MultiRegionData", choices: dict[str, Any]) -> None:
    """Refuse a recording on which hypotheses on delays cannot be compared.

    This happens before the first fit.
    """
    from mrgp.models import DLAG

    check_seconds(args, data)
    data.require(2, "a comparison of delays")
    try:
        check_latents(DLAG(args.n_across, args.n_within, **choices).assignment(data.layout))
    except ValueError as error:
        raise Misuse(said(error)) from error
