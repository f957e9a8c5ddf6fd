"""SwitchingLDS against the truth of simulated populations, and on real recordings against each neuron's mean.

    python tests/benchmarks/switching.py [--seeds 5] [--starts 3] [--rounds 100] [--real | --unknown]

Three populations of 75 neurons, five latents each, one recording of 3000 bins, three states; rates are softplus, of
0.25 counts in a bin on average, the process noise has an sd of 0.1, a third of the ordered pairs of populations do not
drive each other, the logit of staying is 5. The model that is fitted has an exponential in place of the softplus.

    states    share of bins in which the likeliest states are the true ones, in the best order
    AUC       area under the ROC curve of the norms of blocks between populations, of all states together
    spread    nats from the best start to the worst as the best went on; half of the starts were given up before
    trigger   states that are called most by the population that calls them in truth, by enter_effect

With --unknown: which neuron is of which population is not told. Three populations of 20 neurons, two latents each, one
recording of 1000 bins with half a count in a bin on average, three states; five populations at most. Neurons and states
are scored by the adjusted Rand index of clusters found and true.

With --real: recordings of a mouse at a task (Steinmetz et al. 2019), two thirds of the trials; nats per trial are bounds
of log p(y) of the other trials, above those of each neuron's mean of the trials that were fitted to.
"""

import argparse
import time
import warnings

import numpy as np
from common import peak_gb, record, reference, table
from mrgp.models import SwitchingLDS
from scipy.stats import poisson, rankdata

import mrgp
from mrgp.metrics import adjusted_rand_index, match_states
from mrgp.simulations.switching import simulate_switching

