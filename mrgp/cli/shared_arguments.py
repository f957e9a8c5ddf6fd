"""What may be typed after ``mrgp``: commands, their options and their help. Imports nothing heavy."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mrgp.cli.catalogue import (
    ABOUT,
    CALIBRATED,
    COMPARED,
    CONJUGATE,
    COUNTING,
    CROSS_VALIDATED,
    EMISSIONS,
    EXAMPLES,
    FILES,
    HYPOTHESES,
    KERNELS,
    MEANT_FOR,
    METHODS,
    MODELS,
    NEEDS_WITHIN,
    ORDERS,
    POSTERIOR,
    PREPROCESSING,
    SMOOTH,
    TRANSFORMS,
    Parser,
    bounds,
    count,
    counts,
    flag,
    hypotheses,
    names,
    number,
    numbers,
    positive,
    positive_count,
    share,
    site,
    sizes,
    widths,
)
from mrgp.cli.evaluation_arguments import add_aggregate, add_division, add_evaluate, divided_twice


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, understood and checked as far as that goes without a recording; exits on wrong use."""
    parser = build_parser()
    args = parser.parse_args(argv)
    checks = {
        "fit": (contradiction, miscounted), "compare": (miscounted,), "calibrate": (not_calibrated,),
        "evaluate": (divided_twice, miscounted), "cv": (not_cross_validated, miscounted),
    }  # fmt: skip
    for check in checks.get(args.command, ()):
        if (wrong := check(args)) is not None:
            args.parser.error(wrong)
    return args


def contradiction(args: argparse.Namespace) -> str | None:
    """What cannot be meant together among the options of ``mrgp fit``, in a sentence; None where all is well."""
    model = args.model
    if (wrong := misplaced(args) or divided_twice(args)) is not None:
        return wrong
    if model in NEEDS_WITHIN and args.n_within is None:
        return f"{model} needs --n-within, the latents private to each region: such as 2, or 17,1, or 0 for none"
    return unsuited(args)


def unsuited(args: argparse.Namespace) -> str | None:
    """What cannot be meant together among the options of methods and runs, in a sentence; None where all is well."""
    model = args.model
    if args.mean_timescale is not None and args.mean != "psth":
        return "--mean-timescale is of --mean psth: add it, or leave both out"
    if args.method not in (None, *METHODS[model]):
        return f"--method {args.method} is not for {model}: it has {', '.join(METHODS[model])}"
    method, names = args.method or METHODS[model][0], [name for name, _ in args.fixed]
    if method == "em" and names:
        return "--method em updates every parameter: for --fixed, take --method map"
    if method == "vb" and (inferred := sorted(CONJUGATE & set(names))):
        return f"--method vb infers {', '.join(inferred)}: fix delays or timescales, or take --method map"
    if len(set(names)) < len(names):
        return f"--fixed gives {max(names, key=names.count)} two values"
    if args.start is not None and args.n_starts is not None:
        return "--n-starts is of the search for a start, which --start takes the place of: leave one out"
    low, high = ORDERS
    if args.order is not None and args.lift != "ar" and not low <= args.order <= high:
        return f"--order is {low} to {high}, not {args.order} (bins remembered, any number, with --lift ar)"
    return None


def misplaced(args: argparse.Namespace) -> str | None:
    """Which option is not for the model, in a sentence; None where all are."""
    model = args.model
    for option, models in MEANT_FOR.items():
        given = getattr(args, option)
        if given is None or model in models or (option == "n_within" and given == 0):
            continue
        if option == "n_within":
            return f"{model} has no latents private to a region: leave --n-within out"
        return f"{flag(option)} is not for {model}, but for {', '.join(models)}: leave it out"
    return None


def miscounted(args: argparse.Namespace) -> str | None:
    """What keeps spikes from being counted as asked, or counts from being read so, in a sentence; or None."""
    asked = [flag(option) for option in COUNTING if getattr(args, option) is not None]
    if args.file.suffix.lower() != ".nwb":
        return f"{asked[0]} is for .nwb files, which hold spike times: leave it out" if asked else None
    if args.bin_width is None:
        return f"{args.file.name} holds spike times: give --bin-width SECONDS, such as 0.02 for 20 ms"
    if args.window is None:
        return "--align needs --window FROM TO, in seconds around the event" if args.align is not None else None
    low, high = args.window
    return None if low < high else f"--window FROM TO is in this order, and {low:g} is not below {high:g}"


