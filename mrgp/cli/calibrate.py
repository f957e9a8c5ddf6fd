"""``mrgp calibrate``: simulate and fit again and again, to see if intervals are honest."""

import argparse
from typing import Any

from mrgp.cli.argument_types import bounds, count, counts, positive, positive_count, sizes, width
from mrgp.cli.catalogue import (
    AUTOENCODERS,
    CALIBRATED,
    COUNTED,
    DEFAULTS,
    KERNELS,
    MEANT_FOR,
    METHODS,
    NEEDS_WITHIN,
    POSTERIOR,
    WITH_GUIDE,
)
from mrgp.cli.model_options import add_choices, listed, meant_for
from mrgp.cli.shared import Misuse, build_model, make_folder, resumable, said, watched
from mrgp.cli.shared_arguments import add_out, add_quiet, alone, misplaced

KEPT = """DIR receives simulations.json, which grows with every fit, and in the end summary.json,
ranks.nc and calibration.png. The same command goes on where it was stopped."""

OWN = ("delay_timescale", "typical_spread", "mean", "mean_timescale", "noise", "emission", "shape", "rate")
"""Options of models that mean here what they mean to a fit."""


def add_calibrate(commands: Any) -> None:
    """Add the command."""
    about = """Do posteriors hold what they promise? Delays and timescales are drawn from their priors, a
recording is simulated with them and fitted, and the rank of the truth among the posterior's
draws is noted, again and again: ranks should be uniform, and intervals should hold the
truth as often as they say."""
    calibrate = commands.add_parser(
        "calibrate", help="simulate and fit again and again: are intervals honest?", description=about, epilog=KEPT
    )
    unasked: dict[str, Any] = dict.fromkeys(MEANT_FOR)  # options of a model, but for those that are added below
    calibrate.set_defaults(parser=calibrate, checks=(not_calibrated,), **unasked)
    add_out(calibrate)
    add = calibrate.add_argument
    add("--n", type=positive_count, default=200, metavar="N", help="simulations (%(default)s)")
    add("--seed", type=count, default=0, help="of everything (%(default)s)")
    add("--method", choices=POSTERIOR, default="laplace", help="whose posterior (%(default)s)")
    text = "posterior draws that the truth is ranked among (%(default)s)"
    add("--draws", type=positive_count, default=99, metavar="L", help=text)
    add_quiet(add)

    add = calibrate.add_argument_group("model").add_argument
    add("--model", choices=METHODS, default="dlag", metavar="NAME", help=f"{listed(CALIBRATED)} (%(default)s)")
    add("--n-across", type=count, default=1, metavar="K", help="latents that all regions share (%(default)s)")
    own = [name for name in CALIBRATED if name in MEANT_FOR["n_within"]]
    needing = listed(name for name in own if name in NEEDS_WITHIN)
    text = f"{listed(own)}: latents private to a region ({needing}: 1, else 0)"
    add("--n-within", type=counts, metavar="W[,W..]", help=text)
    text = f"{meant_for('max_delay')}: delays are drawn up to it (5 bins)"
    add("--max-delay", type=positive, metavar="SECONDS", help=text)
    text = "timescales are drawn between these, in seconds (0.03,0.3)"
    add("--timescale-bounds", type=bounds, default=(0.03, 0.3), metavar="LOW,HIGH", help=text)
    add("--kernel", choices=KERNELS, metavar="NAME", help=f"{listed(KERNELS)} ({DEFAULTS['kernel']})")
    text = f"white share of every latent's variance ({DEFAULTS['gp_noise']})"
    add("--gp-noise", type=positive, metavar="SHARE", help=text)
    add_choices(add, OWN, {"mean": "constant, or psth: a smooth course over the trial of every neuron (constant)"})

    add = calibrate.add_argument_group("recordings").add_argument
    add("--neurons", type=sizes, default=(10, 10), metavar="N,N", help="per region (10,10)")
    add("--trials", type=positive_count, default=40, metavar="N", help="(%(default)s)")
    add("--bins", type=positive_count, default=50, metavar="N", help="per trial (%(default)s)")
    add("--bin-width", type=width, default=0.02, metavar="SECONDS", help="(%(default)s)")
    add("--snr", type=positive, default=1.0, metavar="RATIO", help="variance of signal over noise (%(default)s)")


def not_calibrated(args: argparse.Namespace) -> str | None:
    """Refuse a model that cannot be calibrated, or misplaced options: a sentence, or None."""
    if args.model in AUTOENCODERS:
        return f"{args.model} has no posterior to calibrate: compare its latents with the truth of mrgp simulate"
    if args.model in WITH_GUIDE:
        return f"{args.model} infers latents by a guide: fit it, and check these in Python by mrgp.calibrate_latents"
    if args.model not in CALIBRATED:
        those = f"{listed(CALIBRATED[:-1])} or {CALIBRATED[-1]}"
        return f"{args.model} has no delays or timescales with a posterior: calibrate {those}"
    return misplaced(args) or alone(args)


def run_calibrate(args: argparse.Namespace) -> None:
    """Simulate and fit again and again; a run that is stopped goes on."""
    import numpy as np

    from mrgp.recordings.checks import DataError
    from mrgp.recordings.layout import Layout
    from mrgp.recordings.recording import stand_in
    from mrgp.recordings.units import read_bin_width
    from mrgp.studies.calibration.calibrate import calibrate
    from mrgp.studies.calibration.result import FILE

    regions = {f"V{i + 1}": size for i, size in enumerate(args.neurons)}
    if args.n_within is None and args.model in NEEDS_WITHIN:
        args.n_within = 1
    blank = stand_in(Layout(tuple(regions), args.neurons, read_bin_width(args.bin_width)), 1, args.bins)
    if args.emission in COUNTED:
        blank = blank.with_values(np.abs(np.round(blank.values)))
    try:
        model: Any = build_model(args, blank)
    except DataError as error:
        raise Misuse(f"{said(error)} (--neurons N,N)") from error
    make_folder(args)
    records = args.out / FILE
    if not args.quiet:
        print(f"{f'going on from {records}' if records.is_file() else 'simulating and fitting'} ...", flush=True)
    design = {"n_trials": args.trials, "n_bins": args.bins, "bin_width": args.bin_width, "snr": args.snr}
    with resumable(records):
        result = calibrate(
            model, args.n, method=args.method, regions=regions, draws=args.draws, seed=args.seed, out=args.out,
            progress=not args.quiet and watched(), **design,
        )  # fmt: skip
    result.save(args.out)
    if not args.quiet:
        print(f"{result.report()}\n\nsummary.json, ranks.nc and calibration.png are in {args.out}")
