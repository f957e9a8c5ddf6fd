"""``mrgp cv``: choose numbers of latents and states by cross-validation."""

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrgp.cli.argument_types import flag, numbers, positive, positive_count, widths
from mrgp.cli.catalogue import AUTOENCODERS, MEANT_FOR, NEEDS_WITHIN, SIZES
from mrgp.cli.model_options import listed
from mrgp.cli.shared import Misuse, build_model, given, load, make_folder, resumable, said, watched
from mrgp.cli.shared_arguments import (
    add_method,
    add_model,
    add_out,
    add_quiet,
    add_recording,
    add_run,
    miscounted,
    misplaced,
    unsuited,
)

if TYPE_CHECKING:
    from mrgp import Candidate, MultiRegionData

CROSS_VALIDATED = """DIR receives tasks.json, which grows with every fit, and in the end summary.json, scores.csv,
scores.nc and cv.png. The same command goes on where it was stopped, also with more candidates.

examples:
  mrgp cv FILE --model dlag --n-across 0,1,2,3 --n-within 1,2 --folds 4 --workers 2 --out DIR
  mrgp cv FILE --model dlag --search --out DIR
  mrgp cv FILE --model gpfa --n-across 2,4,6,8 --out DIR
  mrgp cv FILE --model coupledlds --n-within 1,2,3 --n-global 0,1 --out DIR
  mrgp cv FILE --model switchinglds --n-states 1,2,3 --n-within 2,3 --block 10 --out DIR"""

WORDS = {
    "n_global": "numbers of states that drive all regions: 0,1",
    "n_states": "numbers of states that the dynamics switch between: 1,2,3",
}
TRIED = tuple(dict.fromkeys(itertools.chain(*SIZES.values())))  # options that are lists here


