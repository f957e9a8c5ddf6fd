"""The published MATLAB DLAG fit of a real V1/V2 recording: its log-likelihood reproduced, and a fit of our own.

python tests/benchmarks/anchor.py [--no-fit]
python tests/benchmarks/anchor.py --relevance        mDLAG on the same trials, which chooses its latents itself
"""

import argparse
import time
from dataclasses import replace

import numpy as np
from common import peak_gb, record, reference, table

import mrgp
from mrgp.metrics.prediction import log_predictive


def of_trials(fit: mrgp.Fit, test: mrgp.MultiRegionData, region: str) -> tuple[np.ndarray, np.ndarray]:
    """R^2 and log p of a region given the other, each as what every trial adds to it, (trial,)."""
    seen = test.region(region)
    given = test.without({region: slice(None)})
    missed = ((seen - fit.predict(given)[f"{region}_mean"].values) ** 2).sum((1, 2))
    total = ((seen - seen.mean((0, 1))) ** 2).sum((1, 2))
    return (total - missed) / total.sum(), log_predictive(fit, test, given).values


def from_other(fits: dict[str, mrgp.Fit], test: mrgp.MultiRegionData) -> str:
    """A table of every fit's predictions of one region from the other, beside the first fit's."""
    header, rows = ["parameters"], {name: [name] for name in fits}
    for region in ("V1", "V2"):
        header += [f"{region}: R2", "difference", f"log p({region} given the other), nats", "difference"]
        scores = {name: of_trials(fit, test, region) for name, fit in fits.items()}
        first, *_ = scores.values()
        for name, own in scores.items():
            for score, reference_score, digits in zip(own, first, (4, 1), strict=True):
                gained = score - reference_score
                error = np.sqrt(len(gained)) * gained.std(ddof=1)
                apart = f"{gained.sum():+.{digits}f} ± {error:.{digits}f}" if gained.any() else ""
                rows[name] += [f"{score.sum():.{digits}f}", apart]
    return table(header, list(rows.values()))


def relevance(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, dense: mrgp.models.DLAG, params: dict) -> None:
    """mDLAG by variational Bayes under the spectral likelihood, as many latents as DLAG has; both scored densely."""
    started = time.perf_counter()
    model = mrgp.models.MDLAG(21, likelihood="spectral", max_delay=6 * train.bin_width)
    fit = model.fit(train, seed=0, progress=False, n_starts=1, tolerance=1.0, max_iterations=400)
    wall = time.perf_counter() - started
    fit = replace(fit, model=fit.model.replace(likelihood="dense"))
    known = replace(fit, model=dense, sites=params, method="map", loadings_covariance=None, saved_curvature=None)
    ours, theirs = (float(one.log_likelihood(test).sum()) for one in (fit, known))
    shared = fit.shared_by().values
    body = (
        f"MDLAG(21) by variational Bayes, {wall:.0f} s with compilation, converged: {fit.converged} ({fit.reason}); latents "
        f"that V1, V2 and both read: {shared[0].sum()}, {shared[1].sum()}, {shared.all(0).sum()}. Log-likelihood of the "
        f"100 test trials (dense): {ours:.2f}, of the published parameters of DLAG {theirs:.2f}.\n\n"
    )
    body += from_other({"published": known, "MDLAG(21)": fit}, test)
    record("Anchor: mDLAG on the same trials", body, "python tests/benchmarks/anchor.py --relevance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-fit", action="store_true")
    parser.add_argument("--relevance", action="store_true")
    args = parser.parse_args()
    with np.load(reference("dlag_v1v2_reference.npz")) as stored:
        published = dict(stored)
    bin_width, target = float(published["bin_width"]), float(published["log_likelihood_train"])
    whole = mrgp.MultiRegionData({"V1": published["V1"], "V2": published["V2"]}, bin_width)
    data, held_out = whole.select_trials(published["train"]), whole.select_trials(published["test"])
    dense = mrgp.models.DLAG(3, (17, 1), likelihood="dense", gp_noise=float(published["gp_noise"]))
    params = dense.params_from(
        data.layout,
        loadings={region: published[f"loadings_{region}"] for region in ("V1", "V2")},
        noise=published["noise_variance"],
        offset=published["offset"],
        timescale_across=bin_width / np.sqrt(published["gamma_across"]),
        timescale_within=bin_width
        / np.sqrt(np.concatenate([published["gamma_within_V1"], published["gamma_within_V2"]])),
        delays=published["delay_bins"] * bin_width,
    )
    if args.relevance:
        return relevance(data, held_out, dense, params)
    rows = [["published, MATLAB", f"{target:.10f}", "0", ""]]

    def row(name: str, model: mrgp.models.DLAG, sites: dict) -> float:
        began = time.perf_counter()
        value = float(model.log_likelihood(data, sites).sum())
        rows.append([name, f"{value:.10f}", f"{value - target:+.3g}", f"{time.perf_counter() - began:.2f}"])
        return value

    row("dense, published parameters", dense, params)
    for order in (5, 6):
        markov = dense.replace(likelihood="markov", order=order).fitting.adapted(data, params, 1.0)
        row(f"markov, order {order}, {markov.likelihood.registers.n_registers} registers, published parameters", markov, params)
    body = ""
    if not args.no_fit:
        began = time.perf_counter()
        fit = mrgp.models.DLAG(3, (17, 1)).fit(data, seed=0, progress=False)
        wall = time.perf_counter() - began
        row("markov, our fit from the data alone", fit.model, fit.sites)
        row("dense, at our fit's parameters", dense, fit.sites)
        ours, theirs = (float(dense.log_likelihood(held_out, s).sum()) for s in (fit.sites, params))
        known = replace(fit, sites=params, saved_curvature=None)
        on = mrgp.models.DLAG(3, (17, 1)).fit(data, start=known, progress=False)
        row("markov, climbed on from the published parameters", on.model, on.sites)
        further = float(dense.log_likelihood(held_out, on.sites).sum())
        body = (
            f"\n\nFit: {wall:.0f} s with compilation, {fit.iterations} iterations, converged: {fit.converged} ({fit.reason}), "
            f"peak {peak_gb():.2f} GB. Held-out log-likelihood of the 100 test trials (dense): ours {ours:.2f}, published "
            f"{theirs:.2f}, climbed on from the published parameters ({on.iterations} iterations) {further:.2f}. "
            f"Delays (bins): {np.round(fit.delays.values[1] / bin_width, 3).tolist()}, published "
            f"{np.round(published['delay_bins'][1], 3).tolist()}. MATLAB needed 35,940 iterations.\n\n"
            "One region predicted from the other in the test trials; differences from the published parameters, +- the "
            "standard error of their sum over trials:\n\n"
        )
        body += from_other({"published": known, "our fit": fit, "climbed on from there": on}, held_out)
    header = ["likelihood of the 300 training trials", "nats", "difference", "s, with compilation"]
    record("Anchor: published DLAG fit of V1/V2", table(header, rows) + body, "python tests/benchmarks/anchor.py")


if __name__ == "__main__":
    main()
