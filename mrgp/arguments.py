"""What may be typed after ``mrgp``: commands, options, their bounds and their help. Imports nothing heavy."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

MISUSED = 2   # the exit code of wrong use

ABOUT = """Which way do signals flow between brain areas, and how late do they arrive?

mrgp explains recordings of several areas by a few smooth latent signals: some shared
between areas, each with a delay per area, some private to one area. A positive delay
means that an area lags the first area of the recording."""

EXAMPLES = """examples:
  mrgp demo                             a small simulated recording, fitted in under a minute
  mrgp fetch v1v2 --out v1v2.npz        a public recording of V1 and V2
  mrgp fit v1v2.npz --n-across 3 --n-within 17,1 --max-delay 0.3 --out results

`mrgp COMMAND --help` explains each command."""

FILES = """FILE is one of
  .npz  one array (trials, bins, neurons) per region, by its name, and bin_width in
        seconds; NaN = missing
  .nc   as `mrgp simulate` writes it
  .mat  of the DLAG toolbox (seqTrue, binWidth in ms, yDims)

DIR receives summary.json, fit.nc (for mrgp.load_fit) and figures. A run that is stopped
keeps DIR/fit.checkpoint.npz, and the same command goes on from there."""

KERNELS = {
    "squared_exponential": "SquaredExponential",
    "matern12": "Matern12",
    "matern32": "Matern32",
    "matern52": "Matern52",
    "rational_quadratic": "RationalQuadratic",
    "spectral": "Spectral",
}
"""Kernels by the name they have on the command line."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and where help is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"mrgp: {message} (see {self.prog} --help)\n")


def _number(text: str, convert: Callable[[str], Any], least: float, what: str) -> Any:
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not least <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


count = partial(_number, convert=int, least=0, what="a whole number, 0 or more")
positive_count = partial(_number, convert=int, least=1, what="a whole number, 1 or more")
positive = partial(_number, convert=float, least=sys.float_info.min, what="a positive number")


def counts(text: str) -> int | tuple[int, ...]:
    """One number for all regions, or one per region: ``1`` or ``17,1``."""
    numbers = tuple(count(part) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def sizes(text: str) -> tuple[int, ...]:
    """Numbers of neurons, ``72,22``."""
    return tuple(positive_count(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    found = tuple(part.strip() for part in text.split(","))
    if "" in found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names such as V1,V2")
    return found


def build_parser() -> Parser:
    """The whole command line; ``args.command`` names the command."""
    parser = Parser(prog="mrgp", description=ABOUT, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_fetch(commands)
    _add_simulate(commands)
    _add_fit(commands)
    return parser


def _add_demo(commands: Any) -> None:
    about = "Simulate a recording of V1 and V2 whose delays are known, fit DLAG to it, and compare."
    demo = commands.add_parser("demo", help="simulate a small recording, fit it, show its delays", description=about)
    add = demo.add_argument
    add("--out", type=Path, default=Path("mrgp-demo"), metavar="DIR", help="folder for results (%(default)s)")
    add("--seed", type=count, default=0, help="of the simulation and the fit (%(default)s)")
    add("--no-figures", action="store_true", help="draw no figures")


def _add_fetch(commands: Any) -> None:
    about = "Download a public recording, check that it is the right one, and keep it in the cache folder."
    fetch = commands.add_parser("fetch", help="download a public recording", description=about)
    fetch.add_argument("name", choices=["v1v2"], help="v1v2: V1 (72 neurons) and V2 (22), 400 trials of 1.28 s")
    fetch.add_argument("--out", type=Path, metavar="FILE", help="also write it here: a path ending in .npz or .nc")


def _add_simulate(commands: Any) -> None:
    about = "Draw a recording exactly from a model with delays; the truth goes beside it, into NAME_truth.nc."
    simulate = commands.add_parser("simulate", help="make a recording with known delays", description=about)
    add = simulate.add_argument
    add("scenario", nargs="?", metavar="SCENARIO", help="one of those that --list shows")
    add("--list", action="store_true", help="show the scenarios")
    add("--out", type=Path, metavar="FILE", help="the recording: a path ending in .npz or .nc")
    add("--seed", type=count, default=0, help="another seed, another recording (%(default)s)")
    add("--n-trials", type=positive_count, metavar="N", help="instead of the scenario's")
    add("--n-bins", type=positive_count, metavar="N", help="bins per trial, instead of the scenario's")


def _add_fit(commands: Any) -> None:
    about = "Fit a model to a recording: latent signals, their timescales, and the delays between regions."
    fit = commands.add_parser("fit", help="fit a model to a recording", description=about, epilog=FILES)
    fit.add_argument("file", type=Path, metavar="FILE", help="the recording, see below")
    fit.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results, see below")

    add = fit.add_argument_group("model").add_argument
    text = "dlag: latents across regions, with delays, and within; gpfa: one population, no delays (%(default)s)"
    add("--model", choices=["dlag", "gpfa"], default="dlag", help=text)
    add("--n-across", type=count, required=True, metavar="K", help="latents that all regions share")
    text = "latents private to a region: one number for all, or one per region; dlag needs it"
    add("--n-within", type=counts, metavar="W[,W..]", help=text)
    text = "longest delay considered (5 bins); widened by itself if a delay comes close"
    add("--max-delay", type=positive, metavar="SECONDS", help=text)
    text = f"how smooth latents are, or whether they are rhythms: {', '.join(KERNELS)} (%(default)s)"
    add("--kernel", choices=KERNELS, default="squared_exponential", metavar="NAME", help=text)
    text = "markov: fast; dense: exact, for short trials; spectral: takes a trial for a circle (%(default)s)"
    add("--likelihood", choices=["markov", "dense", "spectral"], default="markov", help=text)
    text = "white share of every latent's variance, between 0 and 1 (%(default)s)"
    add("--gp-noise", type=positive, default=1e-3, metavar="SHARE", help=text)
    text = "states per latent of the markov likelihood: more are closer to the kernel (%(default)s)"
    add("--order", type=int, choices=range(2, 7), default=6, help=text)

    add = fit.add_argument_group("recording").add_argument
    add("--bin-width", type=positive, metavar="SECONDS", help="instead of what the file says")
    add("--regions", type=names, metavar="A,B", help="these regions; delays are measured from the first")
    add("--n-neurons", type=sizes, metavar="N,N", help="per region, for a .mat file that does not say it")
    add("--drop-dead", action="store_true", help="leave out neurons that never change")

    add = fit.add_argument_group("run").add_argument
    add("--seed", type=count, default=0, help="of the search for a start (%(default)s)")
    add("--n-starts", type=positive_count, default=6, metavar="N", help="starts to try (%(default)s)")
    text = "done when the last few iterations together gained less than this (%(default)s)"
    add("--tolerance", type=positive, default=0.01, metavar="NATS", help=text)
    add("--max-iterations", type=positive_count, default=1000, metavar="N", help="at most (%(default)s)")
    add("--no-figures", action="store_true", help="draw no figures")
    add("--no-intervals", action="store_true", help="leave out the intervals of the delays")
    add("--quiet", action="store_true", help="print nothing but notes and errors")