N_STATES, N_LATENTS = 3, 5
HEAD = ["seed", "states", "AUC", "trigger", "spread", "rounds", "largest fall", "s", "GB"]
REAL = ["recording", "regions", "neurons", "trials", "nats per trial", "dwell times (s)", "spread", "rounds", "s", "GB"]
RECORDINGS = {"steinmetz_1": 3, "steinmetz_3": 3}
BARS = {"states": 0.9, "AUC": 0.9}
UNKNOWN = ["seed", "neurons", "states", "populations", "unsure", "spread", "rounds", "largest fall", "s", "GB"]
MOST, SURE = 5, 0.95  # populations; probability below which a neuron's population is unsure


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve."""
    positive = labels.sum()
    return (rankdata(scores)[labels].sum() - positive * (positive + 1) / 2) / (positive * (~labels).sum())


def fitted(model: SwitchingLDS, data: mrgp.MultiRegionData, args: argparse.Namespace, seed: int) -> tuple[mrgp.Fit, float]:
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(data, n_starts=args.starts, max_iterations=args.rounds, seed=seed, progress=False)
    return fit, time.perf_counter() - began


def simulated(seed: int, args: argparse.Namespace) -> list[str]:
    """One row: a simulation, and what was found."""
    made = simulate_switching(n_latents=N_LATENTS, n_states=N_STATES, seed=seed)
    fit, seconds = fitted(SwitchingLDS(N_STATES, N_LATENTS, emission="poisson"), made.data, args, seed)
    matched = match_states(made.truth["states"], fit.states()["most_likely"])
    others = ~np.eye(3, dtype=bool)
    norms = fit.effectome().transpose("state", "target", "source").values[matched.order][:, others]
    callers = fit.triggers()["enter_effect"].values[matched.order].argmax(1)
    return [
        str(seed), f"{matched.share:.3f}", f"{area(norms.ravel(), made.truth['coupled'].values[:, others].ravel()):.3f}",
        f"{(callers == np.arange(N_STATES) % 3).sum()} of {N_STATES}", f"{np.ptp(fit.start_heights):.1f}",
        str(fit.iterations), f"{max(0.0, -np.diff(fit.trace).min()):.1g}", f"{seconds:.0f}", f"{peak_gb():.2f}",
    ]  # fmt: skip


def unknown(seed: int, args: argparse.Namespace) -> list[str]:
    """One row: populations that nobody told."""
    made = mrgp.simulate_population_clusters(3, 20, 2, N_STATES, n_bins=1000, seed=seed)
    model = SwitchingLDS(N_STATES, 2, emission="poisson", populations=mrgp.Unknown(most=MOST))
    fit, seconds = fitted(model, made.data, args, seed)
    clusters = fit.clusters()
    of_neurons = adjusted_rand_index(made.truth["clusters"], clusters["most_likely"])
    of_states = adjusted_rand_index(made.truth["states"], fit.states()["most_likely"])
    sizes = np.bincount(clusters["most_likely"].values, minlength=MOST)
    return [
        str(seed), f"{of_neurons:.3f}", f"{of_states:.3f}", ", ".join(map(str, sizes[sizes > 0])),
        str(int((clusters["probability"].max("population") < SURE).sum())), f"{np.ptp(fit.start_heights):.1f}",
        str(fit.iterations), f"{max(0.0, -np.diff(fit.trace).min()):.1g}", f"{seconds:.0f}", f"{peak_gb():.2f}",
    ]  # fmt: skip


def real(name: str, n_states: int, args: argparse.Namespace) -> list[str]:
    """One row: a real recording."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = mrgp.load_recording(reference(f"{name}.npz"), drop_dead=None)
    test = np.arange(whole.n_trials) % 3 == 2
    train, rest = whole.select_trials(~test), whole.select_trials(test)
    fit, seconds = fitted(SwitchingLDS(n_states, 2, emission="poisson"), train, args, 0)
    mean = np.maximum(train.floats.mean((0, 1)), 1 / (2 * train.n_trials * train.n_bins))
    trivial = poisson.logpmf(rest.floats, mean).sum((1, 2))
    gain = float((fit.log_likelihood(rest).values - trivial).mean())
    dwell = ", ".join(f"{value:.2f}" for value in fit.dwell_times()["dwell"].values)
    layout = whole.layout
    return [
        name, str(layout.n_regions), str(layout.total_neurons), f"{train.n_trials} + {rest.n_trials}", f"{gain:+.1f}", dwell,
        f"{np.ptp(fit.start_heights):.1f}", str(fit.iterations), f"{seconds:.0f}", f"{peak_gb():.2f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--real", action="store_true", help="real recordings instead")
    parser.add_argument("--unknown", action="store_true", help="populations that are not told instead")
    args = parser.parse_args()
    command = f"python tests/benchmarks/switching.py --starts {args.starts} --rounds {args.rounds}"
    if args.real:
        rows = []
        for name, n_states in RECORDINGS.items():
            rows.append(real(name, n_states, args))
            about = "Three states, two latents per region, Poisson; every third trial is scored."
            record("SwitchingLDS on real counts", f"{about}\n\n{table(REAL, rows)}", f"{command} --real")
        return
    rows, seeds = [], range(args.first, args.first + args.seeds)
    if args.unknown:
        for seed in seeds:
            rows.append(unknown(seed, args))
            reached = sum(float(row[1]) >= 0.9 and float(row[2]) >= 0.9 for row in rows)
            about = f"Adjusted Rand index; bar: 0.9 for neurons and states; {reached} of {len(rows)} here. `populations` are the "
            about += f"numbers of neurons of those found, of {MOST} at most; `unsure` neurons have none of probability {SURE}."
            asked = f"{command} --seeds {args.seeds} --unknown"
            record("SwitchingLDS with unknown populations", f"{about}\n\n{table(UNKNOWN, rows)}", asked)
        return
    for seed in seeds:
        rows.append(simulated(seed, args))
        reached = sum(float(row[1]) >= BARS["states"] and float(row[2]) >= BARS["AUC"] for row in rows)
        about = f"Bars: states >= {BARS['states']} and AUC >= {BARS['AUC']} in 4 of 5 seeds; {reached} of {len(rows)} here."
        body = f"{about}\n\n{table(HEAD, rows)}"  # as it goes on, so that a run that is stopped leaves what it has found
        asked = f"{command} --seeds {args.seeds}" + (f" --first {args.first}" if args.first else "")
        record("SwitchingLDS on simulated populations" + (", fresh seeds" if args.first else ""), body, asked)


if __name__ == "__main__":
    main()
