"""Seconds from a recording to its delays with intervals, in a fresh process: fit, first latents, intervals.

    python tests/benchmarks/intervals.py [--recordings dlag,dlag_ssm,v1v2,visual_psth]

Nothing compiled is kept from before: compilation is in every number. Evaluations are those of log p, or its bound, and
its gradient; of counts the last number is of those with pseudo-observations held, which are cheaper. v1v2, visual and
visual_psth are the fits of counts_speed.py.
"""

import argparse
import json
import sys
import time

from common import in_fresh_process, record, reference, table
from counts_speed import WORKS, work
from mrgp.models import DLAG

import mrgp
from mrgp.inference.mode import products
from mrgp.inference.optimise import Objective

MODEL = {"n_across": 2, "n_within": 1}


def one(name: str) -> None:
    """Fit, ask for latents and intervals, and print how long each took."""
    if name in WORKS:
        data, model, asked = work(name)
        asked |= {"n_starts": 1}
    else:
        data, model, asked = mrgp.load_recording(reference(f"{name}.npz")), DLAG(**MODEL), {}
    seconds, evaluations, held = [], [0], [0]
    evaluate, evaluate_held = Objective.__call__, products.held_at

    def counted(objective: Objective, x: object) -> object:
        evaluations[-1] += 1
        return evaluate(objective, x)  # type: ignore[arg-type]

    def counted_held(*args: object) -> object:
        held[0] += 1
        return evaluate_held(*args)

    Objective.__call__ = counted  # type: ignore[method-assign, assignment]
    products.held_at = counted_held  # type: ignore[attr-defined]
    began, processor = time.perf_counter(), time.process_time()
    fit = model.fit(data, progress=False, **asked)
    processors = [time.process_time() - processor]
    for ask in (fit.latents, fit.delay_intervals):
        seconds.append(time.perf_counter() - began)
        began, processor = time.perf_counter(), time.process_time()
        evaluations.append(0)
        ask()
    seconds.append(time.perf_counter() - began)
    processors.append(time.process_time() - processor)
    print(json.dumps([*seconds, *processors, evaluations[0], evaluations[-1], held[0], fit.curvature().positive, fit.trace[-1]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", default="dlag,dlag_ssm")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    rows = []
    for name in args.recordings.split(","):
        found = in_fresh_process(__file__, name)
        seconds, (*counts, sound, reached) = found[:5], found[5:]
        rows.append([name, *(f"{value:.1f}" for value in seconds), *counts, "yes" if sound else "no", f"{reached:.4f}"])
        print(rows[-1], flush=True)
    header = ["recording", "fit s", "latents s", "intervals s", "fit CPU s", "intervals CPU s"]
    header += ["evaluations, fit", "intervals", "held", "sound", "log p(y, parameters) or bound, nats"]
    record("From a recording to intervals", table(header, rows), "python " + " ".join(["tests/benchmarks/intervals.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
