"""LFADS on spikes of chaotic networks, beside GPFA with Poisson counts and the smoothed average of a condition's trials.

    python tests/benchmarks/lfads.py [--gains 1.5 2.5] [--seeds 3] [--conditions 100] [--epochs 300] [--own_epochs 150] [--dynamics residual]

The network of Pandarinath et al. (2018): 50 units, 25 ms, one second in bins of 10 ms, up to 30 spikes per second; each
initial condition is repeated 10 times. Of every condition 8 trials are fitted and 2 are scored: R2 of log-rates over
all entries, around each neuron's mean. The average of the 8 is smoothed by the Gaussian whose sd is best, chosen by the
truth. LFADS sees a trial's own spikes, as GPFA does; ``refined``: with gradient steps after the guide. 400 conditions
are the published size; 100 the default.
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np
from common import peak_gb, record, table
from mrgp.models import GPFA, LFADS
from scipy.ndimage import gaussian_filter1d

import mrgp
from mrgp.simulations.chaotic_network import chaotic_network

REPEATS, FITTED = 10, 8
SDS = (1, 2, 3, 4, 6, 8)  # bins
STATES = {"residual": 50, "gru": 100}  # as many as there are units; gates need more
LATENTS = 12  # of GPFA


def r2(found: np.ndarray, truth: np.ndarray) -> float:
    return 1 - float(((found - truth) ** 2).sum() / ((truth - truth.mean((0, 1))) ** 2).sum())


def log_rates(fit: mrgp.Fit, data: mrgp.MultiRegionData) -> np.ndarray:
    return np.log(fit.predict(data)["network_mean"].values)


def run(gain: float, seed: int, n_conditions: int, epochs: int, own_epochs: int, kinds: list[str]) -> list[list[object]]:
    made = chaotic_network(gain, n_conditions=n_conditions, n_repeats=REPEATS, seed=seed)
    truth, place = made.truth.log_rate.values, np.arange(made.data.n_trials) % REPEATS
    train, test = made.data.select_trials(place < FITTED), made.data.select_trials(place >= FITTED)
    wanted = truth[place >= FITTED]
    means = train.floats.reshape(n_conditions, FITTED, *truth.shape[1:]).mean(1)
    smooth = [np.log(np.maximum(gaussian_filter1d(means, sd, axis=1), np.exp(truth.min()))) for sd in SDS]
    best = max(r2(np.repeat(rates, REPEATS - FITTED, 0), wanted) for rates in smooth)
    rows: list[list[object]] = [[gain, seed, "smoothed average", f"{best:.3f}", "", ""]]

    def fitted(name: str, model: Any, **how: object) -> mrgp.Fit:
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = model.fit(train, seed=seed, progress=False, **how)
        took = time.perf_counter() - began
        rows.append([gain, seed, name, f"{r2(log_rates(fit, test), wanted):.3f}", f"{took:.0f}", f"{peak_gb():.1f}"])
        print(rows[-1], flush=True)
        return fit

    fitted(f"GPFA({LATENTS}) Poisson", GPFA(LATENTS, emission="poisson"), n_starts=1, tolerance=5.0)
    for dynamics in kinds:
        model = LFADS(n_factors=20, n_states=STATES[dynamics], n_initial=32, n_inputs=0, dynamics=dynamics, width=64)
        fit = fitted(f"LFADS {dynamics}", model, max_iterations=epochs, own_epochs=own_epochs)
        refined = r2(log_rates(fit.refined(100), test), wanted)
        rows.append([gain, seed, f"LFADS {dynamics}, refined", f"{refined:.3f}", "", ""])
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gains", type=float, nargs="+", default=[1.5, 2.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--conditions", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--own_epochs", type=int, default=0, help="of --epochs, those in which the program is trained without a guide")
    parser.add_argument("--dynamics", nargs="+", default=["residual"], choices=STATES)
    args = parser.parse_args()
    rows = []
    for seed in range(args.seeds):
        for gain in args.gains:
            rows += run(gain, seed, args.conditions, args.epochs, args.own_epochs, args.dynamics)
            body = table(("gain", "seed", "model", "R2 of log-rates", "seconds", "peak GB"), rows)
            own = f" --own_epochs {args.own_epochs}" * (args.own_epochs > 0)
            command = f"python tests/benchmarks/lfads.py --seeds {seed + 1} --conditions {args.conditions} --epochs {args.epochs}{own}"
            record("LFADS: spikes of chaotic networks", body, command)


if __name__ == "__main__":
    main()
