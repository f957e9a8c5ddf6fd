"""Options of several commands, and which of them contradict. Imports nothing heavy."""

import argparse
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mrgp.cli.argument_types import (
    Parser,
    count,
    flag,
    groups,
    names,
    number,
    positive,
    positive_count,
    site,
    sizes,
    trials,
    width,
)
from mrgp.cli.catalogue import (
    ALL_METHODS,
    CHOICES,
    COUNTED_FILES,
    DEFAULTS,
    FOLDERS,
    HOLD_NOTHING,
    INFERRED,
    MEANT_FOR,
    METHODS,
    OF_METHODS,
    ONLY_FOR,
    ORDERS,
    POSTERIOR,
    READING,
    READING_HELP,
    SETTINGS,
    TRANSFORMS,
    UNUSED,
)
from mrgp.cli.model_options import (
    MODEL_OPTIONS,
    about_models,
    add_choices,
    defaults_of,
    fitted_by,
    listed,
    meant_for,
)
from mrgp.runtime.folders import holds
from mrgp.runtime.sentences import joined

TYPES: dict[str, dict[str, Any]] = {
    "text": {}, "numbers": {"type": number, "nargs": 2}, "counts": {"type": sizes}, "groups": {"type": groups},
    "names": {"type": names}, "count": {"type": positive_count}, "positive": {"type": positive},
    "switch": {"action": "store_true", "default": None},
}  # fmt: skip
"""Values that options on reading take."""

PREPROCESSING = """in this order; kept in summary.json and fit.nc, from where evaluate takes it;
log-likelihoods before and after do not compare"""


# --- options


def add_out(command: Parser, text: str = "folder for results, see below") -> None:
    """Add ``--out``, the folder for results."""
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)


def add_quiet(add: Callable[..., Any]) -> None:
    """Add ``--quiet``."""
    add("--quiet", action="store_true", help="print nothing but notes and errors")


def add_division(command: Parser, about: str) -> None:
    """Add options that name test trials; ``about`` says what becomes of them."""
    add = command.add_argument_group("test trials").add_argument
    add("--test-trials", type=trials, metavar="START:STOP", help=f"{about}, by position: 300:400")
    text = "divide trials at random, three of four for the fit, one of eight for the test; the same seed, the same ones"
    add("--split-seed", type=count, metavar="S", help=text)


def add_run(command: Parser) -> Callable[..., Any]:
    """Add options on how long a fit runs; returns what adds others to their group."""
    add = command.add_argument_group("run").add_argument
    add("--seed", type=count, default=0, help="of all that is random (%(default)s)")
    add("--n-starts", type=positive_count, metavar="N", help=f"starts to try ({DEFAULTS['n_starts']})")
    text = f"done when the last few iterations together gained less than this ({DEFAULTS['tolerance']})"
    add("--tolerance", type=positive, metavar="NATS", help=text)
    text = "at most; epochs, of models with networks (%(default)s)"
    add("--max-iterations", type=positive_count, default=DEFAULTS["max_iterations"], metavar="N", help=text)
    return add


def add_recording(command: Parser) -> None:
    """Add options on how a recording is read and preprocessed."""
    add = command.add_argument_group("recording").add_argument
    text = f"instead of what the file says, or with a unit, 60s; {listed(COUNTED_FILES)}: needed"
    add("--bin-width", type=width, metavar="SECONDS", help=text)
    add("--regions", type=names, metavar="A,B", help="these regions; delays are measured from the first")
    for option in (name for name in READING if name not in ONLY_FOR):
        add_reading(add, option)
    add("--drop-dead", action="store_true", help="leave out neurons that never change in the trials that are fitted to")
    for option in ONLY_FOR:
        add_reading(add, option)

    add = command.add_argument_group("preprocessing", PREPROCESSING).add_argument
    add("--transform", choices=TRANSFORMS, help="root of counts, whose variance does not grow with their mean")
    add("--smooth", type=positive, metavar="SECONDS", help="Gaussian over time of this sd; correlates noise over bins")
    text = "take off the mean course over trials, of all or per value of a coordinate of the trials"
    add("--remove-mean", nargs="?", const=True, default=False, metavar="COORD", help=text)
    add("--zscore", action="store_true", help="mean 0 and variance 1 per neuron")


