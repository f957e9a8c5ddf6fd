"""Cost of one log-likelihood and its gradient as a recording grows, and of one training iteration of mbrila.

    python tests/benchmarks/scaling.py [bins regions neurons trials] [--peer-python PATH]

Recordings are random numbers: the cost does not depend on them. Every point runs in a process of its own. mbrila, the
peer, is measured where --peer-python names the interpreter of an environment that holds it, apart from this one
(mbrila 0.1.0 asks for Python 3.12):

    python3.12 -m venv peer
    peer/bin/python -m pip install torch==2.13.0 mbrila==0.1.0
    python tests/benchmarks/scaling.py --peer-python peer/bin/python
"""

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import peak_gb, record, table

BASE: dict[str, Any] = {"bins": 200, "regions": 2, "neurons": 100, "trials": 50}
FEW = 4   # trials where one dimension alone fills the memory
SERIES: dict[str, list[dict[str, Any]]] = {
    "bins": [{"bins": bins, "trials": FEW} for bins in (200, 2000, 20_000)],
    "regions": [{"regions": regions, "neurons": 20 * regions} for regions in (2, 5, 10, 20)],
    "neurons": [{"neurons": neurons, "trials": FEW} for neurons in (100, 1000, 10_000)],
    "trials": [{"trials": trials} for trials in (10, 100, 1000)],
}
PEER_SIZES = [
    {"bins": 50, "neurons": 40, "trials": 20},
    {"bins": 200, "neurons": 200, "trials": 5},
    {"bins": 200, "neurons": 200, "trials": 50},
]
PEER_WAYS: dict[str, dict[str, Any]] = {   # bins of its autoregression: the class's default, and its DLAG-SSM demo's
    "defaults: lag 5, parallel scan": {"lag": 5, "sequential": False},
    "lag 5, sequential": {"lag": 5, "sequential": True},
    "lag 2, sequential": {"lag": 2, "sequential": True},
}
PARALLEL_UP_TO = 1000   # bins of all trials; beyond, an iteration of its parallel scan takes too long here
ACROSS, WITHIN, REGISTERS, MAX_DELAY, TIMESCALE = 2, 1, 10, 5.0, 5.0   # the last two in bins
BIN, ORDER = 0.02, 6   # s; states of a latent without its registers
RATE, STRENGTH = 0.3, 0.3   # of counts: mean of a bin, and sd of a loading on log-rates
REPEATS = 5


