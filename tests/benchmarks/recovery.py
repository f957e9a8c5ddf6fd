"""Delays recovered from data alone, ten seeds, each in a process of its own: wall time from start-up to the end.

python tests/benchmarks/recovery.py [dlag] [dlag_ssm] [--seeds 10]
"""

import argparse
import json
import subprocess
import sys
import time

from common import delay_errors, peak_gb, record, reference, table


def one(name: str, seed: int) -> None:
    """Fit one recording and print the outcome as JSON; run as a process of its own."""
    import numpy as np

    import mrgp

    data = mrgp.load_recording(reference(f"{name}.npz"))
    fit = mrgp.models.DLAG(n_across=2, n_within=1).fit(data, seed=seed, progress=False)
    with np.load(reference(f"{name}_truth.npz")) as truth:
        pairs, first = delay_errors(fit.delays.values / data.bin_width, truth["delay_bins"])
    outcome = {
        "log_likelihood": float(fit.log_likelihood().sum()),
        "log_joint": float(fit.trace[-1]),
        "pairs": pairs,
        "first": first,
        "converged": bool(fit.converged),
        "iterations": fit.iterations,
        "fit_s": fit.wall_s,
        "peak_gb": peak_gb(),
    }
    print(json.dumps(outcome))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["dlag", "dlag_ssm"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        one(args.names[0], args.one)
        return
    for name in args.names:
        rows, joints, worst = [], [], 0.0
        for seed in range(args.seeds):
            began = time.perf_counter()
            command = [sys.executable, __file__, name, "--one", str(seed)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            wall = time.perf_counter() - began
            got = json.loads(done.stdout.splitlines()[-1])
            joints.append(got["log_joint"])
            worst = max(worst, wall)
            rows.append(
                [seed, f"{got['pairs']:.4f}", f"{got['first']:.4f}", f"{got['log_likelihood']:.2f}", f"{got['log_joint']:.2f}",
                 got["converged"], got["iterations"], f"{got['fit_s']:.1f}", f"{wall:.1f}", f"{got['peak_gb']:.2f}"]
            )  # fmt: skip
            print(rows[-1], flush=True)
        header = ["seed", "delay RMSE, pairs", "vs region 1", "log p(y)", "log p(y, parameters)", "converged", "iterations",
                  "fit s", "process s", "peak GB"]  # fmt: skip
        spread = f"Optima differ by {max(joints) - min(joints):.3f} nats; slowest process {worst:.1f} s (start-up and compilation included)."
        body = f"{table(header, rows)}\n\n{spread} Delay errors in bins."
        record(f"Recovery: {name}", body, f"python tests/benchmarks/recovery.py {name} --seeds {args.seeds}")


if __name__ == "__main__":
    main()