def add_reading(add: Callable[..., Any], option: str) -> None:
    """Add an option on how some files are read."""
    values, typed = READING[option]
    add(flag(option), help=READING_HELP[option], **TYPES[values] | ({"metavar": typed} if typed else {}))


def add_model(command: Parser, without: Collection[str] = ()) -> Callable[..., Any]:
    """Add the model and the options that describe it; returns what adds others to their group."""
    add = command.add_argument_group("model", about_models()).add_argument
    add("--model", choices=METHODS, default="dlag", metavar="NAME", help=f"{listed(METHODS)} (%(default)s)")
    add_choices(add, (option for option in MODEL_OPTIONS if option not in without))
    return add


def add_method(command: Parser) -> Callable[..., Any]:
    """Add the method and how it computes; returns what adds others to their group."""
    add = command.add_argument_group("method").add_argument
    text = f"map: most likely parameters; vb: variational Bayes, for {fitted_by('vb')} (their default); "
    text += f"em: for {fitted_by('em')}; posteriors of {fitted_by(POSTERIOR[0])}: {listed(POSTERIOR)}; amortised_svi: "
    text += f"networks and a guide that infers latents, for {fitted_by('amortised_svi')} (their only one); "
    text += f"variational_em: for {fitted_by('variational_em')} (its only one)"
    add("--method", choices=ALL_METHODS, help=text)
    text = "hold a parameter at a value in seconds or data units, such as delay=0; can be repeated"
    add("--fixed", type=site, action="append", default=[], metavar="SITE=VALUE", help=text)
    text = f"{meant_for('likelihood')}: markov: fast; dense: exact, short trials; spectral: independent frequencies "
    add("--likelihood", choices=CHOICES["likelihood"], help=text + f"({DEFAULTS['likelihood']})")
    text = f"{meant_for('lift')}: where delays enter the state space of the markov likelihood ({DEFAULTS['lift']})"
    add("--lift", choices=CHOICES["lift"], help=text)
    low, high = ORDERS[DEFAULTS["lift"]]
    text = f"states per latent of the markov likelihood, {low} to {high}: more are closer to the kernel "
    add("--order", type=positive_count, metavar="N", help=text + f"({defaults_of('order')}); with --lift ar, bins")
    return add


def add_training(add: Callable[..., Any]) -> None:
    """Add options on how methods of stochastic steps train."""
    text = f"{listed(OF_METHODS['batch_size'])}: trials of one step (all; amortised_svi: {DEFAULTS['batch_size']})"
    add("--batch-size", type=positive_count, metavar="N", help=text)
    text = f"{listed(OF_METHODS['warm_up'])}: epochs until the whole bound counts, fewer than --max-iterations "
    add("--warm-up", type=count, metavar="N", help=text + f"({DEFAULTS['warm_up']})")


# --- what cannot be meant together


def divided_twice(args: argparse.Namespace) -> str | None:
    """Refuse options that name the test trials in two ways: a sentence, or None."""
    ways = [name for name in ("test_trials", "split_seed", "train") if getattr(args, name, None) is not None]
    if len(ways) > 1:
        return f"{' and '.join(map(flag, ways))} each say which trials are for the test: leave all but one out"
    return None


def misplaced(args: argparse.Namespace) -> str | None:
    """Refuse an option that is not for the model: a sentence, or None."""
    model = args.model
    for option, models in MEANT_FOR.items():
        given = getattr(args, option)
        if given is None or model in models or (option == "n_within" and given == 0):
            continue
        if option == "n_within":
            return f"{model} has no latents private to a region: leave --n-within out"
        return f"{flag(option)} is not for {model}, but for {listed(models)}: leave it out"
    return None


