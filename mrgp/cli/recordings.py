"""``mrgp demo``, ``mrgp fetch``, ``mrgp simulate``: recordings to begin with."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from mrgp.cli.argument_types import count, positive_count
from mrgp.cli.catalogue import WRITTEN
from mrgp.cli.shared import Misuse, finish, make_folder, said, watched
from mrgp.runtime.sentences import joined

A_PATH = f"a path ending in {joined(WRITTEN, 'or')}"


def add_demo(commands: Any) -> None:
    """Add the command ``mrgp demo``."""
    about = "Simulate a recording of V1 and V2 whose delays are known, fit DLAG to it, and compare."
    demo = commands.add_parser("demo", help="simulate a small recording, fit it, show its delays", description=about)
    add = demo.add_argument
    add("--out", type=Path, default=Path("mrgp-demo"), metavar="DIR", help="folder for results (%(default)s)")
    add("--seed", type=count, default=0, help="of the simulation and the fit (%(default)s)")
    add("--no-figures", action="store_true", help="draw no figures")


def run_demo(args: argparse.Namespace) -> None:
    """Simulate, fit, compare."""
    from mrgp.metrics.recovery import matched_delays
    from mrgp.models import DLAG
    from mrgp.simulations.scenarios import simulate_scenario

    make_folder(args.out)
    recording = simulate_scenario("demo", seed=args.seed)
    print(f"{recording.data}\nfitting DLAG ...", flush=True)
    fit = DLAG(n_across=2, n_within=1, max_delay=0.1).fit(recording.data, seed=args.seed, progress=watched())
    finish(fit, args.out, truth=matched_delays(fit, recording.truth), figures=not args.no_figures)


def add_fetch(commands: Any) -> None:
    """Add the command ``mrgp fetch``."""
    about = "Download a public recording, check that it is the right one, and keep it in the cache folder."
    fetch = commands.add_parser("fetch", help="download a public recording", description=about)
    fetch.add_argument("name", choices=["v1v2"], help="v1v2: V1 (72 neurons) and V2 (22), 400 trials of 1.28 s")
    fetch.add_argument("--out", type=Path, metavar="FILE", help=f"also write it here: {A_PATH}")


def run_fetch(args: argparse.Namespace) -> None:
    """Download, or find in the cache."""
    import mrgp
    from mrgp.runtime.devices import cache_folder

    if args.out is not None:
        check_suffix(args.out)
    data = mrgp.fetch_v1v2()
    print(f"{data}\nkept as {cache_folder() / 'v1v2.npz'}")
    if args.out is not None:
        mrgp.save_recording(data, args.out)
        print(f"written to {args.out}")


def add_simulate(commands: Any) -> None:
    """Add the command ``mrgp simulate``."""
    about = "Draw a recording exactly from a model with delays; the truth goes beside it, into NAME_truth.nc."
    simulate = commands.add_parser("simulate", help="make a recording with known delays", description=about)
    add = simulate.add_argument
    add("scenario", nargs="?", metavar="SCENARIO", help="one of those that --list shows")
    add("--list", action="store_true", help="show the scenarios")
    add("--out", type=Path, metavar="FILE", help=f"the recording: {A_PATH}")
    add("--seed", type=count, default=0, help="another seed, another recording (%(default)s)")
    add("--n-trials", type=positive_count, metavar="N", help="instead of the scenario's")
    add("--n-bins", type=positive_count, metavar="N", help="bins per trial, instead of the scenario's")


def run_simulate(args: argparse.Namespace) -> None:
    """Draw a scenario's recording; write it and its truth."""
    import mrgp
    from mrgp.runtime.files import write_atomically
    from mrgp.simulations.scenarios import SCENARIOS, simulate_scenario

    if args.list:
        print(*SCENARIOS, sep="\n")
        return
    if args.scenario is None or args.out is None:
        raise Misuse("simulate needs SCENARIO and --out FILE (`mrgp simulate --list` shows the scenarios)")
    check_suffix(args.out)
    changed = {name: value for name in ("n_trials", "n_bins") if (value := getattr(args, name)) is not None}
    try:
        recording = simulate_scenario(args.scenario, seed=args.seed, **changed)
    except ValueError as error:
        raise Misuse(said(error)) from error
    truth = args.out.with_name(f"{args.out.stem}_truth.nc")
    mrgp.save_recording(recording.data, args.out)
    write_atomically(truth, partial(recording.truth.to_netcdf, engine="h5netcdf"))
    print(f"{recording.data}\nwritten to {args.out}, its truth to {truth}")


def check_suffix(path: Path) -> None:
    """Refuse a path that no recording can be written to."""
    if path.suffix not in WRITTEN:
        raise Misuse(f"cannot write {path.name}: give --out a path that ends in {joined(WRITTEN, 'or')}")
