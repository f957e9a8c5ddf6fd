"""``mrgp communication``: who talks to whom, from several trainings and controls."""

import argparse
from pathlib import Path
from typing import Any

from mrgp.cli.argument_types import positive_count
from mrgp.cli.catalogue import OF_METHODS, TALKING
from mrgp.cli.model_options import listed
from mrgp.cli.shared import build_model, given, load, make_folder, resumable, watched
from mrgp.cli.shared_arguments import (
    add_method,
    add_model,
    add_out,
    add_quiet,
    add_recording,
    add_run,
    add_training,
    miscounted,
    misplaced,
    unset,
    unsuited,
)

STUDIED = """DIR receives fits.json, which grows with every training, and in the end edges.csv, summary.json and
communication.png. The same command goes on where it was stopped.

example:
  mrgp communication FILE --model mrlfads --emission poisson --seeds 3 --controls 2 --out DIR"""


def add_communication(commands: Any) -> None:
    """Add the command."""
    about = """Who talks to whom, how far do trainings agree, and what is left where nobody can talk? A model whose
regions send messages is trained several times, and on trials that are shuffled between regions."""
    command = commands.add_parser("communication", help="find who talks to whom", description=about, epilog=STUDIED)
    command.set_defaults(parser=command, checks=(not_studied, miscounted), start=None, n_across=None, n_within=None)
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help="the recording (see mrgp fit --help)")
    add_out(command)
    add("--seeds", type=positive_count, default=3, metavar="N", help="trainings on the recording (%(default)s)")
    add("--controls", type=positive_count, default=2, metavar="N", help="shuffled recordings (%(default)s)")
    text = "shuffle among so many trials of a condition, one after another: slower drift stays (all of a condition)"
    add("--among", type=positive_count, metavar="TRIALS", help=text)
    add_recording(command)
    add_model(command)
    add_training(add_method(command))
    add_run(command)
    add_quiet(command.add_argument)


def not_studied(args: argparse.Namespace) -> str | None:
    """Refuse what cannot be studied: a sentence, or None."""
    if args.model not in TALKING:
        return f"regions of {args.model} send no messages: take --model {listed(TALKING)}"
    if args.among == 1:
        return "--among counts at least 2 trials"
    return misplaced(args) or unsuited(args) or unset(args)


def run_communication(args: argparse.Namespace) -> None:
    """Train, write, say."""
    import mrgp
    from mrgp.studies.communication.assess import FILE

    data = load(args)
    data.require(2, "a study of communication")
    model = build_model(args, data)
    make_folder(args)
    if not args.quiet:
        print(f"{data}\n{args.seeds} trainings and {args.controls} on shuffled trials ...", flush=True)
    settings = given(args, ("method", "max_iterations", *OF_METHODS))
    with resumable(args.out / FILE):
        study = mrgp.assess_communication(
            model, data, n_seeds=args.seeds, n_controls=args.controls, among=args.among, out=args.out, seed=args.seed,
            progress=not args.quiet and watched(), **settings,
        )  # fmt: skip
    study.save(args.out)
    if not args.quiet:
        print(f"{study}\n\nedges.csv, summary.json and communication.png are in {args.out}")
