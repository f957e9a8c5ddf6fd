"""``mrgp demo``, ``mrgp fetch``, ``mrgp simulate``: recordings to begin with."""

import argparse
from pathlib import Path
from typing import Any

from mrgp.cli.argument_types import count, counts, flag, names, positive, positive_count, sizes, width
from mrgp.cli.catalogue import AUTOENCODERS, MEANT_FOR, METHODS, NEEDS_WITHIN, SIMULATED, WRITTEN
from mrgp.cli.model_options import MODEL_OPTIONS, about_models, add_choices, listed, meant_for
from mrgp.cli.shared import Misuse, finish, given, make_folder, make_model, said, watched
from mrgp.cli.shared_arguments import alone, misplaced
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

    make_folder(args)
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


NETWORKS = ("memory_ring", "pass_decision", "three_flows", "random_networks", "centre_out_reach")  # functions of mrgp
OF_FITS = ("hold_max_delay", "shape", "rate")  # options of models that say nothing of what is drawn
OF_MODELS = tuple(o for o in MODEL_OPTIONS if o not in OF_FITS and not set(SIMULATED).isdisjoint(MEANT_FOR[o]))
DESIGNED = ("n_across", "n_within", "neurons", "bin_width", "snr", "conditions")  # by a scenario too, in its own way
TEXTS = {
    "max_delay": f"{meant_for('max_delay')}: delays are drawn up to it (5 bins)",
    "delay_timescale": f"{meant_for('delay_timescale')}: how fast delays change (0.2)",
    "typical_spread": f"{meant_for('typical_spread')}: how far delays move, typically (one bin)",
    "timescale_bounds": f"{meant_for('timescale_bounds')}: timescales are drawn between these, in seconds (around 0.1)",
    "mean": "constant, or psth: a smooth course over the trial of every neuron, for each of --conditions (constant)",
}
"""Options that mean something else to a simulation than to a fit."""


def add_simulate(commands: Any) -> None:
    """Add the command ``mrgp simulate``."""
    about = """Draw a recording: one of the scenarios of a model with delays, of a model with --model, whose
parameters are drawn too, of a fit with --fit, or of a network of regions that talk or
share what they do with --network. The truth goes beside it, into NAME_truth.nc."""
    simulate = commands.add_parser("simulate", help="make a recording whose truth is known", description=about)
    unasked: dict[str, Any] = dict.fromkeys(MEANT_FOR)
    simulate.set_defaults(parser=simulate, checks=(not_simulated,), **unasked)
    add = simulate.add_argument
    add("scenario", nargs="?", metavar="SCENARIO", help="one of those that --list shows")
    add("--list", action="store_true", help="show the scenarios")
    add("--out", type=Path, metavar="FILE", help=f"the recording: {A_PATH}")
    add("--seed", type=count, default=0, help="another seed, another recording (%(default)s)")
    add("--fit", type=Path, metavar="FIT.nc", help="instead of a scenario: a fit of any model, as mrgp fit wrote it")
    text = f"instead of a scenario, regions that talk, or that share the course of a reach: {listed(NETWORKS)}"
    add("--network", choices=NETWORKS, metavar="NAME", help=text)
    add("--n-trials", type=positive_count, metavar="N", help="instead of those of what is drawn; of a model or fit 50")
    text = "bins per trial, instead of those of what is drawn; of a model 100"
    add("--n-bins", type=positive_count, metavar="N", help=text)

    add = simulate.add_argument_group("model", about_models(SIMULATED)).add_argument
    text = f"instead of a scenario: {listed(SIMULATED)}; what is not said below is drawn from its priors"
    add("--model", choices=METHODS, metavar="NAME", help=text)
    add("--n-across", type=count, metavar="K", help="latents that all regions share (1)")
    needing = listed(name for name in NEEDS_WITHIN if name in SIMULATED)
    text = f"latents private to a region: one number for all, or one per region ({needing}: 1, else 0)"
    add("--n-within", type=counts, metavar="W[,W..]", help=text)
    add_choices(add, OF_MODELS, TEXTS)
    add = simulate.add_argument_group("recording of a model").add_argument
    add("--neurons", type=sizes, metavar="N,N", help="per region (20,20)")
    add("--bin-width", type=width, metavar="SECONDS", help="(0.02)")
    add("--snr", type=positive, metavar="RATIO", help="variance of signal over noise (1)")
    add("--conditions", type=names, metavar="A,B", help="trials are of these in turn; with --mean psth each has a mean")