def add_cv(commands: Any) -> None:
    """Add the command."""
    about = """How many latents, or states? Every candidate is fitted to some trials and scored on the others,
fold by fold; the smallest within one standard error of the best is chosen."""
    cv = commands.add_parser(
        "cv", help="choose numbers of latents and states by cross-validation", description=about, epilog=CROSS_VALIDATED
    )
    cv.set_defaults(parser=cv, checks=(not_cross_validated, miscounted), start=None)
    cv.add_argument("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add_out(cv)
    add = cv.add_argument_group("candidates").add_argument
    add("--n-across", type=numbers, metavar="K,K,..", help="numbers of latents that all regions share: 0,1,2,3")
    text = "numbers of latents private to a region: 1,2 for one or two in each, 16/1,17/1 for a number per region"
    add("--n-within", type=widths, metavar="W,W,..", help=text)
    for option, text in WORDS.items():
        models = listed(model for model, sizes in SIZES.items() if option in sizes)
        add(flag(option), type=numbers, metavar="K,K,..", help=f"{models}: {text}")
    text = "find candidates by factor analysis: how many latents a region reads; how many of them are shared is varied"
    add("--search", action="store_true", help=text)
    text = "of a search: also one latent more and less of every kind, to find weak signals; takes three times as long"
    add("--neighbours", action="store_true", help=text)
    add("--folds", type=positive_count, default=4, metavar="N", help="each trial is held out in one (%(default)s)")
    text = "a trial coordinate of the file, such as stimulus, whose values are spread over the folds (condition)"
    add("--stratify", metavar="NAME", help=text)
    text = "cut trials into blocks of this length, which are then the trials: for few long trials, or one"
    add("--block", type=positive, metavar="SECONDS", help=text)
    add_recording(cv)
    add_model(cv, without=TRIED)
    add_method(cv)
    add = add_run(cv)
    add("--workers", type=positive_count, default=1, metavar="N", help="processes that share the fits (%(default)s)")
    add_quiet(add)


def not_cross_validated(args: argparse.Namespace) -> str | None:
    """Refuse options that contradict each other: a sentence, or None."""
    model = args.model
    if model not in SIZES:
        return f"{model} has no sizes that cv compares: choose its sizes in Python by mrgp.tune"
    if model in AUTOENCODERS:
        instead = "mrgp.cross_validate(..., score=mrgp.metrics.hidden_log_likelihood), or mrgp.tune"
        return f"{model} has no likelihood of trials: choose its sizes in Python by {instead}"
    if (wrong := misplaced(args)) is not None:
        return wrong
    if args.search and "n_across" not in SIZES[model]:
        return f"--search asks which latents regions share, and {model} has none: give {flag(SIZES[model][0])} 1,2,3"
    if args.search and model not in MEANT_FOR["n_within"]:
        return f"--search asks which latents are private to a region, and {model} has none: give --n-across 1,2,3"
    if args.search and args.n_within is not None:
        return "--search finds --n-within by itself: leave one of them out"
    if args.neighbours and not args.search:
        return "--neighbours are of the candidate that --search finds: add --search"
    if not args.search and "n_across" in SIZES[model] and args.n_across is None:
        return "give the candidates, such as --n-across 0,1,2,3, or --search"
    if not args.search and all(getattr(args, name) is None for name in SIZES[model]):
        return f"give the candidates, such as {flag(SIZES[model][0])} 1,2,3"
    if not args.search and model in NEEDS_WITHIN and args.n_within is None:
        return f"{model} needs --n-within, such as 1,2,3 or 16/1,17/1, or --search"
    return unsuited(args)


def run_cv(args: argparse.Namespace) -> None:
    """Fit every candidate in every fold, weigh them, write; a run that is stopped goes on."""
    from contextlib import nullcontext

    import mrgp
    from mrgp.studies.cross_validation.sweep import FILE

    data = load(args)
    model = base_of(args, data)
    make_folder(args)
    records = args.out / FILE
    if not args.quiet:
        print(f"{data}\n{f'going on from {records}' if records.is_file() else 'cross-validating'} ...", flush=True)
    settings = {
        "tried": tried(args), "n_folds": args.folds, "block": args.block, "stratify": args.stratify,
        "search": args.search, "neighbours": args.neighbours, "seed": args.seed, "fixed": dict(args.fixed),
        "drop_dead": args.drop_dead,
        **given(args, ("method", "n_starts", "tolerance", "max_iterations")),
    }  # fmt: skip
    progress = not args.quiet and watched()
    workers = mrgp.process_pool(args.workers) if args.workers > 1 else nullcontext()
    with resumable(records), workers as executor:
        result = mrgp.cross_validate(model, data, executor=executor, out=args.out, progress=progress, **settings)
    result.save(args.out)
    if not args.quiet:
        print(f"{result.report()}\n\nchosen: {as_typed(result.chosen)}")
        print(f"summary.json, scores.csv, scores.nc and cv.png are in {args.out}")


def tried(args: argparse.Namespace) -> dict[str, Any]:
    """Sizes that were typed, by name."""
    return given(args, SIZES[args.model])


def as_typed(candidate: "Candidate") -> str:
    """Write a candidate as options of ``mrgp fit``."""
    typed = {}
    for name, value in candidate.settings:
        if not isinstance(value, tuple):
            typed[name] = str(value)
        elif any(value):
            typed[name] = ",".join(map(str, value))
    return " ".join(f"{flag(name)} {text}" for name, text in typed.items())


def base_of(args: argparse.Namespace, data: "MultiRegionData") -> Any:
    """Build the model whose latents are varied; refuse candidates that do not suit the data."""
    from mrgp.families.model import held_at

    if args.folds < 2:
        raise Misuse("--folds is 2 or more: some trials are held out, others are fitted to")
    if args.stratify is not None and args.stratify not in data.trial_coords:
        known = f"it has {', '.join(data.trial_coords)}" if data.trial_coords else "it has none: leave --stratify out"
        raise Misuse(f"--stratify {args.stratify}: the recording has no trial coordinate of that name, {known}")
    own = tried(args) | ({"n_across": args.n_across or (1,), "n_within": (1,)} if args.search else {})
    asked = dict.fromkeys(TRIED) | {name: max(values) for name, values in own.items() if name != "n_within"}
    candidates = own.get("n_within", (None,))
    models = [build_model(argparse.Namespace(**vars(args) | asked | {"n_within": n}), data) for n in candidates]
    try:
        held_at(models[0], dict(args.fixed), data)
    except ValueError as error:
        raise Misuse(said(error)) from error
    return models[0]