def alone(args: argparse.Namespace) -> str | None:
    """Refuse a setting of a choice that is not made: a sentence, or None."""
    for setting, (choice, value) in SETTINGS.items():
        if setting in args and getattr(args, setting) is not None and getattr(args, choice) != value:
            return f"{flag(setting)} is of {flag(choice)} {value}: add it, or leave both out"
    return None


def unsuited(args: argparse.Namespace) -> str | None:
    """Refuse options of methods and runs that contradict each other: a sentence, or None."""
    model = args.model
    if (wrong := alone(args)) is not None:
        return wrong
    if args.method not in (None, *METHODS[model]):
        return f"--method {args.method} is not for {model}: it has {listed(METHODS[model])}"
    method, names = args.method or METHODS[model][0], [name for name, _ in args.fixed]
    if idle := [name for name in UNUSED.get(method, ()) if getattr(args, name) is not None]:
        return f"{flag(idle[0])} has no effect on --method {method}, which {model} is fitted by: leave it out"
    if method in HOLD_NOTHING and names:
        return f"--method {method} updates every parameter: for --fixed, take --method map"
    if inferred := sorted(set(INFERRED.get(method, ())) & set(names)):
        return f"--method {method} infers {listed(inferred)}: fix delays or timescales, or take --method map"
    if len(set(names)) < len(names):
        return f"--fixed gives {max(names, key=names.count)} two values"
    if args.start is not None and args.n_starts is not None:
        return "--n-starts is of the search for a start, which --start takes the place of: leave one out"
    low, high = ORDERS.get(args.lift or DEFAULTS["lift"], (1, math.inf))
    if args.order is not None and not low <= args.order <= high:
        return f"--order is {low} to {high}, not {args.order} (bins remembered, any number, with --lift ar)"
    return None


def unset(args: argparse.Namespace) -> str | None:
    """Refuse settings of another method: a sentence, or None."""
    method = args.method or METHODS[args.model][0]
    for setting, methods in OF_METHODS.items():
        if getattr(args, setting) is not None and method not in methods:
            return f"{flag(setting)} is of --method {' and '.join(methods)}, not of {method}: leave it out"
    warm_up = DEFAULTS["warm_up"] if args.warm_up is None else args.warm_up
    if method in OF_METHODS["warm_up"] and args.start is None and args.max_iterations <= warm_up:
        return f"--max-iterations {args.max_iterations} ends within the --warm-up of {warm_up}: change one of them"
    return None


def kind_of(path: Path) -> str:
    """Suffix of a file, or the name of what a folder is; "" of one that is nothing known here."""
    if path.is_dir():
        return next((kind for kind, marks in FOLDERS.items() if holds(path, marks)), "")
    return path.suffix.lower()


def miscounted(args: argparse.Namespace) -> str | None:
    """Refuse options on reading that the file does not suit: a sentence, or None."""
    kind = kind_of(args.file)
    for option, kinds in ONLY_FOR.items():
        if getattr(args, option) is not None and kind not in kinds:
            counted = [COUNTED_FILES[own] for own in kinds[:1] if own in COUNTED_FILES and kind not in COUNTED_FILES]
            what = "".join(f", which hold {own}" for own in counted)
            return f"{flag(option)} is for {joined(kinds, 'and')} files{what}: leave it out"
    if kind in COUNTED_FILES and args.bin_width is None:
        return f"{args.file.name} holds {COUNTED_FILES[kind]}: give --bin-width SECONDS, such as 0.02 for 20 ms"
    if args.window is None:
        return "--align needs --window FROM TO, in seconds around the event" if args.align is not None else None
    low, high = args.window
    return None if low < high else f"--window FROM TO is in this order, and {low:g} is not below {high:g}"
