"""Every model of the zoo on the recording it is for, from data alone; each seed in a process of its own.

python tests/benchmarks/zoo.py [CASE ...] [--seeds 5]        recordings with a known truth, beside the peers' numbers
python tests/benchmarks/zoo.py --exact [CASE ...]            exactly delayed simulations, beside the Cramer-Rao bound
python tests/benchmarks/zoo.py --nested                      ADM where delays are constant, DLAG where there are none
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from itertools import permutations
from typing import Any

import numpy as np
from common import peak_gb, record, reference, table

CASES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    # case: recording, preset, settings, peers
    "adm": ("adm", "ADM", {"n_across": 2, "n_within": 1}, "0.159 / 109 s"),
    "adm_set": ("adm", "ADM", {"n_across": 2, "n_within": 1, "delay_timescale": 0.2, "fixed": {"delay_spread": 0.02}}, "0.159 / 109 s"),
    "mdlag_markov": ("mdlag", "MDLAG", {"n_across": 4}, "0.0162 / 125 s"),
    "mdlag_spectral": ("mdlag", "MDLAG", {"n_across": 4, "likelihood": "spectral"}, "0.0622 / 41 s"),
    "mdlag_dense": ("mdlag", "MDLAG", {"n_across": 4, "likelihood": "dense"}, "1.197 / 2679 s"),
    "matern52": ("dlag_ssm", "DLAG", {"n_across": 2, "n_within": 1, "kernel": "Matern52"}, "0.0221"),
    "rational_quadratic": ("dlag_ssm", "DLAG", {"n_across": 2, "n_within": 1, "kernel": "RationalQuadratic"}, "0.0129 / 331 s"),
    "mdlag_demo": ("mdlag_demo", "MDLAG", {"n_across": 7, "likelihood": "dense"}, "0.64 ms / 429 s"),
    "small_bump": ("small_gauss_K2", "ADM", {"n_across": 2, "n_within": 1}, "0.310 / 77 s"),
}
EXACT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dlag": ("dlag", "DLAG", {"n_across": 2, "n_within": 1}),
    "dlag_ssm": ("dlag_ssm", "DLAG", {"n_across": 2, "n_within": 1}),
    "mdlag": ("mdlag", "MDLAG", {"n_across": 2}),
    "adm": ("adm", "ADM", {"n_across": 2, "n_within": 1}),
}


def preset(name: str, settings: dict[str, Any]) -> Any:
    import mrgp

    settings = {key: value for key, value in settings.items() if key != "fixed"}
    kernel = settings.get("kernel")
    chosen = settings | ({"kernel": getattr(mrgp, kernel)()} if kernel else {})
    return getattr(mrgp.models, name)(**chosen)


def pairs(delays: np.ndarray) -> np.ndarray:
    """Differences (pair, latent, time) over all pairs of regions of delays (region, latent[, time])."""
    table = delays.reshape(*delays.shape[:2], -1)
    first, second = np.triu_indices(len(table), 1)
    return table[second] - table[first]


def matched(delays: np.ndarray, truth: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """RMS over pairs, latents and bins, in the order of latents that makes it least; that order."""
    wanted = pairs(truth)
    count = delays.shape[1]

    def rmse(order: tuple[int, ...]) -> float:
        return float(np.sqrt(np.mean((pairs(delays[:, order]) - wanted) ** 2)))

    best = min(permutations(range(count), truth.shape[1]), key=rmse)
    return rmse(best), best


def truth_of(name: str) -> dict[str, np.ndarray]:
    with np.load(reference(f"{name}_truth.npz")) as file:
        truth = {key: file[key] for key in file.files}
    if truth["delay_bins"].ndim == 3:
        truth["delay_bins"] = np.moveaxis(truth["delay_bins"], 0, -1)
    return truth


def sharing(fit: Any, truth: dict[str, np.ndarray], bin_width: float) -> dict[str, Any]:
    """How the fit of mDLAG's demo compares with its truth, latents matched by their loadings."""
    from scipy.optimize import linear_sum_assignment

    from mrgp.inference.variational_bayes.bound import Bound, Setting

    def directions(loadings: np.ndarray) -> np.ndarray:
        return loadings / np.maximum(np.linalg.norm(loadings, axis=0), 1e-12)

    likeness = np.abs(directions(truth["loadings"]).T @ directions(fit.sites["loadings"]))
    order = linear_sum_assignment(-likeness)[1]
    wanted, found = truth["significant"] > 0, fit.shared_by().values[:, order]
    first, second = np.triu_indices(len(wanted), 1)
    active = wanted[first] & wanted[second]
    error = (pairs(fit.delays.values[:, order]) / bin_width - pairs(truth["delay_bins"]))[..., 0]
    lengths = fit.timescales["across"].values[order] / bin_width / truth["lengthscale_bins"] - 1
    data = fit.data
    setting = Setting.of(data, fit.sites["loadings"], fit.loadings_covariance)
    bound = Bound(fit.model, point_priors=False)({n: v for n, v in fit.sites.items() if n != "alpha"}, setting)
    return {
        "delay error, ms": f"{1e3 * bin_width * np.abs(error[active]).mean():.3f}",
        "lengthscale error, %": f"{100 * np.abs(lengths).mean():.2f}",
        "wrongly read": int((found & ~wanted).sum()),
        "wrongly pruned": int((~found & wanted).sum()),
        "bound": f"{float(bound):.2f}",
    }


