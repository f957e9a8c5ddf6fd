"""Command ``mrgp``: read what a person types at a shell, and carry it out.

Exit codes: 0 done, 1 failed (a recording, a folder or the run itself), 2 wrong use. A user's mistake gets one
sentence on stderr that begins with ``mrgp:``. Every command imports what it needs once its arguments are understood.
"""

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from mrgp.cli.aggregate import add_aggregate, run_aggregate
from mrgp.cli.argument_types import MISUSED, Parser, flag
from mrgp.cli.calibrate import add_calibrate, run_calibrate
from mrgp.cli.communication import add_communication, run_communication
from mrgp.cli.compare import add_compare, run_compare
from mrgp.cli.cv import add_cv, run_cv
from mrgp.cli.evaluate import add_evaluate, run_evaluate
from mrgp.cli.fit import add_fit, run_fit
from mrgp.cli.recordings import add_demo, add_fetch, add_simulate, run_demo, run_fetch, run_simulate
from mrgp.cli.report import add_report, run_report
from mrgp.cli.shared import Failure, Misuse, said
from mrgp.runtime.run_record import RunRecord

ABOUT = """Which way do signals flow between brain areas, and how late do they arrive?

mrgp explains recordings of several areas by a few smooth latent signals: some shared
between areas, each with a delay per area, some private to one area. A positive delay
means that an area lags the first area of the recording."""

EXAMPLES = """examples:
  mrgp demo                             a small simulated recording, fitted in under a minute
  mrgp fetch v1v2 --out v1v2.npz        a public recording of V1 and V2
  mrgp fit v1v2.npz --n-across 3 --n-within 17,1 --max-delay 0.3 --out results

`mrgp COMMAND --help` explains each command."""

DONE, FAILED = 0, 1

COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": run_demo,
    "fetch": run_fetch,
    "simulate": run_simulate,
    "fit": run_fit,
    "evaluate": run_evaluate,
    "cv": run_cv,
    "compare": run_compare,
    "communication": run_communication,
    "calibrate": run_calibrate,
    "aggregate": run_aggregate,
    "report": run_report,
}
ARGUMENTS = (
    add_demo, add_fetch, add_simulate, add_fit, add_evaluate, add_cv, add_compare, add_communication, add_calibrate,
    add_aggregate, add_report,
)  # fmt: skip
"""Functions that add a command, in the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    try:
        args = parse(argv)
    except SystemExit as stop:  # the parser has said why
        return stop.code if isinstance(stop.code, int) else FAILED
    from mrgp.recordings.checks import DataError

    try:
        with _notes(args):
            COMMANDS[args.command](args)
        args.record.end()
        return DONE
    except Misuse as error:
        code, sentence = MISUSED, str(error)
    except KeyboardInterrupt:
        code, sentence = FAILED, "interrupted"
    except (Failure, DataError, OSError, FloatingPointError) as error:
        code, sentence = FAILED, said(error)
    except Exception as error:
        exhausted = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)  # JAX's want of memory
        if not (exhausted or isinstance(error, MemoryError)):
            with suppress(OSError):
                args.record.end(f"a fault of the program, {type(error).__name__}: {error}")
            raise
        code, sentence = FAILED, "out of memory: take fewer latents, trials or bins, or the markov likelihood"
    sentence = " ".join(sentence.split())
    with suppress(OSError):  # a full disk, of which the sentence tells
        args.record.end(sentence)
    print(f"mrgp: {sentence}", file=sys.stderr)
    return code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line, without reading a recording; exit on wrong use.

    With it goes a record of the run, in ``record``.
    """
    typed = list(sys.argv[1:] if argv is None else map(str, argv))
    args, unknown = build_parser().parse_known_args(typed)
    if unknown:  # told by the parser of the command, whose help lists what there is
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.record = RunRecord(shlex.join(["mrgp", *typed]))
    for check in args.checks:
        if (wrong := check(args)) is not None:
            args.parser.error(wrong)
    return args


def build_parser() -> Parser:
    """Build the parser of all commands.

    What it reads has the name of the command in ``command``, and in ``checks`` functions that refuse contradictions.
    """
    parser = Parser(prog="mrgp", description=ABOUT, epilog=EXAMPLES)
    parser.set_defaults(checks=())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in ARGUMENTS:
        add(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


@contextmanager
def _notes(args: argparse.Namespace) -> Iterator[None]:
    """Print every warning meant for users as one line, once; no others.

    Arguments that the command has as options are named as these are typed.
    """
    told = set()
    options = "|".join(name for name in vars(args) if "_" in name)
    word = re.compile(rf"(?<![\w./'\"-])({options})(?![\w./='\"])") if options else None

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = word.sub(lambda name: flag(name[0]), str(message)) if word else str(message)
        if category is UserWarning and text not in told and not text.endswith(": interrupted"):
            told.add(text)
            args.record.add_note(text)
            print(f"mrgp: note: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield
