"""One likelihood and its gradient on an accelerator against the processor: both scans, both precisions.

    python tests/benchmarks/accelerator.py [--platform cuda] [--sizes 0,1,2] [--workers 2]

Random recordings; every point runs in a process of its own. The reference of every size is the sequential scan in
double precision on the processor: value and slopes are compared with it. Nothing in the project needs an accelerator.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import record, table
from scaling import BASE, REPEATS, ours

SIZES: list[dict[str, Any]] = [
    {"bins": 50, "regions": 2, "neurons": 40, "trials": 50},
    {"bins": 200, "regions": 3, "neurons": 300, "trials": 200},
    {"bins": 20_000, "regions": 2, "neurons": 100, "trials": 1},
    {"bins": 200, "regions": 12, "neurons": 600, "trials": 100},
    {"bins": 100, "regions": 3, "neurons": 250, "trials": 80, "emission": "poisson"},
    {"bins": 100, "regions": 8, "neurons": 600, "trials": 80, "emission": "poisson"},
]  # fmt: skip
WAYS = ((True, False), (True, True), (False, True))  # on the accelerator: double precision, parallel scan


def measured(size: dict[str, Any], platform: str, double: bool, limit: float) -> dict[str, Any]:
    """One point in a process of its own; ``error`` instead of numbers where it fails."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": platform if platform == "cpu" else f"{platform},cpu",
        "JAX_ENABLE_X64": str(int(double)),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # one process would take the memory of the others
    }
    command = [sys.executable, __file__, "--point", json.dumps({**BASE, **size})]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"more than {limit:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1][:80]}
    return json.loads(done.stdout.splitlines()[-1])


def line(size: dict[str, Any], way: tuple[str, bool, bool], got: dict[str, Any], best: dict[str, Any]) -> list[Any]:
    """A line of the table: ``got`` beside the reference, ``best``."""
    platform, double, parallel = way
    where = [size.get("emission", "gaussian"), *(f"{size[name]:,}" for name in BASE)]
    how = [platform, "float64" if double else "float32", "parallel" if parallel else "sequential"]
    if "error" in got or "error" in best:
        cells = [*where, "", *how, *[""] * 3, got.get("error", "no reference")]
    else:
        off, slope = (abs(got[name] - best[name]) / abs(best[name]) for name in ("value", "slopes"))
        costs = [f"{1e3 * got['seconds']:.1f}", f"{best['seconds'] / got['seconds']:.1f}", f"{got['compile']:.1f}"]
        cells = [*where, got["states"], *how, *costs, f"{off:.0e}, {slope:.0e}"]
    print(cells, flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="cuda")
    parser.add_argument("--sizes", default=",".join(map(str, range(len(SIZES)))))
    parser.add_argument("--workers", type=int, default=1, help="points at the same time: most of a point is compilation")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds after which a point is left out, its turn at the clock waited for")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(ours(json.loads(args.point))))
        return
    sizes = [SIZES[int(part)] for part in args.sizes.split(",")]
    ways = [("cpu", True, False), *((args.platform, double, parallel) for double, parallel in WAYS)]
    with ThreadPoolExecutor(args.workers) as pool:
        points = {
            (i, way): pool.submit(measured, {**size, "parallel": way[2]}, way[0], way[1], args.limit)
            for i, size in enumerate(sizes) for way in ways
        }  # fmt: skip
        rows = [line(sizes[i], way, point.result(), points[i, ways[0]].result()) for (i, way), point in points.items()]
    header = ["values", *BASE, "states", "on", "precision", "scan", "ms", "times the reference's speed", "compilation s",
              "value and steepest slope off, relative"]  # fmt: skip
    note = (
        f"DLAG(2, 1), Window(10). Median of {REPEATS} evaluations of log p(y, parameters) and its gradient, with the copy of "
        "the gradient back; for counts with a search for q from the last one's end. Reference: the first line of each size. "
        f"{args.workers} points compile at the same time, and are timed one after another."
    )
    asked = f"--platform {args.platform} --sizes {args.sizes} --workers {args.workers} --limit {args.limit:g}"
    record("Accelerator", f"{table(header, rows)}\n\n{note}", f"python tests/benchmarks/accelerator.py {asked}")


if __name__ == "__main__":
    main()