def one(case: str, seed: int) -> dict[str, Any]:
    import mrgp

    name, kind, settings, _ = CASES[case]
    data, truth = mrgp.load_recording(reference(f"{name}.npz")), truth_of(name)
    fit = preset(kind, settings).fit(data, seed=seed, fixed=settings.get("fixed"), progress=False)
    outcome = {
        "log p(y)": f"{float(fit.log_likelihood().sum()):.2f}",
        "objective": f"{fit.trace[-1]:.2f}",
        "latents": fit.delays.sizes["across_latent"],
        "converged": bool(fit.converged),
        "fit s": f"{fit.wall_s:.1f}",
    }
    if name == "mdlag_demo":
        return outcome | sharing(fit, truth, data.bin_width)
    delays = fit.delays.values / data.bin_width
    if delays.shape[1] < truth["delay_bins"].shape[1]:
        return {"delay RMSE": "a latent is missing"} | outcome
    return {"delay RMSE": f"{matched(delays, truth['delay_bins'])[0]:.4f}"} | outcome


def exact(case: str, seed: int) -> dict[str, Any]:
    """RMSE on an exactly delayed simulation, and what the curvature at the fit says it has to be at least.

    The bound is the root mean square over pairs, latents and bins of the standard deviations of delay differences from
    the curvature of log p(y, parameters) with all else profiled out: the observed information, whose expectation is
    the Fisher information.
    """
    from mrgp.results.uncertainty import sites_from
    from mrgp.simulations.scenarios import simulate_scenario

    scenario, kind, settings = EXACT[case]
    recording = simulate_scenario(scenario, seed=100 + seed)
    fit = preset(kind, settings).fit(recording.data, seed=seed, progress=False)
    bins = recording.data.bin_width
    rmse, _ = matched(fit.delays.values / bins, recording.truth["delay"].values / bins)
    point = fit
    if kind == "MDLAG":  # the information of delays in the same model with loadings as points
        point = preset("DLAG", {"n_across": fit.model.n_across, "n_within": 0}).fit(recording.data, seed=seed, progress=False)
    curvature = point.curvature(progress=False)
    widths = np.sqrt(np.diag(curvature.covariance))
    jumps = np.concatenate([np.zeros((1, len(widths))), np.diag(1e-4 * widths)])
    sites = {**point.sites, **sites_from(point, curvature, curvature.mean + jumps)}
    tables = point.model.tables.delays(sites, point.layout, point.n_bins) / bins
    tables = np.stack([pairs(each) for each in tables])
    slopes = np.moveaxis((tables[1:] - tables[0]) / (1e-4 * widths.reshape(-1, 1, 1, 1)), 0, -1)
    variance = np.einsum("...i,ij,...j->...", slopes, curvature.covariance, slopes)
    bound = float(np.sqrt(variance.mean()))
    return {
        "delay RMSE": f"{rmse:.4f}",
        "Cramer-Rao bound": f"{bound:.4f}",
        "ratio": f"{rmse / bound:.2f}",
        "curvature sound": curvature.positive,
        "fit s": f"{fit.wall_s:.1f}",
    }


