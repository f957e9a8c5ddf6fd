"""Hidden neurons of real recordings by Poisson regression on components of the others, in bits per spike.

    python tests/benchmarks/component_regression.py [--draws 5]

Of each recording the six largest regions of 20 neurons or more; 80% of the trials train, 20% are scored. A quarter of
each region's neurons of 1 Hz or more in training is hidden and predicted from all others, and from those of the other
regions only. Trials are divided and neurons drawn anew so many times, by seeds 0, 1, ..., as scores depend on both.

    bits per spike = (log p(y | rate) - log p(y | training mean)) / (spikes log 2),        p Poisson.
"""

import argparse
import time

import numpy as np
from common import record, reference, table
from scipy.special import xlogy

import mrgp
from mrgp.metrics import split_trials
from mrgp.metrics.baselines import ridge, training_psth
from mrgp.metrics.component_regression import component_regression
from mrgp.metrics.scorer import Predictor
from mrgp.recordings.preprocessing import smooth_over_time

SESSIONS = ("steinmetz_1", "steinmetz_3", "steinmetz_12", "steinmetz_13")
REGIONS, FEWEST = 6, 20
SHARE, SLOWEST = 0.25, 1.0  # of neurons hidden; Hz
LEAST = 0.02  # of a neuron's mean count: the least rate that a prediction may say, for all alike
PSTH_SMOOTHING = 3.0  # bins
REFERENCE = {"steinmetz_1": (0.408, 0.386), "steinmetz_12": (0.175, 0.164), "steinmetz_13": (0.170, 0.151)}
"""Reference with its own division of trials and hidden neurons: from all others, from other regions only; none of one recording."""


def largest(name: str) -> mrgp.MultiRegionData:
    """The recording's largest regions."""
    data = mrgp.load_recording(reference(f"{name}.npz"), drop_dead=None)
    sizes = dict(zip(data.layout.regions, data.layout.n_neurons, strict=True))
    chosen = sorted((r for r in sizes if sizes[r] >= FEWEST), key=lambda r: -sizes[r])[:REGIONS]
    return data.select_neurons({r: [] for r in sizes if r not in chosen})


def drawn(train: mrgp.MultiRegionData, seed: int) -> dict[str, np.ndarray]:
    """Hidden neurons of each region, by position."""
    rng, hertz = np.random.default_rng(seed), train.center / train.bin_width
    hidden = {}
    for region, part in train.layout.region_slices.items():
        able = np.flatnonzero(hertz[part] >= SLOWEST)
        hidden[region] = np.sort(rng.choice(able, max(1, round(SHARE * len(able))), replace=False))
    return hidden


def bits(
    method: Predictor, train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, hidden: dict[str, np.ndarray], region_by_region: bool
) -> float:
    """Bits per spike of all hidden neurons."""
    gained = spikes = 0.0
    every = {region: np.arange(n) for region, n in zip(test.layout.regions, test.layout.n_neurons, strict=True)}
    sets = [{region: every[region]} for region in hidden] if region_by_region else [hidden]
    for away in sets:
        found = method.predict(test.without(away))
        for region in away:
            own = hidden[region]
            counts, mean = test.region(region)[..., own], train.region(region)[..., own].mean((0, 1))
            rate = np.maximum(found[f"{region}_mean"].values[..., own], LEAST * mean)
            gained += (xlogy(counts, rate) - rate).sum() - (xlogy(counts, mean) - mean).sum()
            spikes += counts.sum()
    return gained / (spikes * np.log(2))


def mean_and_spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for name in SESSIONS:
        data, began = largest(name), time.perf_counter()
        scores: dict[str, list[float]] = {}
        for seed in range(args.draws):
            order = split_trials(data.n_trials, seed, (0.8, 0.0, 0.2))
            train, test = data.select_trials(order.train), data.select_trials(order.test)
            hidden, components = drawn(train, seed), component_regression(train)
            smooth = smooth_over_time(train, PSTH_SMOOTHING * data.bin_width)
            methods = {
                "psth": (training_psth(smooth), False), "ridge": (ridge(train), False), "all": (components, False), "others": (components, True),
            }  # fmt: skip
            for label, (method, alone) in methods.items():
                scores.setdefault(label, []).append(bits(method, train, test, hidden, alone))
            print(name, seed, {label: round(float(values[-1]), 4) for label, values in scores.items()}, flush=True)
        rows.append([
            name, data.layout.total_neurons, sum(map(len, hidden.values())), f"{train.n_trials} / {test.n_trials}",
            *map(mean_and_spread, scores.values()), f"{scores['all'][0]:.3f} / {scores['others'][0]:.3f}",
            " / ".join(f"{score:.3f}" for score in REFERENCE.get(name, ())), f"{time.perf_counter() - began:.0f}",
        ])  # fmt: skip
    heads = ["recording", "neurons", "hidden", "trials", "PSTH, smoothed", "same-bin ridge", "20 components of all others", "of other regions only",
             "both, seed 0", "both, reference of other draws", "s"]  # fmt: skip
    about = f"Bits per spike of hidden neurons in test trials, mean and sd over {args.draws} divisions of trials, each with its own hidden neurons."
    record("Hidden neurons by components of the others", f"{about}\n\n{table(heads, rows)}",
           f"python tests/benchmarks/component_regression.py --draws {args.draws}")  # fmt: skip


if __name__ == "__main__":
    main()
