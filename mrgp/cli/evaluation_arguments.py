"""The commands that judge fits, and how they and ``mrgp fit`` agree on test trials. Imports nothing heavy."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrgp.cli.catalogue import AGGREGATED, EVALUATED, Parser, count, flag, positive_count, share, trials


def divided_twice(args: argparse.Namespace) -> str | None:
    """Options that name the test trials in two ways, in a sentence; None where there is one at most."""
    ways = [name for name in ("test_trials", "split_seed", "train") if getattr(args, name, None) is not None]
    if len(ways) > 1:
        return f"{' and '.join(map(flag, ways))} each say which trials are for the test: leave all but one out"
    return None


def add_division(command: Parser, about: str) -> None:
    """Options that name test trials; ``about`` says what becomes of them."""
    add = command.add_argument_group("test trials").add_argument
    add("--test-trials", type=trials, metavar="START:STOP", help=f"{about}, by position: 300:400")
    text = "divide trials at random, three of four for the fit, one of eight for the test; the same seed, the same ones"
    add("--split-seed", type=count, metavar="S", help=text)


def add_evaluate(commands: Any, add_recording: Callable[[Parser], None]) -> None:
    """The command ``mrgp evaluate``; ``add_recording`` adds the options on how a recording is read."""
    about = """How well does a fit predict neurons and regions that it is not shown, beside baselines that need
no latents? How much variance do its latents explain, and which way do signals flow?"""
    evaluate = commands.add_parser(
        "evaluate", help="score a fit on trials it has not seen", description=about, epilog=EVALUATED
    )
    evaluate.set_defaults(parser=evaluate)
    add = evaluate.add_argument
    add("fit", type=Path, metavar="FIT.nc", help="as mrgp fit wrote it")
    add("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for results, see below")
    text = "share of each region's neurons held out, between 0 and 1 (%(default)s)"
    add("--held-out", type=share, default=0.2, metavar="SHARE", help=text)
    text = "sets of held-out neurons to average over (%(default)s)"
    add("--masks", type=positive_count, default=3, metavar="N", help=text)
    add("--seed", type=count, default=0, help="of the first set of held-out neurons (%(default)s)")
    text = "a label of the trials, such as the stimulus: PSTHs are those of each of its values"
    add("--condition", metavar="NAME", help=text)
    add("--truth", type=Path, metavar="FILE_truth.nc", help="of a simulation: report errors against it")
    add("--quiet", action="store_true", help="print nothing but notes and errors")
    add_recording(evaluate)
    add_division(evaluate, "score these trials; all others made the fit")
    text = "a recording of the trials that the fit was made from; FILE then holds the test alone"
    add("--train", type=Path, metavar="FILE", help=text)


def add_aggregate(commands: Any) -> None:
    """The command ``mrgp aggregate``."""
    about = "One table and one figure of many runs."
    aggregate = commands.add_parser(
        "aggregate", help="gather runs into one table", description=about, epilog=AGGREGATED
    )
    aggregate.set_defaults(parser=aggregate)
    add = aggregate.add_argument
    add("folders", type=Path, nargs="+", metavar="DIR", help="folders of runs, see below")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the table and the figure")
    add("--means", action="store_true", help="one row for all runs in a DIR: their mean and standard deviation")
    add("--quiet", action="store_true", help="print nothing but notes and errors")
