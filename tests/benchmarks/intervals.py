"""Seconds from a recording to its delays with intervals, in a fresh process: fit, first latents, intervals.

    python tests/benchmarks/intervals.py [--recordings dlag,dlag_ssm]

Nothing compiled is kept from before: compilation is in every number. Evaluations are those of log p and its gradient.
"""

import argparse
import json
import sys
import time

from common import in_fresh_process, record, reference, table
from mrgp.models import DLAG

import mrgp
from mrgp.inference.optimise import Objective

MODEL = {"n_across": 2, "n_within": 1}


def one(name: str) -> None:
    """Fit, ask for latents and intervals, and print how long each took."""
    data = mrgp.load_recording(reference(f"{name}.npz"))
    seconds, evaluations, evaluate = [], [0], Objective.__call__

    def counted(objective: Objective, x: object) -> object:
        evaluations[-1] += 1
        return evaluate(objective, x)  # type: ignore[arg-type]

    Objective.__call__ = counted  # type: ignore[method-assign, assignment]
    began = time.perf_counter()
    fit = DLAG(**MODEL).fit(data, progress=False)
    for ask in (fit.latents, fit.delay_intervals):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        evaluations.append(0)
        ask()
    seconds.append(time.perf_counter() - began)
    print(json.dumps([*seconds, evaluations[0], evaluations[-1], fit.trace[-1]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", default="dlag,dlag_ssm")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    rows = []
    for name in args.recordings.split(","):
        *seconds, of_fit, of_intervals, reached = in_fresh_process(__file__, name)
        rows.append([name, *(f"{value:.1f}" for value in seconds), of_fit, of_intervals, f"{reached:.4f}"])
        print(rows[-1], flush=True)
    header = ["recording", "fit s", "latents s", "intervals s", "evaluations, fit", "intervals", "log p(y, parameters), nats"]
    record("From a recording to intervals", table(header, rows), "python " + " ".join(["tests/benchmarks/intervals.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