def recording(size: dict[str, Any]) -> list[np.ndarray]:
    """One (trial, bin, neuron) array of white noise per region."""
    rng = np.random.default_rng(0)
    share = size["neurons"] // size["regions"]
    return [rng.standard_normal((size["trials"], size["bins"], share)) for _ in range(size["regions"])]


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that one call takes, by the clock and of all cores together."""
    began, worked = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - worked


@contextmanager
def alone(device: str) -> Iterator[None]:
    """Points may compile beside each other; on one device they are timed one after another."""
    with (Path(tempfile.gettempdir()) / f"mrgp-timed-on-{device}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ours(size: dict[str, Any]) -> dict[str, Any]:
    """Compile and time log p(y, parameters) with its gradient, exactly as a fit calls it."""
    import jax

    import mrgp
    from mrgp.inference.density import LogJoint
    from mrgp.inference.optimise import Objective

    rng = np.random.default_rng(1)
    regions = {f"region{r}": values for r, values in enumerate(recording(size))}
    emission = size.get("emission", "gaussian")
    if emission != "gaussian":
        regions = {name: rng.poisson(RATE, values.shape) for name, values in regions.items()}
    data = mrgp.MultiRegionData(regions, BIN)
    model = mrgp.models.DLAG(
        n_across=ACROSS, n_within=WITHIN, max_delay=MAX_DELAY * BIN, order=ORDER, window=mrgp.Window(REGISTERS),
        parallel=size.get("parallel", False), emission=emission,
    )
    neurons, count = data.layout.total_neurons, size["regions"]
    delays = rng.uniform(-2, 2, (count, ACROSS)) * BIN
    delays[0] = 0.0
    strength = 1.0 if emission == "gaussian" else STRENGTH
    sites = model.params_from(
        data.layout,
        loadings={name: rng.standard_normal((values.shape[2], ACROSS + WITHIN)) * strength for name, values in regions.items()},
        noise=np.ones(neurons) if emission == "gaussian" else None,
        offset=np.full(neurons, 0.0 if emission == "gaussian" else np.log(RATE)),
        timescale_across=TIMESCALE * BIN * np.array([1.0, 0.8]),
        timescale_within=np.full(count * WITHIN, TIMESCALE * BIN),
        delays=delays,
    )
    objective = Objective(LogJoint(model), data, sites, model.fitting.scales(data, sites))
    x = np.zeros(objective.size)
    before = peak_gb()
    first, _ = timed(lambda: objective(x))
    with alone(jax.default_backend()):
        times = [timed(lambda: objective(x)) for _ in range(REPEATS)]
    seconds, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    value, gradient = objective(x)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise FloatingPointError("the likelihood or its gradient is not finite")
    states = model.state_space(data.layout).n_states
    return {
        "seconds": seconds, "cpu": cpu, "compile": first - seconds, "peak": peak_gb(), "before": before,
        "parameters": objective.size, "states": states, "value": value, "slopes": np.abs(gradient).max(),
    }   # fmt: skip


def peer(size: dict[str, Any]) -> dict[str, Any]:
    """Time mbrila's iterations from one optimizer step to the next; runs in mbrila's environment."""
    import mbrila
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)   # on shared cores two wait for each other: the same iteration took 0.08 to 5 s
    y = torch.as_tensor(np.concatenate(recording(size), axis=2))
    count = size["regions"]
    data = mbrila.core.data.MultiRegionData(y=y, y_dims=(size["neurons"] // count,) * count, bin_width=1e3 * BIN)
    model = mbrila.DLAG(
        latent_spec=mbrila.LatentSpec(n_across=ACROSS, n_within=(WITHIN,) * count),
        y_dims=data.y_dims,
        T=size["bins"],
        kernel_factory_across=lambda: mbrila.MOSEKernel(num_regions=count, init_sigma=TIMESCALE**-2),
        kernel_factory_within=lambda: mbrila.MOSEKernel(num_regions=1, init_sigma=TIMESCALE**-2),
        max_delay=MAX_DELAY,
        engine="kalman",
        engine_override=mbrila.KalmanEMEngine(use_parallel=False if size["sequential"] else None),
        lag_across=size["lag"],
        lag_within=2,
        device="cpu",
        dtype=torch.float64,
    )
    model.initialize_from_data(data, mode="pcca")
    before = peak_gb()
    stamps: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(lambda *_: stamps.append((time.perf_counter(), time.process_time())))
    model.fit(data, max_iter=REPEATS + 2, tol=0.0)   # the first iteration is the warm-up
    seconds, cpu = np.median(np.diff(stamps[1:], axis=0), axis=0).tolist()
    states = model.dynamics.H_select.shape[-1]
    return {
        "seconds": seconds, "cpu": cpu, "peak": peak_gb(), "before": before, "states": states, "torch": torch.__version__
    }   # fmt: skip


def run(size: dict[str, Any], peer_python: str | None = None) -> dict[str, Any]:
    """Measure one point in a process of its own; ``error`` instead of numbers where the peer fails."""
    size = {**BASE, **size}
    kind = "ours" if peer_python is None else "peer"
    command = [peer_python or sys.executable, __file__, "--point", json.dumps({"kind": kind, **size})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and kind == "ours":
        raise SystemExit(done.stderr)
    failed = {"error": (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]}
    got: dict[str, Any] = failed if done.returncode else json.loads(done.stdout.splitlines()[-1])
    print(kind, size, got, flush=True)
    return {**size, **got}


def exponents(name: str, points: Sequence[dict[str, Any]]) -> list[str]:
    """Log-log slopes of clock and processor seconds: between the last two points, and from the first to the last."""
    x = np.log([point[name] for point in points])
    logs = [np.log([point[key] for point in points]) for key in ("seconds", "cpu")]
    return [f"{(y[-1] - y[i]) / (x[-1] - x[i]):.2f}" for i in (-2, 0) for y in logs]


def growth(names: Sequence[str], load: str, command: str) -> None:
    """Measure and record the series of ``names``."""
    rows, slopes, measured = [], [], {}
    for name in names:
        points = []
        for size in SERIES[name]:
            key = json.dumps({**BASE, **size})
            point = measured[key] = measured.get(key) or run(size)
            points.append(point)
            where = [name, *(f"{point[key]:,}" for key in BASE)]
            numbers = [f"{point['seconds']:.4f}", f"{point['cpu']:.4f}", f"{point['compile']:.1f}"]
            memory = [f"{point['peak']:.2f}", f"{point['before']:.2f}"]
            rows.append([*where, point["states"], f"{point['parameters']:,}", *numbers, *memory])
        slopes.append([name, f"{points[0][name]:,} to {points[-1][name]:,}", *exponents(name, points)])
    costs = ["seconds", "CPU s", "compilation s", "peak GB", "before GB"]
    header = ["series", *BASE, "states", "parameters", *costs]
    between = ["exponent, last two points", "of CPU s", "exponent, whole range", "of CPU s"]
    summary = table(["series", "range", *between], slopes)
    note = (
        f"DLAG, {ACROSS} across and {WITHIN} within latents per region, squared exponential of about {TIMESCALE:g} "
        f"bins, Window({REGISTERS}), order {ORDER}, sequential scan. Seconds: median of {REPEATS} evaluations of "
        "log p(y, parameters) and its gradient; CPU s: of all cores together. Peak memory of a process with this one "
        f"point, compilation included; 'before' is the peak up to the first evaluation (imports, data). {load}"
    )
    record("Cost of one likelihood and gradient", f"{summary}\n\n{table(header, rows)}\n\n{note}", command)


def against_peer(peer_python: str, load: str, command: str) -> None:
    """Measure both packages on the same recordings, one after the other."""
    rows, version = [], "?"
    for size in PEER_SIZES:
        few = size["bins"] * size["trials"] <= PARALLEL_UP_TO
        mine = run(size)
        ways = {f"mbrila, {name}": way for name, way in PEER_WAYS.items() if few or way["sequential"]}
        theirs = {label: run({**size, **way}, peer_python) for label, way in ways.items()}
        for label, got in {"mrgp": mine, **theirs}.items():
            where = [label, *(f"{got[key]:,}" for key in BASE)]
            if "error" in got:
                rows.append([*where, *["-"] * 5, got["error"]])
                continue
            version = got.get("torch", version)
            ratio = f"{got['seconds'] / mine['seconds']:.1f}"
            numbers = [f"{got[key]:.3f}" for key in ("seconds", "cpu")]
            rows.append([*where, got["states"], *numbers, ratio, f"{got['peak']:.2f}", f"{got['before']:.2f}"])
    header = ["package", *BASE, "states", "seconds per iteration", "CPU s", "times ours", "peak GB", "before GB"]
    note = (
        f"mbrila 0.1.0 on torch {version}, CPU, one thread (two gave 0.08 to 5 s for one and the same iteration while "
        "others used the cores); ours as it comes: compare CPU s. DLAG(engine='kalman'), float64, started by its "
        f"pCCA; median of {REPEATS} intervals between optimizer steps, each one smoother pass and one gradient of the "
        "expected joint log-likelihood (generalized EM). Ours: one marginal log-likelihood and its gradient, as in "
        "the table of cost. Both on the same random recordings. Its parallel scan is its default on every device; "
        f"it was left out beyond {PARALLEL_UP_TO:,} bins in all. An iteration of one is not worth an iteration of "
        "the other, and the approximations differ: this compares cost, not results. 'Before' is the peak up to the "
        f"first iteration. {load}"
    )
    record("Against the peer", f"{table(header, rows)}\n\n{note}", command + " --peer-python PATH")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SERIES), help=f"of {', '.join(SERIES)}; all")
    parser.add_argument("--peer-python", metavar="PATH", help="interpreter of an environment with mbrila; none skips it")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        size = json.loads(args.point)
        print(json.dumps({"ours": ours, "peer": peer}[size.pop("kind")](size)))
        return
    load = f"Load average of the machine before the run: {os.getloadavg()[0]:.1f}."
    command = " ".join(["python tests/benchmarks/scaling.py", *(args.names if args.names != list(SERIES) else [])])
    growth(args.names, load, command)
    if args.peer_python:
        against_peer(args.peer_python, load, command)
    else:
        print("The peer is skipped: --peer-python PATH names the interpreter of an environment with mbrila.")


if __name__ == "__main__":
    main()
