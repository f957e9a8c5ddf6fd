"""Neural ODE on a spiral with three latents: flow, fixed point and trajectories against the truth.

    python tests/benchmarks/neural_ode.py [--seeds 3] [--bins 251] [--epochs 150] [--neurons 150] [--axis 7]

Trials start on a grid of seven places per axis, 343 in all, and last 5 s; 150 Poisson neurons of some 10 Hz. A fifth of
the trials is scored, which training never saw. A second fit is to the same trials, of which a tenth of the bins is
removed at random, with the times of those that are left. Latents are brought onto the true ones by the best affine map
z -> M z + b over the scored trials.

    R2          of trajectories: the least of the three latents
    cosine      mean over all scored states of the cosine between M f(z) and the true velocity at M z + b
    fixed point distance of the mapped fixed point from the true one, in radii of the true states
"""

import argparse
import time
import warnings

import numpy as np
from common import peak_gb, record, table
from mrgp.models import NeuralODE

import mrgp
from mrgp.metrics import fixed_points
from mrgp.simulations.spiral import simulate_spiral, spiral_velocity

LASTS = 5.0  # seconds
REMOVED = 0.1  # of the bins
APART = 5  # every fifth trial is scored; their order is random
SETTINGS = {"learning_rate": 5e-3, "batch_size": 32, "warm_up": 40}
BARS = {"R2": 0.9, "cosine": 0.95, "fixed point": 0.05}


def without_some(made, seed: int):
    """A recording without a tenth of its bins, and the truth of the bins that are left."""
    n_bins = made.data.n_bins
    kept = np.sort(np.random.default_rng(seed).choice(n_bins, round((1 - REMOVED) * n_bins), replace=False))
    times = made.data.times[kept]
    data = mrgp.MultiRegionData({"A": made.data.kept("A")[:, kept]}, made.data.bin_width, drop_dead=None, times=times)
    return data, made.truth["latents"].values[:, kept]


def scored(fit: mrgp.Fit, test: mrgp.MultiRegionData, truth: np.ndarray) -> list[str]:
    """R2, cosine, fixed point, its stability and the number of fixed points."""
    states = fit.latents(test)["across_mean"].values
    flat, true = states.reshape(-1, states.shape[-1]), truth.reshape(-1, truth.shape[-1])
    design = np.c_[flat, np.ones(len(flat))]
    solved = np.linalg.lstsq(design, true, rcond=None)[0]
    mapped, M = design @ solved, solved[:-1]
    r2 = 1 - ((true - mapped) ** 2).sum(0) / ((true - true.mean(0)) ** 2).sum(0)
    learned = np.asarray(fit.model.learned_dynamics(fit.layout, fit.sites).velocity(flat)) @ M
    real = np.asarray(spiral_velocity(mapped))
    cosine = (learned * real).sum(1) / (np.linalg.norm(learned, axis=1) * np.linalg.norm(real, axis=1))
    points = fixed_points(fit, states=states)
    radius = np.sqrt(((true - true.mean(0)) ** 2).sum(1).mean())
    if points.sizes["fixed_point"] == 0:
        return [f"{r2.min():.3f}", f"{cosine.mean():.3f}", "none", "", "0"]
    place = np.r_[points["place"].values[0], 1.0] @ solved
    stability = str(points["stability"].values[0])
    modes = ", ".join(f"{g:.2f}" for g in points["growth"].values[0])
    off = f"{np.linalg.norm(place) / radius:.3f}"
    return [f"{r2.min():.3f}", f"{cosine.mean():.3f}", off, f"{stability} ({modes})", str(points.sizes["fixed_point"])]


def written(args: argparse.Namespace, width: float, rows: list[list]) -> None:
    """Record the rows that there are."""
    header = ["seed", "bins", *BARS, "stability (growth per s)", "fixed points", "epochs", "s", "peak GB"]
    true = "The true fixed point is stable, with growths of -0.40, -0.40 and -0.67 per second."
    bars = f"Bars: R2 >= {BARS['R2']}, cosine >= {BARS['cosine']}, fixed point within {BARS['fixed point']}."
    sizes = f"{args.axis**3} trials x {args.bins} bins of {1e3 * width:g} ms, {args.neurons} neurons"
    record(
        f"Neural ODE on a spiral, {args.bins} bins",
        f"{sizes}. {bars} {true}\n\n{table(header, rows)}",
        f"python tests/benchmarks/neural_ode.py --seeds {args.seeds} --bins {args.bins} --epochs {args.epochs}"
        f" --neurons {args.neurons} --axis {args.axis}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("seeds", 3), ("bins", 251), ("epochs", 150), ("neurons", 150), ("axis", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="the fit has not converged")
    width = LASTS / (args.bins - 1)
    rows = []
    for seed in range(args.seeds):
        made = simulate_spiral(args.neurons, args.axis, n_bins=args.bins, bin_width=width, seed=seed)
        for what, (data, truth) in {
            "all": (made.data, made.truth["latents"].values), "a tenth removed": without_some(made, seed),
        }.items():  # fmt: skip
            is_test = np.arange(data.n_trials) % APART == 0
            began = time.perf_counter()
            fit = NeuralODE().fit(
                data.select_trials(~is_test), seed=seed, max_iterations=args.epochs, progress=False, **SETTINGS
            )
            seconds = time.perf_counter() - began
            found = scored(fit, data.select_trials(is_test), truth[is_test])
            rows.append([seed, what, *found, fit.iterations, f"{seconds:.0f}", f"{peak_gb():.2f}"])
            written(args, width, rows)  # so that a run that is stopped leaves what it has found


if __name__ == "__main__":
    main()