def not_cross_validated(args: argparse.Namespace) -> str | None:
    """What cannot be meant together among the options of ``mrgp cv``, in a sentence; None where all is well."""
    model = args.model
    if (wrong := misplaced(args)) is not None:
        return wrong
    if args.search and model not in MEANT_FOR["n_within"]:
        return f"--search asks which latents are private to a region, and {model} has none: give --n-across 1,2,3"
    if args.search and args.n_within is not None:
        return "--search finds --n-within by itself: leave one of them out"
    if args.neighbours and not args.search:
        return "--neighbours are of the candidate that --search finds: add --search"
    if not args.search and args.n_across is None:
        return "give the candidates, such as --n-across 0,1,2,3, or --search"
    if not args.search and model in NEEDS_WITHIN and args.n_within is None:
        return f"{model} needs --n-within, such as 1,2,3 or 16/1,17/1, or --search"
    return unsuited(args)


def not_calibrated(args: argparse.Namespace) -> str | None:
    """What cannot be calibrated, in a sentence; None where all is well."""
    if args.model not in CALIBRATED:
        return f"{args.model} cannot be drawn from its priors: calibrate {' or '.join(CALIBRATED)}"
    return misplaced(args)


def build_parser() -> Parser:
    """The whole command line; ``args.command`` names the command."""
    parser = Parser(prog="mrgp", description=ABOUT, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_fetch(commands)
    _add_simulate(commands)
    _add_fit(commands)
    add_evaluate(commands, _add_recording)
    _add_cv(commands)
    _add_compare(commands)
    _add_calibrate(commands)
    add_aggregate(commands)
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

    fit.set_defaults(parser=fit)
    add = _add_model(fit)
    add("--n-across", type=count, required=True, metavar="K", help="latents that all regions share")
    needing = ", ".join(NEEDS_WITHIN)
    text = f"latents private to a region: one number for all, or one per region; {needing} need it, mdlag and gfa may"
    add("--n-within", type=counts, metavar="W[,W..]", help=text)
    _add_method(fit)

    _add_recording(fit)
    add_division(fit, "keep these trials from the fit, for mrgp evaluate")
    add = _add_run(fit)
    text = "go on from a fit saved before, instead of a search: of this model, or dlag for adm"
    add("--start", type=Path, metavar="FIT.nc", help=text)
    add("--no-figures", action="store_true", help="draw no figures")
    add("--no-intervals", action="store_true", help="leave out the intervals of the delays")
    add("--quiet", action="store_true", help="print nothing but notes and errors")


def _add_run(command: Parser) -> Callable[..., Any]:
    add = command.add_argument_group("run").add_argument
    add("--seed", type=count, default=0, help="of all that is random (%(default)s)")
    add("--n-starts", type=positive_count, metavar="N", help="starts to try (6)")
    text = "done when the last few iterations together gained less than this (%(default)s)"
    add("--tolerance", type=positive, default=0.01, metavar="NATS", help=text)
    add("--max-iterations", type=positive_count, default=1000, metavar="N", help="at most (%(default)s)")
    return add


def _add_cv(commands: Any) -> None:
    about = """How many latents? Every candidate is fitted to some trials and scored on the others, fold by fold;
the smallest within one standard error of the best is chosen."""
    cv = commands.add_parser(
        "cv", help="choose numbers of latents by cross-validation", description=about, epilog=CROSS_VALIDATED
    )
    cv.set_defaults(parser=cv, start=None)
    cv.add_argument("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    cv.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results, see below")
    add = cv.add_argument_group("candidates").add_argument
    add("--n-across", type=numbers, metavar="K,K,..", help="numbers of latents that all regions share: 0,1,2,3")
    text = "numbers of latents private to a region: 1,2 for one or two in each, 16/1,17/1 for a number per region"
    add("--n-within", type=widths, metavar="W,W,..", help=text)
    text = "find candidates by factor analysis: how many latents a region reads; how many of them are shared is varied"
    add("--search", action="store_true", help=text)
    text = "of a search: also one latent more and less of every kind, to find weak signals; takes three times as long"
    add("--neighbours", action="store_true", help=text)
    add("--folds", type=positive_count, default=4, metavar="N", help="each trial is held out in one (%(default)s)")
    text = "a trial coordinate of the file, such as stimulus, whose values are spread over the folds (condition)"
    add("--stratify", metavar="NAME", help=text)
    _add_model(cv)
    _add_method(cv)
    _add_recording(cv)
    add = _add_run(cv)
    add("--workers", type=positive_count, default=1, metavar="N", help="processes that share the fits (%(default)s)")
    add("--quiet", action="store_true", help="print nothing but notes and errors")


def _add_recording(command: Parser) -> None:
    add = command.add_argument_group("recording").add_argument
    add("--bin-width", type=positive, metavar="SECONDS", help="instead of what the file says; .nwb: needed")
    add("--regions", type=names, metavar="A,B", help="these regions; delays are measured from the first")
    add("--n-neurons", type=sizes, metavar="N,N", help="per region, for a .mat file that does not say it")
    add("--drop-dead", action="store_true", help="leave out neurons that never change in the trials that are fitted to")
    text = "trials are this long around an event, such as -0.2 0.5 (from start_time to stop_time)"
    add("--window", type=number, nargs=2, metavar=("FROM", "TO"), help=f".nwb: {text}")
    add("--align", metavar="COLUMN", help=".nwb: the event, a column of the trials (start_time)")
    add("--trials", metavar="TABLE", help=".nwb: the table of trials (trials)")
    add("--region-of-unit", metavar="COLUMN", help=".nwb: of the units (location, else that of the electrodes)")

    add = command.add_argument_group("preprocessing", PREPROCESSING).add_argument
    add("--transform", choices=TRANSFORMS, help="root of counts, whose variance does not grow with their mean")
    add("--smooth", type=positive, metavar="SECONDS", help="Gaussian over time of this sd; correlates noise over bins")
    text = "take off the mean course over trials, of all or per value of a coordinate of the trials"
    add("--remove-mean", nargs="?", const=True, default=False, metavar="COORD", help=text)
    add("--zscore", action="store_true", help="mean 0 and variance 1 per neuron")


def _add_compare(commands: Any) -> None:
    about = "Is there a delay, which way, does it change, how sure are we? Fit every hypothesis and weigh them."
    compare = commands.add_parser("compare", help="compare hypotheses on delays", description=about, epilog=COMPARED)
    compare.set_defaults(parser=compare)
    add = compare.add_argument
    add("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for results, see below")
    text = "two or more of none, constant, varying (all three)"
    add("--hypotheses", type=hypotheses, default=HYPOTHESES, metavar="A,B[,C]", help=text)
    add("--n-across", type=positive_count, required=True, metavar="K", help="latents that all regions share")
    text = "latents private to a region: one number for all, or one per region"
    add("--n-within", type=counts, required=True, metavar="W[,W..]", help=text)
    text = "longest delay considered (5 bins); the prior of delays is flat up to it"
    add("--max-delay", type=positive, metavar="SECONDS", help=text)
    add("--kernel", choices=KERNELS, metavar="NAME", help=f"{', '.join(KERNELS)} (squared_exponential)")
    text = "shortest and longest timescale in seconds (none, but 0.1 s is typical)"
    add("--timescale-bounds", type=bounds, metavar="LOW,HIGH", help=text)
    add("--rope", type=positive, metavar="SECONDS", help="a delay below it counts as none (half a bin)")
    add("--probability", type=share, default=0.9, metavar="P", help="of the intervals (%(default)s)")
    add("--seed", type=count, default=0, help="of starts and draws (%(default)s)")
    add("--quiet", action="store_true", help="print nothing but notes and errors")
    _add_recording(compare)


def _add_model(command: Parser) -> Callable[..., Any]:
    add = command.add_argument_group("model", MODELS).add_argument
    add("--model", choices=METHODS, default="dlag", metavar="NAME", help=f"{', '.join(METHODS)} (%(default)s)")
    text = "dlag, adm, mdlag: longest delay considered (5 bins); widened by itself if a delay comes close"
    add("--max-delay", type=positive, metavar="SECONDS", help=text)
    text = "dlag, adm, mdlag: keep to --max-delay, also if a delay comes close"
    add("--hold-max-delay", action="store_true", default=None, help=text)
    add("--delay-timescale", type=positive, metavar="SECONDS", help="adm: how fast delays may change (learned)")
    add("--typical-spread", type=positive, metavar="SECONDS", help="adm: how far delays move, a priori (one bin)")
    text = f"{', '.join(SMOOTH)}: how smooth latents are, or whether they are rhythms: {', '.join(KERNELS)} "
    add("--kernel", choices=KERNELS, metavar="NAME", help=text + "(squared_exponential)")
    text = f"{', '.join(SMOOTH)}: shortest and longest timescale in seconds (none, but 0.1 s is typical)"
    add("--timescale-bounds", type=bounds, metavar="LOW,HIGH", help=text)
    text = f"{', '.join(SMOOTH)}: white share of every latent's variance, between 0 and 1 (0.001)"
    add("--gp-noise", type=positive, metavar="SHARE", help=text)
    text = "constant, or psth: a smooth course over the trial of every neuron, for every condition where the file has "
    add("--mean", choices=["constant", "psth"], help=text + "trial_condition (constant)")
    add("--mean-timescale", type=positive, metavar="SECONDS", help="how fast the mean of psth may change (0.05)")
    text = f"{', '.join(SMOOTH)}: private noise is new in every bin, or ar1: correlated, as in smoothed counts (white)"
    add("--noise", choices=["white", "ar1"], help=text)
    text = f"{', '.join(SMOOTH)}: values with Gaussian noise, or spike counts (gaussian)"
    add("--emission", choices=EMISSIONS, help=text)
    text = "lds: a trial begins anywhere in a process that always was, or where it is learned to begin (stationary)"
    add("--start-state", choices=["stationary", "learned"], help=text)
    text = "mdlag, gfa: of the Gamma priors of relevance and noise precision (1e-12: none to speak of)"
    add("--relevance-shape", dest="shape", type=positive, metavar="A", help=text)
    add("--relevance-rate", dest="rate", type=positive, metavar="B", help="mdlag, gfa: the same (1e-12)")
    return add


def _add_method(fit: Parser) -> None:
    add = fit.add_argument_group("method").add_argument
    text = "map: most likely parameters; vb: variational Bayes, for mdlag, gfa (their default); em: for lds; "
    text += f"posteriors of {', '.join(SMOOTH)}: laplace, svi, nuts"
    add("--method", choices=["map", "vb", "em", *POSTERIOR], help=text)
    text = "hold a parameter at a value in seconds or data units, such as delay=0; can be repeated"
    add("--fixed", type=site, action="append", default=[], metavar="SITE=VALUE", help=text)
    text = f"{', '.join(SMOOTH)}: markov: fast; dense: exact, short trials; spectral: independent frequencies (markov)"
    add("--likelihood", choices=["markov", "dense", "spectral"], help=text)
    text = "dlag, mdlag, gpfa: where delays enter the state space of the markov likelihood (readout)"
    add("--lift", choices=["readout", "ar"], help=text)
    text = "states per latent of the markov likelihood, 2 to 6: more are closer to the kernel (6); with --lift ar, bins"
    add("--order", type=positive_count, metavar="N", help=text)


def _add_calibrate(commands: Any) -> None:
    about = """Do posteriors hold what they promise? Delays and timescales are drawn from their priors, a
recording is simulated with them and fitted, and the rank of the truth among the posterior's
draws is noted, again and again: ranks should be uniform, and intervals should hold the
truth as often as they say."""
    text = """DIR receives simulations.json, which grows with every fit, and in the end summary.json,
ranks.nc and calibration.png. The same command goes on where it was stopped."""
    calibrate = commands.add_parser(
        "calibrate", help="simulate and fit again and again: are intervals honest?", description=about, epilog=text
    )
    unasked = (
        "hold_max_delay", "delay_timescale", "typical_spread", "shape", "rate", "start_state", "likelihood", "lift",
        "order", "mean", "mean_timescale", "noise", "emission",
    )  # fmt: skip
    calibrate.set_defaults(parser=calibrate, **dict.fromkeys(unasked))
    add = calibrate.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for results, see below")
    add("--n", type=positive_count, default=200, metavar="N", help="simulations (%(default)s)")
    add("--seed", type=count, default=0, help="of everything (%(default)s)")
    add("--method", choices=POSTERIOR, default="laplace", help="whose posterior (%(default)s)")
    text = "posterior draws that the truth is ranked among (%(default)s)"
    add("--draws", type=positive_count, default=99, metavar="L", help=text)
    add("--quiet", action="store_true", help="print nothing but notes and errors")

    add = calibrate.add_argument_group("model").add_argument
    add("--model", choices=METHODS, default="dlag", metavar="NAME", help=f"{', '.join(CALIBRATED)} (%(default)s)")
    add("--n-across", type=count, default=1, metavar="K", help="latents that all regions share (%(default)s)")
    add("--n-within", type=counts, metavar="W[,W..]", help="dlag: latents private to a region (1)")
    add("--max-delay", type=positive, metavar="SECONDS", help="dlag: delays are drawn up to it (5 bins)")
    add("--timescale-bounds", type=bounds, default=(0.03, 0.3), metavar="LOW,HIGH",
        help="timescales are drawn between these, in seconds (0.03,0.3)")  # fmt: skip
    add("--kernel", choices=KERNELS, metavar="NAME", help=f"{', '.join(KERNELS)} (squared_exponential)")
    add("--gp-noise", type=positive, metavar="SHARE", help="white share of every latent's variance (0.001)")

    add = calibrate.add_argument_group("recordings").add_argument
    add("--neurons", type=sizes, default=(10, 10), metavar="N,N", help="per region (10,10)")
    add("--trials", type=positive_count, default=40, metavar="N", help="(%(default)s)")
    add("--bins", type=positive_count, default=50, metavar="N", help="per trial (%(default)s)")
    add("--bin-width", type=positive, default=0.02, metavar="SECONDS", help="(%(default)s)")
    add("--snr", type=positive, default=1.0, metavar="RATIO", help="variance of signal over noise (%(default)s)")
