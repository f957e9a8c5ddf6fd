"""Is the comparison of delay hypotheses calibrated? Recordings whose truth is known, compared blindly.

python tests/benchmarks/hypotheses.py [--recordings 50] [--keep hypotheses.jsonl]

Truths: no delay; a constant one of 0.3, 0.5 and 1 bin, of either sign; one that moves. Every comparison is kept in a
file as it ends, and a run that finds the file goes on from there.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from common import record, table

import mrgp
from mrgp.simulations.simulate import simulate

BIN = 0.02
TRUTHS = ("none", "constant 0.3", "constant 0.5", "constant 1", "varying")
NAMES = ("none", "constant", "varying")


def recording(truth: str, seed: int) -> mrgp.MultiRegionData:
    """2 regions x 10 neurons, 30 trials x 50 bins; one across latent of 0.1 s, one within latent each of 0.08 s."""
    sign = 1 if seed % 2 else -1
    size = {"none": 0.0, "varying": 2.0}.get(truth) if truth in ("none", "varying") else float(truth.split()[1])
    shape = {"delay_shape": "gaussian_bump", "shape_parameters": {"center": 0.5, "width": 0.2}} if truth == "varying" else {}
    delay = np.array([[0.0], [sign * size * BIN]])
    return simulate(
        regions={"V1": 10, "V2": 10}, n_across=1, n_within=1, n_trials=30, n_bins=50, bin_width=BIN, delay=delay,
        timescale_across=0.1, timescale_within=0.08, snr=0.5, seed=1000 * TRUTHS.index(truth) + seed, **shape,
    ).data  # fmt: skip


def compared(truth: str, seed: int) -> dict[str, object]:
    """What one comparison says."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mrgp.compare_delays(
            recording(truth, seed), n_across=1, n_within=1, max_delay=0.1, delay_timescale=0.2, window=mrgp.Window(6, 2),
            n_draws=500, seed=seed, progress=False,
        )  # fmt: skip
    constant = mrgp.delay_table(found.fits["constant"], probability=0.95).iloc[0]
    return {
        "truth": truth, "seed": seed, "probability": found.table["probability"].to_dict(),
        "elpd_diff": found.table["elpd_diff"].to_dict(), "dse": found.table["dse"].to_dict(),
        "excludes_0": bool(constant.lower_ms > 0 or constant.upper_ms < 0), "z": constant.delay_ms / constant.sd_ms,
        "log_bayes_factor": constant.log_bayes_factor, "right_way": bool((constant.delay_ms > 0) == (seed % 2 == 1)),
        "k": float(found.table["pareto_k"].max()), "converged": bool(found.table["converged"].all()),
        "varies": float(found.changes["varies"].iloc[0]), "seconds": time.perf_counter() - began,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=50)
    parser.add_argument("--keep", type=Path, default=Path("hypotheses.jsonl"))
    args = parser.parse_args()
    done = [json.loads(line) for line in args.keep.read_text().splitlines()] if args.keep.is_file() else []
    known = {(row["truth"], row["seed"]) for row in done}
    for seed in range(args.recordings):
        for truth in TRUTHS:
            if (truth, seed) not in known:
                done.append(compared(truth, seed))
                with args.keep.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    rows = []
    for truth in TRUTHS:
        own = [row for row in done if row["truth"] == truth and row["seed"] < args.recordings]
        best = [max(row["probability"], key=row["probability"].get) for row in own]
        elpd = [max(row["elpd_diff"], key=lambda name, row=row: -abs(row["elpd_diff"][name])) for row in own]
        share = lambda values: f"{np.mean(values):.2f}"  # noqa: E731
        rows.append([
            truth, len(own), *(best.count(name) for name in NAMES),
            share([row["probability"]["none"] for row in own]), share([row["excludes_0"] for row in own]),
            share([row["log_bayes_factor"] > 0 for row in own]), share([row["log_bayes_factor"] > np.log(3) for row in own]),
            share([abs(row["elpd_diff"]["none"]) > 2 * row["dse"]["none"] and elpd[i] != "none" for i, row in enumerate(own)]),
            "-" if truth in ("none", "varying") else share([row["right_way"] for row in own]),
            f"{np.mean(np.square([row['z'] for row in own])):.2f}" if truth == "none" else "-",
            f"{np.median([row['seconds'] for row in own]):.1f}", sum(not row["converged"] for row in own),
        ])  # fmt: skip
    header = [
        "truth", "recordings", "most probable: none", "constant", "varying", "mean P(none)", "95% interval without 0",
        "Bayes factor > 1", "> 3", "elpd prefers a delay by 2 se", "sign right", "mean square z", "s each", "not converged",
    ]  # fmt: skip
    body = f"{table(header, rows)}\n\n{recording.__doc__} Signal-to-noise 0.5; delays known to about 0.14 bins; equal prior "
    body += "probabilities; delays uniform within 5 bins a priori. Varying: a bump of 2 bins. Compiled programs are shared."
    record("Delay hypotheses", body, f"python tests/benchmarks/hypotheses.py --recordings {args.recordings}")


if __name__ == "__main__":
    main()
