"""Do the delay intervals from the curvature cover the truth? Small simulated recordings, 90% intervals.

python tests/benchmarks/coverage.py [--recordings 100]
"""

import argparse
import time
import warnings

import numpy as np
from common import record, table

import mrgp
from mrgp.simulations.simulate import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100)
    args = parser.parse_args()
    bin_width, inside, z, errors, unconverged = 0.02, [], [], [], 0
    began = time.perf_counter()
    for seed in range(args.recordings):
        rng = np.random.default_rng(seed)
        delay = np.array([[0.0], [rng.uniform(-2.5, 2.5) * bin_width]])
        made = simulate(
            regions={"A": 12, "B": 12}, n_across=1, n_within=1, n_trials=15, n_bins=40, bin_width=bin_width,
            timescale_across=rng.uniform(2, 5) * bin_width, timescale_within=rng.uniform(2, 5) * bin_width, delay=delay,
            snr=0.3, seed=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = mrgp.models.DLAG(n_across=1, n_within=1, window=mrgp.Window(10), max_delay=0.1).fit(
                made.data, seed=seed, progress=False
            )
        unconverged += not fit.converged
        got = fit.delay_intervals(0.9)
        low, high, sd = (float(got[name][1, 0]) for name in ("lower", "upper", "sd"))
        inside.append(low <= delay[1, 0] <= high)
        z.append((float(got.delay[1, 0]) - delay[1, 0]) / sd)
        errors.append(float(got.delay[1, 0] - delay[1, 0]) / bin_width)
    rows = [[args.recordings, sum(inside), f"{np.mean(z):+.2f}", f"{np.std(z):.2f}", f"{np.sqrt(np.mean(np.square(errors))):.3f}",
             unconverged, f"{time.perf_counter() - began:.0f}"]]  # fmt: skip
    header = [
        "recordings",
        "90% intervals that contain the delay",
        "mean z",
        "sd z",
        "RMS error, bins",
        "not converged",
        "s in all",
    ]
    note = (
        "2 regions x 12 neurons, 15 trials x 40 bins, signal-to-noise 0.3, one across and one within latent per region."
    )
    record(
        "Coverage of delay intervals",
        f"{table(header, rows)}\n\n{note}",
        f"python tests/benchmarks/coverage.py --recordings {args.recordings}",
    )


if __name__ == "__main__":
    main()
