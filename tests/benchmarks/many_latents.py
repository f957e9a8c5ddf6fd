"""Seconds of fits of many latents from the data alone, compilation included.

    python tests/benchmarks/many_latents.py [--works mdlag8,gfa20,npx_spectral,npx_markov] [--limit 600]

mdlag8: MDLAG(8) under the Markov likelihood, 300 trials of v1v2_smoothed. gfa20: GFA(20) with a mean over the
trial, the same trials. npx: MDLAG(30) of a recording drawn from a published fit of V1, V2 and V3 (225 trials x
64 bins, 388 neurons), whose sets of regions, delays and timescales are known. Every fit is by
"vb", in a process of its own with nothing compiled before, and is given up after --limit seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import in_fresh_process, record, reference, table
from mrgp.models import GFA, MDLAG
from scipy.optimize import linear_sum_assignment

import mrgp

WORKS = {"mdlag8": "120", "gfa20": "30", "npx_spectral": "120", "npx_markov": "600"}
"""And the seconds that each may take."""
ACTIVE = 0.02  # of a region's shared variance: a latent that explains less is not read there
SAME = 0.5  # correlation of loadings from which on a latent is one of the truth's


def work(name: str) -> tuple[mrgp.MultiRegionData, MDLAG | GFA]:
    """The recording and the model of a piece of work."""
    if name.startswith("npx"):
        folder = Path(tempfile.gettempdir())
        if not (folder / "npx.npz").is_file():
            subprocess.run([sys.executable, str(reference("make_npx.py")), str(folder)], check=True)
        return mrgp.load_recording(folder / "npx.npz"), MDLAG(30, likelihood=name.removeprefix("npx_"))
    data = mrgp.load_recording(reference("v1v2_smoothed.npz")).select_trials(slice(0, 300))
    return data, MDLAG(8) if name == "mdlag8" else GFA(20, mean="psth")


def against_truth(fit: Any) -> dict[str, float]:
    """How many latents of the truth were found, with the right regions, and how far off delays and timescales are."""
    truth = np.load(reference("npx_truth.npz"))
    layout = fit.layout
    parts = list(layout.region_slices.values())

    def read(loadings: np.ndarray) -> np.ndarray:
        """Whether a region reads a latent, (region, latent)."""
        return np.stack([share / max(share.sum(), 1e-300) for share in ((loadings[part] ** 2).sum(0) for part in parts)]) > ACTIVE

    found, true = np.asarray(fit.sites["loadings"]), truth["loadings"]
    active = np.flatnonzero(read(true).any(0))
    norm = lambda matrix: matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)  # noqa: E731
    weights = 1 / np.sqrt(np.asarray(fit.sites["noise"]))[:, None]
    alike = np.abs(norm(found * weights).T @ norm(true[:, active] * weights))
    rows, columns = linear_sum_assignment(-alike)
    same = alike[rows, columns] > SAME
    rows, columns = rows[same], active[columns[same]]
    sets = (read(found)[:, rows] == read(true)[:, columns]).all(0)
    ours = 1e3 * np.asarray(fit.delays.values)[:, rows]
    theirs = 20.0 * (truth["delay_bins"] - truth["delay_bins"][:1])[:, columns]
    first = read(true)[0, columns] & read(found)[0, rows]
    both = read(true)[:, columns] & read(found)[:, rows] & first
    both[0] = False
    timescale = 1e3 * np.asarray(fit.timescales["across"].values)[rows] / (20.0 * truth["lengthscale_bins"][columns])
    return {
        "active": len(active), "found": int(same.sum()), "sets": int(sets.sum()),
        "delay": float(np.median(np.abs(ours - theirs)[both])) if both.any() else float("nan"),
        "timescale": float(np.median(np.abs(timescale - 1))),
    }  # fmt: skip


def one(name: str) -> None:
    """Fit, and print what came of it."""
    data, model = work(name)
    began = time.perf_counter()
    fit = model.fit(data, method="vb", seed=0, progress=False)
    found = {
        "s": time.perf_counter() - began, "evaluations": fit.evaluations, "height": float(fit.trace[-1]),
        "latents": fit.assignment.n_across,
    }  # fmt: skip
    print(json.dumps(found | (against_truth(fit) if name.startswith("npx") else {})))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of each fit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one)
    rows = []
    for name in args.works.split(","):
        got = in_fresh_process(__file__, name, args.limit)
        if got is None:
            rows.append([name, f"over {args.limit:.0f}", WORKS[name], *[""] * 5])
            print(rows[-1], flush=True)
            continue
        truth = f"{got['found']} of {got['active']}, {got['sets']} with its regions" if "sets" in got else ""
        off = f"{got['delay']:.1f} ms, {100 * got['timescale']:.1f}%" if "sets" in got else ""
        rows.append([name, f"{got['s']:.0f}", WORKS[name], got["evaluations"], f"{got['height']:.1f}", got["latents"], truth, off])
        print(rows[-1], flush=True)
    header = ["work", "s", "goal s", "evaluations", "bound or log p(y, parameters), nats", "latents", "of the truth found", "delays, timescales off, median"]
    note = f"A latent is read by a region where it explains more than {ACTIVE:.0%} of its shared variance."
    record("Many latents", table(header, rows) + "\n\n" + note, "python " + " ".join(["tests/benchmarks/many_latents.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
