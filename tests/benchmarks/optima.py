"""How often the default fit ends where a fit started at the truth does: random recordings with long delays.

    python tests/benchmarks/optima.py [--recordings 50] [--only 3,7]

Two or three regions, one to three across latents with delays of up to 12 bins (the default bound is 5), one within
latent per region; drawn from dense Gaussian processes, independently of the library's own simulation.
"""

import argparse
import time
import warnings
from types import SimpleNamespace

import jax
import numpy as np
from common import record, table
from mrgp.models import DLAG

import mrgp

BIN, LONGEST = 0.02, 12.0


def covariance(at: np.ndarray, timescale: float) -> np.ndarray:
    return 0.999 * np.exp(-0.5 * ((at[:, None] - at) / timescale) ** 2) + 1e-3 * np.eye(len(at))


def recording(seed: int) -> tuple[mrgp.MultiRegionData, dict[str, np.ndarray]]:
    """A recording and its parameters as the model's sites."""
    rng = np.random.default_rng(1000 + seed)
    regions, latents, n_trials = 2 + seed % 2, 1 + seed // 2 % 3, 30
    n_bins = int(rng.choice([40, 60]))
    sizes = rng.integers(8, 13, regions)
    delay = np.concatenate([np.zeros((1, latents)), rng.uniform(-LONGEST, LONGEST, (regions - 1, latents))])
    across, within = (np.exp(rng.uniform(np.log(2), np.log(6), count)) for count in (latents, regions))
    bins = np.arange(n_bins)
    loadings = [rng.standard_normal((size, latents + 1)) for size in sizes]
    y = [np.zeros((n_trials, n_bins, size)) for size in sizes]
    for k in range(latents):
        root = np.linalg.cholesky(covariance(np.concatenate([bins - late for late in delay[:, k]]), across[k]))
        x = (root @ rng.standard_normal((len(root), n_trials))).T.reshape(n_trials, regions, n_bins)
        for r in range(regions):
            y[r] += x[:, r, :, None] * loadings[r][:, k]
    for r in range(regions):
        root = np.linalg.cholesky(covariance(bins, within[r]))
        w = (root @ rng.standard_normal((n_bins, n_trials))).T
        y[r] += w[:, :, None] * loadings[r][:, latents] + 1.2 * rng.standard_normal(y[r].shape)
    data = mrgp.MultiRegionData({f"region {r + 1}": part for r, part in enumerate(y)}, BIN)
    truth = {
        "delay": BIN * delay[1:], "timescale_across": BIN * across, "timescale_within": BIN * within,
        "loadings": np.concatenate(loadings), "noise": np.full(data.layout.total_neurons, 1.44),
        "offset": np.asarray(data.center),
    }  # fmt: skip
    return data, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=50)
    parser.add_argument("--only", help="seeds, comma-separated; prints them and leaves the table of results alone")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    seeds = [int(part) for part in args.only.split(",")] if args.only else range(args.recordings)
    rows, gaps, seconds = [], [], []
    for seed in seeds:
        data, truth = recording(seed)
        latents = truth["delay"].shape[1]
        began = time.perf_counter()
        fit = DLAG(latents, 1).fit(data, progress=False)
        middle = time.perf_counter()
        wide = DLAG(latents, 1, max_delay=(LONGEST + 2) * BIN)
        at_truth = SimpleNamespace(model=wide, sites=truth, layout=data.layout)
        best = wide.fit(data, start=at_truth, progress=False)
        ended = time.perf_counter()
        gap = float(best.log_likelihood().sum() - fit.log_likelihood().sum())
        gaps.append(gap)
        seconds.append(middle - began)
        rows.append([
            str(seed), f"{data.layout.n_regions}", f"{latents}", f"{data.n_bins}", f"{gap:+.2f}", f"{middle - began:.1f}",
            f"{ended - middle:.1f}", f"{np.abs(truth['delay']).max() / BIN:.1f}",
        ])  # fmt: skip
        print(" ".join(rows[-1]), flush=True)
        jax.clear_caches()  # programs of fifty shapes do not fit beside each other
    reached = int(np.sum(np.array(gaps) < 1))
    heads = ["seed", "regions", "across latents", "bins", "nats below the fit from the truth", "fit s", "from the truth s",
             "longest delay, bins"]  # fmt: skip
    note = (
        f"{reached} of {len(gaps)} default fits end within 1 nat of the fit that started at the truth, or above it; "
        f"median {np.median(seconds):.1f} s a fit, compilation included (from the truth without a search)."
    )
    print(note)
    if args.only is None:
        command = f"python tests/benchmarks/optima.py --recordings {args.recordings}"
        record("Optima of delays beyond the default bound", f"{note}\n\n{table(heads, rows)}", command)


if __name__ == "__main__":
    main()
