"""Real spike counts of V1 and V2: held-out neurons predicted from the others, in bits per spike.

python tests/benchmarks/counts.py [--splits 3] [--kinds poisson,gaussian] [--fits DIR]     DIR keeps fits, and is read first

DLAG with a mean over the trial, or LFADS (kinds "lfads", and "lfads_drift" with what changes slowly over the session;
100 gradient steps after its guide), is fitted to 300 trials with Poisson and negative-binomial counts, and with Gaussian
noise to square roots of the counts, z = sqrt(y); there the rate is E[z^2] = mean^2 + sd^2 of the prediction of z. Where
nearly every count is 0 or 1 that says little (z = y, and its sd does not depend on the rate), so the Gaussian's means
are also made rates by a Poisson regression of each neuron's counts on them, in the training trials: `calibrated`. In 50
other trials a fifth of each region's neurons is hidden and predicted from the rest (three choices of neurons). The
baseline is each neuron's smoothed mean response in the training trials.

    bits per spike = (log p(y | rate) - log p(y | training mean)) / (spikes log 2),        p Poisson.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from common import record, reference, table
from mrgp.models import DLAG, LFADS
from scipy.special import xlogy

import mrgp
from mrgp.metrics import neuron_masks
from mrgp.parts.emissions.beginning_of_counts import course_start

STARTS = 1
LEAST = 0.02  # of a neuron's mean count: the least rate that a prediction may say, for all methods alike
KINDS = ("poisson", "negative_binomial", "gaussian")
TOLERANCE = 0.5  # nats, of two million
NEWTON_STEPS = 20
NETWORKS = {
    "lfads": LFADS(n_factors=20, n_states=64, n_inputs=20, refinement=100),
    "lfads_drift": LFADS(n_factors=20, n_states=64, n_inputs=20, refinement=100, drift="slow"),
}
CALIBRATED = "gaussian, calibrated"


def bits_per_spike(counts: np.ndarray, rate: np.ndarray, mean: np.ndarray) -> float:
    """Of counts and rates (trial, time, neuron), against each neuron's mean rate (neuron,)."""
    rate = np.maximum(rate, LEAST * mean)
    gained = (xlogy(counts, rate) - rate).sum() - (xlogy(counts, mean) - mean).sum()
    return float(gained / (counts.sum() * np.log(2)))


def roots(data: mrgp.MultiRegionData) -> mrgp.MultiRegionData:
    """The recording's square roots."""
    return data.with_values(np.sqrt(data.with_nan()))


def predicted(fit: mrgp.Fit, data: mrgp.MultiRegionData) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of what the fit predicts of all neurons, (trial, time, neuron)."""
    found = fit.predict(data)
    mean, sd = (
        np.concatenate([found[f"{name}_{what}"].values for name in data.layout.regions], -1) for what in ("mean", "sd")
    )
    return mean, sd


def calibrated(known: np.ndarray, counts: np.ndarray, new: np.ndarray) -> np.ndarray:
    """exp(a + b new), a and b by Poisson regression of counts on ``known``, neuron by neuron (trial, time, neuron)."""
    level, spread = known.mean((0, 1)), known.std((0, 1))
    x = (known - level) / spread
    a, b = np.log(counts.mean((0, 1))), np.zeros(known.shape[-1])
    for _ in range(NEWTON_STEPS):
        rate = np.exp(a + b * x)
        rest = counts - rate
        slope = np.stack([rest.sum((0, 1)), (rest * x).sum((0, 1))], -1)
        bend = np.stack([rate.sum((0, 1)), (rate * x).sum((0, 1)), (rate * x**2).sum((0, 1))], -1)[:, [[0, 1], [1, 2]]]
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        step /= np.maximum(1, np.abs(step).max(-1, keepdims=True))
        a, b = a + step[:, 0], b + step[:, 1]
    return np.exp(a + b * (new - level) / spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="also lfads and lfads_drift")
    parser.add_argument("--fits", type=Path)
    args = parser.parse_args()
    data = mrgp.load_recording(reference("v1v2_counts.npz"))
    kinds = args.kinds.split(",")
    scores: dict[str, list[float]] = {}
    notes = []
    for split in range(args.splits):
        order = np.random.default_rng(split).permutation(data.n_trials)
        train, test = data.select_trials(order[:300]), data.select_trials(order[350:])
        base = DLAG(2, 2, mean="psth").prepared(train)
        response = np.log(train.center) + base.mean.modes(train, base.duration) @ course_start(train, base.mean.modes(train, base.duration))[0].T
        fits: dict[str, mrgp.Fit] = {}
        for kind in kinds:
            squared = kind == "gaussian"
            model = NETWORKS[kind] if kind in NETWORKS else base if squared else base.replace(emission=kind)
            path = args.fits and args.fits / f"split{split}_{kind}.nc"
            if path and path.is_file():
                fit = mrgp.load_fit(path)
            else:
                start = fits.get("poisson") if kind == "negative_binomial" else None
                seen = roots(train) if squared else train
                how = {"batch_size": 32} if kind in NETWORKS else {"n_starts": STARTS, "tolerance": TOLERANCE}
                fit = model.fit(seen, seed=args.seed, start=start, **how)
                if path:
                    fit.save(path)
            fits[kind] = fit
            delays = "" if kind in NETWORKS else "; delays " + ", ".join(f"{1e3 * d:.1f}" for d in fit.delays.values[1]) + " ms"
            state = "converged" if fit.converged else fit.reason
            score = "" if squared else f", log-likelihood above {fit.log_likelihood(train).sum():.0f} nats"
            cost = f"{fit.wall_s:.0f} s, {fit.evaluations} evaluations"
            notes.append(f"split {split}, {kind}: {cost}, {state}{score}{delays}")
            print(notes[-1], flush=True)
        for hidden in neuron_masks(data.layout):
            seen = test.without(hidden)
            rates = {"mean response": np.broadcast_to(np.exp(response), test.values.shape)}
            for kind, fit in fits.items():
                squared = kind == "gaussian"
                mean, sd = predicted(fit, roots(seen) if squared else seen)
                rates[kind] = mean**2 + sd**2 if squared else mean
                if squared:
                    rates[CALIBRATED] = calibrated(predicted(fit, roots(train.without(hidden)))[0], train.values, mean)
            places = {r: np.asarray(n) + data.layout.region_slices[r].start for r, n in hidden.items()}
            places["all"] = np.concatenate(list(places.values()))
            for name, rate in rates.items():
                for where, chosen in places.items():
                    value = bits_per_spike(test.values[..., chosen], rate[..., chosen], train.center[chosen])
                    scores.setdefault(f"{name}|{where}", []).append(value)
                print(split, name, {w: round(scores[f"{name}|{w}"][-1], 4) for w in places}, flush=True)
        jax.clear_caches()
    header = ["prediction", *[f"{where}, bits/spike" for where in (*data.layout.regions, "all")]]
    rows = [
        [name, *[f"{np.mean(scores[f'{name}|{where}']):.4f}" for where in (*data.layout.regions, "all")]]
        for name in rates
    ]
    about = f"Means over {args.splits} split(s) of trials and 3 choices of hidden neurons; K = 2, W = 2, 300 trials."
    body = "\n\n".join([about, table(header, rows), "\n".join(f"- {note}" for note in notes)])
    title = "Spike counts: held-out neurons" + " by networks" * (set(kinds) <= set(NETWORKS))
    record(title, body, f"python tests/benchmarks/counts.py --splits {args.splits} --kinds {args.kinds}")


if __name__ == "__main__":
    main()
