"""``mrgp aggregate``: one table and one figure of many runs."""

import argparse
from pathlib import Path
from typing import Any

from mrgp.cli.shared import make_folder
from mrgp.cli.shared_arguments import add_out, add_quiet

AGGREGATED = """Each DIR holds the summary.json of a run of mrgp fit, evaluate or compare, or folders that do.
The folder of --out receives aggregate.csv, one row per run, method and region, and aggregate.png.

example, for runs such as RUNS/dlag/split0 and RUNS/dlag/split1:
  mrgp aggregate RUNS/* --means --out TABLE"""


def add_aggregate(commands: Any) -> None:
    """Add the command."""
    about = "One table and one figure of many runs."
    aggregate = commands.add_parser(
        "aggregate", help="gather runs into one table", description=about, epilog=AGGREGATED
    )
    aggregate.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folders of runs, see below")
    add_out(aggregate, "folder for the table and the figure")
    text = "one row for all runs in a DIR: their mean and standard deviation"
    aggregate.add_argument("--means", action="store_true", help=text)
    add_quiet(aggregate.add_argument)


def run_aggregate(args: argparse.Namespace) -> None:
    """Read summaries, tabulate, write."""
    from mrgp.studies.table_of_runs import aggregate

    table = aggregate(args.folders, args.means)
    make_folder(args)
    table.save(args.out)
    if not args.quiet:
        print(f"{table.report()}\n\naggregate.csv and aggregate.png are in {args.out}")
