"""``mrgp report``: one page of HTML of a run."""

import argparse
from pathlib import Path
from typing import Any

from mrgp.cli.shared_arguments import add_quiet

REPORTED = """DIR is the folder that mrgp fit, evaluate, cv, compare, communication, calibrate, aggregate or demo
had as --out.
The page says what was done and found: the verdict in sentences, diagnostics (good, look, bad) with
what to do about them, figures, tables, and the command, versions and digests that make it again.
It holds all that it shows: send it, print it, open it without a network.

example:
  mrgp fit FILE --n-across 2 --n-within 1 --out DIR && mrgp report DIR"""

PAGE = "report.html"


def add_report(commands: Any) -> None:
    """Add the command."""
    about = "Write one page of HTML that tells of a run, with everything in it."
    report = commands.add_parser("report", help="write a page that tells of a run", description=about, epilog=REPORTED)
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of a run, see below")
    report.add_argument("--out", type=Path, metavar="FILE.html", help=f"the page (DIR/{PAGE})")
    add_quiet(report.add_argument)


def run_report(args: argparse.Namespace) -> None:
    """Read the folder, write the page, say what stands in it first."""
    from mrgp.studies.report.folder import report_of_folder

    found = report_of_folder(args.folder)
    path = args.out or args.folder / PAGE
    found.save(path)
    if not args.quiet:
        print(f"{found}\n\nwritten to {path}")
