"""The vocabulary of the command line: models, methods, which option is for which, and how values are read.

Imports nothing heavy.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
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
  .mat  of the DLAG, mDLAG and pCCA toolboxes (seqTrue or Ytrain, binWidth in ms,
        yDims), or arrays as in an .npz
  .nwb  sorted units and trials, counted in bins of --bin-width (needs pynwb)

DIR receives summary.json, fit.nc (for mrgp.load_fit) and figures. A run that is stopped
keeps DIR/fit.checkpoint.npz, and the same command goes on from there."""

PREPROCESSING = """in this order; kept in summary.json and fit.nc, from where evaluate takes it;
log-likelihoods before and after do not compare"""

COUNTING = ("window", "align", "trials", "region_of_unit")   # options on how spikes are counted

TRANSFORMS = ("sqrt", "anscombe")

COMPARED = """DIR receives summary.json, comparison.png and fit_HYPOTHESIS.nc each (for mrgp.load_fit).
none: no delays; constant: delays that stay (DLAG); varying: delays that move in a trial (ADM)"""

EVALUATED = """DIR receives summary.json, evaluation.nc (all tables, one group each) and figures.

Of FILE the neurons are taken that the fit knows, silent or not.
A test is one only on trials that the fit was not made from. Name them to both commands:
  mrgp fit FILE --split-seed 0 ... --out DIR
  mrgp evaluate DIR/fit.nc FILE --split-seed 0 --out DIR/test
Without --test-trials, --split-seed or --train, all trials of FILE are scored and the
baselines are made from them too; the report says what the fit has seen of them."""

AGGREGATED = """Each DIR holds the summary.json of a run of mrgp fit, evaluate or compare, or folders that do.
The folder of --out receives aggregate.csv, one row per run, method and region, and aggregate.png.

example, for runs such as RUNS/dlag/split0 and RUNS/dlag/split1:
  mrgp aggregate RUNS/* --means --out TABLE"""

CROSS_VALIDATED = """DIR receives tasks.json, which grows with every fit, and in the end summary.json, scores.csv,
scores.nc and cv.png. The same command goes on where it was stopped, also with more candidates.

examples:
  mrgp cv FILE --model dlag --n-across 0,1,2,3 --n-within 1,2 --folds 4 --workers 2 --out DIR
  mrgp cv FILE --model dlag --search --out DIR
  mrgp cv FILE --model gpfa --n-across 2,4,6,8 --out DIR"""

HYPOTHESES = ("none", "constant", "varying")

MODELS = """dlag    latents across regions, each with a constant delay per region, and within regions
adm     the same with delays that vary during the trial
mdlag   as dlag, and finds out which regions read which latent
gpfa    one population of smooth latents, no delays
lds     one population whose latents drive each other, no delays
fa      one population of white latents
pcca    white latents across and within regions
gfa     as pcca, and finds out which regions read which latent"""

KERNELS = {
    "squared_exponential": "SquaredExponential",
    "matern12": "Matern12",
    "matern32": "Matern32",
    "matern52": "Matern52",
    "rational_quadratic": "RationalQuadratic",
    "spectral": "Spectral",
}
"""Kernels by the name they have on the command line."""

POSTERIOR = ("laplace", "svi", "nuts")
METHODS = {
    "dlag": ("map", *POSTERIOR),
    "adm": ("map", *POSTERIOR),
    "mdlag": ("vb", "map", *POSTERIOR),
    "gpfa": ("map", *POSTERIOR),
    "lds": ("map", "em"),
    "fa": ("map",),
    "pcca": ("map",),
    "gfa": ("vb", "map"),
}
"""Models, and how each can be fitted, its default first."""

NEEDS_WITHIN = ("dlag", "adm", "pcca")   # models in which private latents are part of the question

COUNTED = ("poisson", "negative_binomial")
EMISSIONS = ("gaussian", *COUNTED)

CALIBRATED = ("dlag", "gpfa")   # models whose delays and kernel parameters can be drawn from their priors
DELAYED = ("dlag", "adm", "mdlag")
SMOOTH = ("dlag", "adm", "mdlag", "gpfa")   # latents have a kernel with a timescale
MEANT_FOR = {
    "n_within": (*NEEDS_WITHIN, "mdlag", "gfa"),
    "mean": tuple(METHODS),
    "mean_timescale": tuple(METHODS),
    "noise": SMOOTH,
    "max_delay": DELAYED,
    "hold_max_delay": DELAYED,
    "kernel": SMOOTH,
    "timescale_bounds": SMOOTH,
    "likelihood": SMOOTH,
    "gp_noise": SMOOTH,
    "emission": SMOOTH,
    "order": SMOOTH,
    "lift": ("dlag", "mdlag", "gpfa"),   # an autoregression has no delays that vary
    "delay_timescale": ("adm",),
    "typical_spread": ("adm",),
    "shape": ("mdlag", "gfa"),
    "rate": ("mdlag", "gfa"),
    "start_state": ("lds",),
}
"""Options that are for some models only."""

CONJUGATE = {"loadings", "noise", "offset", "alpha"}   # sites of which method vb has distributions

FLAGS = {
    "shape": "--relevance-shape", "rate": "--relevance-rate", "remove_condition_mean": "--remove-mean",
    "n_folds": "--folds",
}  # fmt: skip
"""Options whose name is not that of the argument they are for."""

ORDERS = (2, 6)   # states of one latent in the markov likelihood, from and to


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


number = partial(_number, convert=float, least=-sys.float_info.max, what="a number")


def counts(text: str) -> int | tuple[int, ...]:
    """One number for all regions, or one per region: ``1`` or ``17,1``."""
    numbers = tuple(count(part) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def numbers(text: str) -> tuple[int, ...]:
    """Different numbers to try, ``0,1,2``."""
    found = tuple(count(part) for part in text.split(","))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
    return found


def widths(text: str) -> tuple[int | tuple[int, ...], ...]:
    """Numbers of private latents to try, each for all regions or for one after the other: ``1,2`` or ``16/1,17/1``."""
    found = tuple(counts(part.replace("/", ",")) for part in text.split(","))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} has a candidate twice")
    return found


def sizes(text: str) -> tuple[int, ...]:
    """Numbers of neurons, ``72,22``."""
    return tuple(positive_count(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    found = tuple(part.strip() for part in text.split(","))
    if "" in found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names such as V1,V2")
    return found


def hypotheses(text: str) -> tuple[str, ...]:
    """Some of the hypotheses known by name, two at least."""
    found = names(text)
    if len(found) < 2 or not set(found) <= set(HYPOTHESES):
        raise argparse.ArgumentTypeError(f"{text!r} is not two or more of {','.join(HYPOTHESES)}")
    return found


def share(text: str) -> float:
    """A probability, above 0 and below 1."""
    value = _number(text, float, 0.0, "a probability between 0 and 1")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return value


def bounds(text: str) -> tuple[float, float]:
    """Shortest and longest, ``0.01,1``."""
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two positive numbers LOW,HIGH such as 0.01,1")
    low, high = (positive(part) for part in parts)
    if low >= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH: the first is not below the second")
    return low, high


def trials(text: str) -> slice:
    """Trials from one position up to another, which is not among them: ``300:400``, ``:50``, ``350:``."""
    start, colon, stop = text.partition(":")
    ends = [count(part) if part else None for part in (start, stop)]
    if not colon or ends == [None, None] or (None not in ends and ends[0] >= ends[1]):   # type: ignore[operator]
        raise argparse.ArgumentTypeError(f"{text!r} is not START:STOP, trials by position such as 300:400")
    return slice(*ends)


def site(text: str) -> tuple[str, float]:
    """A parameter and its value, ``delay=0``."""
    name, sign, value = text.partition("=")
    if not (name.strip() and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not SITE=VALUE such as delay=0")
    return name.strip(), number(value)


def flag(option: str) -> str:
    """How an option is typed."""
    return FLAGS.get(option, f"--{option.replace('_', '-')}")


def typed(argument: Any) -> str:
    """How an argument that a sentence speaks of (:class:`mrgp.runtime.sentences.Argument`) is typed."""
    value = argument.value
    if argument.shell:
        return argument.shell
    if value is None or value is True:
        return flag(argument.name)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag(argument.name)} {text}"