def nested(seed: int) -> dict[str, Any]:
    """ADM against DLAG on constant delays; DLAG's delays where there are none, in their own standard deviations."""
    from mrgp.simulations.scenarios import simulate_scenario

    recording = simulate_scenario("small_constant", seed=200 + seed)
    bins, truth = recording.data.bin_width, recording.truth["delay"].values
    settings = {"n_across": 2, "n_within": 1}
    errors = {}
    for kind in ("DLAG", "ADM"):
        delays = preset(kind, settings).fit(recording.data, seed=seed, progress=False).delays.values
        wanted = truth if delays.ndim == 2 else np.repeat(truth[..., None], delays.shape[-1], axis=-1)
        errors[kind] = matched(delays / bins, wanted / bins)[0]
    none = simulate_scenario("no_delay", seed=300 + seed)
    fit = preset("DLAG", settings).fit(none.data, seed=seed, progress=False)
    intervals = fit.delay_intervals(0.9)
    inside = ((intervals["lower"] <= 0) & (intervals["upper"] >= 0)).values[1:]
    return {
        "DLAG, constant delays": f"{errors['DLAG']:.4f}",
        "ADM, constant delays": f"{errors['ADM']:.4f}",
        "ratio": f"{errors['ADM'] / errors['DLAG']:.2f}",
        "largest delay found without delays, bins": f"{np.abs(fit.delays.values).max() / none.data.bin_width:.4f}",
        "90% intervals that hold 0": f"{inside.sum()} of {inside.size}",
    }


KINDS = {"cases": one, "exact": exact, "nested": lambda _case, seed: nested(seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--exact", action="store_true")
    kinds.add_argument("--nested", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "CASE", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, case, seed = args.one
        warnings.simplefilter("ignore")
        print(json.dumps(KINDS[kind](case, int(seed)) | {"peak GB": f"{peak_gb():.2f}"}))
        return
    kind = "exact" if args.exact else "nested" if args.nested else "cases"
    known = {"exact": list(EXACT), "nested": ["nested"], "cases": list(CASES)}[kind]
    if unknown := sorted(set(args.cases) - set(known)):
        parser.error(f"no case {', '.join(unknown)}: choose from {', '.join(known)}")
    for case in args.cases or known:
        rows: list[list[object]] = []
        header: list[str] = []
        for seed in range(args.seeds):
            began = time.perf_counter()
            command = [sys.executable, __file__, "--one", kind, case, str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            got = json.loads(done.stdout.splitlines()[-1])
            header = ["seed", *got, "process s"]
            rows.append([seed, *got.values(), f"{time.perf_counter() - began:.1f}"])
            print(rows[-1], flush=True)
        if kind == "exact":
            found, least = (np.sqrt(np.mean([float(str(row[i])) ** 2 for row in rows])) for i in (1, 2))
            blank = [""] * (len(header) - 4)
            rows.append(["RMS", f"{found:.4f}", f"{least:.4f}", f"{found / least:.2f}", *blank])
        body = table(header, rows)
        if kind == "cases":
            body += f"\n\nThe peer: {CASES[case][3]}."
        titles = {"cases": f"Zoo: {case}", "exact": f"Exactly delayed: {case}", "nested": "Nested hypotheses"}
        notes = "Delay errors in bins over all pairs of regions and latents; process s includes start-up and compilation."
        options = {"cases": case, "exact": f"--exact {case}", "nested": "--nested"}[kind]
        record(titles[kind], f"{body} {notes}" if kind == "cases" else f"{body}\n\n{notes}",
               f"python tests/benchmarks/zoo.py {options} --seeds {args.seeds}")  # fmt: skip


if __name__ == "__main__":
    main()
