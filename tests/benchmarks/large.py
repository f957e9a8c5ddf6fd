"""Memory and seconds of a large recording: log p(y, parameters) and its gradient, and with --fit a whole fit.

    python tests/benchmarks/large.py [--trials 1000 --bins 500 --neurons 2000] [--fit]

Whole numbers of two regions, drawn from a DLAG(5, 2) and rounded, are written to a file some trials at a time and
mapped from there. Peaks are of the whole process, the recording and what made it included.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import delay_errors, peak_gb, record, table
from mrgp.models import DLAG

import mrgp
from mrgp.inference.adaptation import MARGIN
from mrgp.inference.density import LogJoint
from mrgp.inference.optimise import Objective
from mrgp.likelihoods.base import mean_given
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import stand_in

MODEL = DLAG(5, 2)
BIN_WIDTH = 0.02  # seconds
DELAYS = (0.03, -0.02, 0.0, 0.05, -0.045)  # seconds, of the second region
TIMESCALES = (0.08, 0.12, 0.2, 0.3, 0.15), (0.1, 0.06, 0.1, 0.06)  # across, within
MEAN, NOISE = 8.0, 4.0  # of a neuron's values, and variance: few are rounded up to 0
SIGNAL = 0.3  # sd of a loading
AT_ONCE = 10  # trials
EVALUATIONS = 3


def truth(layout: Layout, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Sites of the model that counts are drawn from."""
    neurons = layout.total_neurons
    return {
        "loadings": SIGNAL * rng.standard_normal((neurons, 7)),
        "noise": np.full(neurons, NOISE),
        "offset": np.full(neurons, MEAN),
        "delay": np.array([DELAYS]),
        "timescale_across": np.array(TIMESCALES[0]),
        "timescale_within": np.array(TIMESCALES[1]),
    }


def write(path: Path, layout: Layout, n_trials: int, n_bins: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Write numbers (trial, time, neuron) into a file, regions side by side; returns the sites behind them."""
    sites, frame = truth(layout, rng), stand_in(layout, AT_ONCE, n_bins)
    distribution = MODEL.fitting.adapted(frame, sites, 1.0).likelihood_at(frame, sites)
    counts = np.lib.format.open_memmap(path, "w+", np.uint8, (n_trials, n_bins, layout.total_neurons))
    for first in range(0, n_trials, AT_ONCE):
        mean = mean_given(distribution, distribution.draw_readouts(rng)[1])[: n_trials - first]
        drawn = mean + np.sqrt(NOISE) * rng.standard_normal(mean.shape, np.float32)
        counts[first : first + AT_ONCE] = np.clip(np.rint(drawn), 0, 255)
    counts.flush()
    return sites


def evaluated(data: mrgp.MultiRegionData, sites: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """Seconds until the first value and gradient beyond those of one, seconds of one, and log p."""
    model = MODEL.fitting.adapted(data, sites, MARGIN)
    objective = Objective(LogJoint(model), data, sites, model.fitting.scales(data, sites))
    seconds, values = [], []
    for step in range(1 + EVALUATIONS):
        began = time.perf_counter()
        values.append(objective(np.full(objective.size, 1e-3 * step))[0])
        seconds.append(time.perf_counter() - began)
    usual = float(np.median(seconds[1:]))
    return seconds[0] - usual, usual, -values[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--bins", type=int, default=500)
    parser.add_argument("--neurons", type=int, default=2000)
    parser.add_argument("--fit", action="store_true", help="fit the model, too")
    args = parser.parse_args()
    half = args.neurons // 2
    layout = Layout(("V1", "V2"), (half, args.neurons - half), BIN_WIDTH)
    rows = []

    def note(what: str, seconds: float, more: object = "") -> None:
        rows.append([what, f"{seconds:.1f}", f"{peak_gb():.2f}", more])
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder) / "counts.npy", time.perf_counter()
        sites = write(path, layout, args.trials, args.bins, np.random.default_rng(0))
        note("simulated into a file", time.perf_counter() - began)
        began, counts = time.perf_counter(), np.load(path, mmap_mode="r")
        data = mrgp.MultiRegionData({"V1": counts[..., :half], "V2": counts[..., half:]}, BIN_WIDTH)
        assert np.shares_memory(data.values, counts)
        note("recording made, mapped", time.perf_counter() - began, f"{data.values.nbytes / 1e9:.2f} GB as {data.values.dtype}")
        compiling, usual, value = evaluated(data, sites)
        note("compiling log p and its gradient", compiling)
        note("one value and gradient", usual, f"log p = {value:.2f} nats")
        if args.fit:
            began = time.perf_counter()
            fit = MODEL.fit(data, progress=True)
            errors = delay_errors(fit.delays.values / BIN_WIDTH, np.array([[0.0] * len(DELAYS), DELAYS]) / BIN_WIDTH)
            found = f"{fit.evaluations} evaluations, {fit.reason}; delays to {errors[1]:.4f} bins; log p = {fit.trace[-1]:.2f} nats"
            note("whole fit", time.perf_counter() - began, found)
    header = ["step", "s", "peak GB so far", ""]
    size = f"{args.trials} trials x {args.bins} bins x {args.neurons} neurons of two regions; DLAG(5, 2), Gaussian noise"
    name = "Large recording" + (", a fit" if args.fit else "")
    record(name, f"{size}.\n\n{table(header, rows)}", "python " + " ".join(["tests/benchmarks/large.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
