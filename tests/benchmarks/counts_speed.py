"""Seconds of fits of real spike counts, compilation included: climbs by surrogates beside plain ones.

python tests/benchmarks/counts_speed.py [--works v1v2,visual,visual_psth or relevance] [--plain]     --plain: fit without surrogates too

v1v2: DLAG(2, 2), a mean over the trial, 300 of 400 trials. visual: DLAG(2, 1) of VISp, VISam and MD of steinmetz_12, 254
of 340 trials; visual_psth: with a mean for every condition. relevance: MDLAG(10) by method "vb" of the six largest
regions of steinmetz_13, all 300 trials. Every fit is in a process of its own.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from common import record, reference, table
from mrgp.models import DLAG, MDLAG

import mrgp
from mrgp.inference import surrogates

WORKS = ("v1v2", "visual", "visual_psth")
SIX_LARGEST = ["PL", "LGd", "MB", "RN", "ACA", "MRN"]


def work(name: str) -> tuple[mrgp.MultiRegionData, DLAG | MDLAG, dict[str, float]]:
    """The recording and the model of a piece of work, and what its fit is asked."""
    if name == "v1v2":
        data = mrgp.load_recording(reference("v1v2_counts.npz"))
        order = np.random.default_rng(0).permutation(data.n_trials)
        return data.select_trials(order[:300]), DLAG(2, 2, mean="psth", emission="poisson"), {"tolerance": 0.5}
    if name == "relevance":
        data = mrgp.load_recording(reference("steinmetz_13.npz"), regions=SIX_LARGEST, drop_dead=True)
        return data, MDLAG(10, emission="poisson"), {"tolerance": 5.0}
    data = mrgp.load_recording(reference("steinmetz_12.npz"), regions=["VISp", "VISam", "MD"], drop_dead=True)
    order = np.random.default_rng(0).permutation(data.n_trials)
    mean = "psth" if name == "visual_psth" else "constant"
    return data.select_trials(order[:254]), DLAG(2, 1, mean=mean, emission="poisson", max_delay=0.05), {}


def one(name: str, plain: bool) -> None:
    """Fit, and print what came of it."""
    if plain:
        surrogates.LARGE = np.inf
    data, model, asked = work(name)
    fit = model.fit(data, seed=0, n_starts=1, progress=False, **asked)
    delays = [[round(1e3 * float(value), 1) for value in row] for row in fit.delays.values[1:]]
    print(json.dumps([fit.wall_s, fit.evaluations, fit.trace[-1], fit.converged, delays]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.plain)
    rows = []
    for name in args.works.split(","):
        for plain in (False, True) if args.plain and name != "relevance" else (False,):
            command = [sys.executable, __file__, "--one", name, *(["--plain"] if plain else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, evaluations, reached, converged, delays = json.loads(done.stdout.splitlines()[-1])
            how = "in rounds" if name == "relevance" else "plain" if plain else "by surrogates"
            rows.append([name, how, f"{seconds:.0f}", evaluations, f"{reached:.2f}", converged, delays])
            print(rows[-1], flush=True)
    header = ["work", "climb", "s", "evaluations", "log p(y, parameters) or bound, nats", "converged", "delays, ms"]
    title = "Speed of fits of counts" if args.works == ",".join(WORKS) else f"Speed of fits of counts: {args.works}"
    record(title, table(header, rows), "python " + " ".join(["tests/benchmarks/counts_speed.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