def not_simulated(args: argparse.Namespace) -> str | None:
    """Refuse options that are of no model, or not of this one: a sentence, or None."""
    asked = [flag(option) for option in (*DESIGNED, *OF_MODELS) if getattr(args, option) is not None]
    if args.fit is not None:
        asked += [f"--network {args.network}"] if args.network is not None else []
        asked += ["--model"] if args.model is not None else []
        asked += [f"scenario {args.scenario}"] if args.scenario is not None else []
        return f"--fit draws from a fit as it is: leave {asked[0]} out" if asked else None
    if args.network is not None and (args.scenario or args.model) is not None:
        other = f"scenario {args.scenario}" if args.model is None else f"--model {args.model}"
        return f"{other} says what is drawn, and so does --network: leave one out"
    if args.model is None:
        return f"{asked[0]} is of a model: give --model NAME, or leave {asked[0]} out" if asked else None
    if args.scenario is not None:
        return f"scenario {args.scenario} has a model of its own: leave it out, or leave --model out"
    if args.model in AUTOENCODERS:
        return f"{args.model} reads latents from values and draws none: leave --model out, and give a --network"
    if args.model not in SIMULATED:
        return f"{args.model} draws with what it has learned: fit it, and give --fit FIT.nc instead of --model"
    return misplaced(args) or alone(args)


def run_simulate(args: argparse.Namespace) -> None:
    """Draw the recording of a scenario, model or network; write it and its truth."""
    import mrgp
    from mrgp.runtime.files import write_netcdf
    from mrgp.simulations.scenarios import SCENARIOS, simulate_scenario

    if args.list:
        print(*SCENARIOS, sep="\n")
        return
    if args.out is None or (args.scenario or args.model or args.network or args.fit) is None:
        listing = "(`mrgp simulate --list` shows the scenarios)"
        others = "--model NAME, --network NAME or --fit FIT.nc"
        raise Misuse(f"simulate needs --out FILE and SCENARIO {listing}, or {others}")
    check_suffix(args.out)
    changed = given(args, ("n_trials", "n_bins"))
    fit = None if args.fit is None else mrgp.load_fit(args.fit)
    try:
        if fit is not None:
            recording = mrgp.simulate_from(fit, seed=args.seed, **changed)
        elif args.network is not None:
            recording = getattr(mrgp, args.network)(seed=args.seed, **changed)
        elif args.model is None:
            recording = simulate_scenario(args.scenario, seed=args.seed, **changed)
        else:
            recording = mrgp.simulate(**of_a_model(args), seed=args.seed, **changed)
    except ValueError as error:
        raise Misuse(said(error)) from error
    truth = args.out.with_name(f"{args.out.stem}_truth.nc")
    mrgp.save_recording(recording.data, args.out)
    write_netcdf(truth, recording.truth)
    print(f"{recording.data}\nwritten to {args.out}, its truth to {truth}")


def of_a_model(args: argparse.Namespace) -> dict[str, Any]:
    """Model that is to be simulated, and the design of its recording."""
    if args.n_within is None and args.model in NEEDS_WITHIN:
        args.n_within = 1
    design = given(args, ("bin_width", "snr", "conditions"))
    if args.neurons is not None:
        design["regions"] = {f"V{i + 1}": size for i, size in enumerate(args.neurons)}
    return {"model": make_model(args), **design}


def check_suffix(path: Path) -> None:
    """Refuse a path that no recording can be written to."""
    if path.suffix not in WRITTEN:
        raise Misuse(f"cannot write {path.name}: give --out a path that ends in {joined(WRITTEN, 'or')}")
