"""Do Laplace, variational guides and NUTS agree, and does NUTS finish on a large recording?

python tests/benchmarks/posteriors.py agreement      # one small recording, every method
python tests/benchmarks/posteriors.py large          # 5 regions x 100 neurons, NUTS given the loadings
python tests/benchmarks/posteriors.py sites          # every site of seven models, on very small recordings

``sites`` goes on where it was stopped: models in the file ``posterior_sites.jsonl`` are not fitted again. Name some to
fit only those: ``sites --only dlag "dlag, ar1"``; with ``--only`` and no name the table is written, and nothing fitted.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import arviz as az
import jax
import numpy as np
from common import machine, peak_gb, record, reference, table
from mrgp.models import ADM, DLAG, GPFA

import mrgp
from mrgp.parts.symmetries import align_draws
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import stand_in
from mrgp.simulations.simulate import simulate

METHODS = (
    ("nuts, all sampled", "nuts", {"loadings": "sampled", "n_chains": 4, "n_draws": 1000}),
    ("nuts, loadings profiled", "nuts", {"loadings": "profiled", "n_chains": 4, "n_draws": 500}),
    ("nuts, loadings fixed", "nuts", {"loadings": "fixed", "n_chains": 4, "n_draws": 500}),
    ("laplace", "laplace", {"n_draws": 4000}),
    ("laplace, loadings profiled", "laplace", {"loadings": "profiled", "n_draws": 4000}),
    ("svi, structured guide", "svi", {"n_draws": 4000}),
    ("svi, full rank", "svi", {"guide": "full", "n_draws": 4000}),
    ("svi, mean field", "svi", {"guide": "meanfield", "n_draws": 4000}),
    ("svi, structured, batches of 10", "svi", {"batch_size": 10, "n_draws": 4000}),
)


def agreement() -> None:
    """Means and sds of the delay and the across timescale, against NUTS with everything sampled."""
    data = simulate(
        regions={"V1": 10, "V2": 10}, n_across=1, n_within=1, n_trials=30, n_bins=50, timescale_across=0.1,
        timescale_within=0.08, delay=np.array([[0.0], [0.01]]), snr=0.5, seed=0,
    ).data  # fmt: skip
    start = DLAG(1, 1, max_delay=0.1).fit(data, progress=False)
    rows, truth = [], {}
    for name, method, settings in METHODS:
        began = time.perf_counter()
        fit = start.model.fit(data, method, start=start, progress=False, **settings)
        seconds = time.perf_counter() - began
        cells = []
        for site in ("delay", "timescale_across"):
            drawn = 1e3 * fit.samples[site].ravel()
            mean, sd = drawn.mean(), drawn.std()
            truth.setdefault(site, (mean, sd))
            best, spread = truth[site]
            cells += [f"{mean:.2f}", f"{sd:.3f}", f"{(mean - best) / spread:+.2f}", f"{sd / spread:.3f}"]
        rows.append([name, *cells, fit.converged, f"{seconds:.0f}"])
    header = ["method"]
    for site in ("delay", "timescale"):
        header += [f"{site}, ms", "sd", "off by, sd", "sd ratio"]
    note = "2 regions x 10 neurons, 30 trials x 50 bins, signal-to-noise 0.5; the start, one maximum, is shared. "
    note += "Off by: difference of means to the first line in its sds. Seconds include compilation."
    record("Posteriors: agreement", f"{table([*header, 'converged', 's'], rows)}\n\n{note}",
           "python tests/benchmarks/posteriors.py agreement")  # fmt: skip


def large() -> None:
    """Conditional NUTS on the recording of five regions."""
    data = mrgp.load_recording(reference("dlag_ssm.npz"))
    began = time.perf_counter()
    start = DLAG(2, 1, max_delay=0.1).fit(data, progress=False)
    fitted = time.perf_counter() - began
    settings = {"loadings": "fixed", "n_chains": 2, "n_warmup": 150, "n_draws": 700}
    fit = start.model.fit(data, "nuts", start=start, progress=False, **settings)
    seconds = time.perf_counter() - began
    tree = az.from_dict({"posterior": {"delay": fit.samples["delay"]}})
    mixing, effective = (fn(tree)["delay"].values for fn in (az.rhat, az.ess))
    ratio = fit.samples["delay"].std((0, 1)) / start.delay_intervals().sd.values[1:]
    rows = [[
        f"{mixing.max():.4f}", f"{effective.min():.0f}", f"{fit.sample_stats['n_steps'].mean():.1f}",
        int(fit.sample_stats["diverging"].sum()), f"{ratio.min():.2f} to {ratio.max():.2f}", f"{fitted:.0f}",
        f"{seconds:.0f}", f"{peak_gb():.2f}",
    ]]  # fmt: skip
    header = ["largest R-hat of a delay", "smallest ESS", "steps per draw", "divergences",
              "sd over that with loadings following", "fit s", "s in all", "peak GB"]  # fmt: skip
    note = "dlag_ssm: 5 regions x 100 neurons, 50 trials x 200 bins, two across latents, one within latent per region; "
    note += f"2 chains of {settings['n_draws']} draws after {settings['n_warmup']}, one after the other, given the loadings."
    record("Posteriors: large", f"{table(header, rows)}\n\n{note}", "python tests/benchmarks/posteriors.py large")


# ---- every site ------------------------------------------------------------------------------------------------------

DONE = Path(__file__).with_name("posterior_sites.jsonl")
LAYOUT, TRIALS, BINS = Layout(("V1", "V2"), (5, 4), 0.02), 20, 25
GIVEN: dict[str, Any] = {"max_delay": 0.1, "likelihood": "dense"}  # exact, and of such short trials the quickest
EXACT = {"loadings": "sampled", "n_chains": 4, "n_warmup": 300, "n_draws": 1000}
OTHERS = (
    ("laplace, included", "laplace", {"loadings": "included"}),
    ("laplace, following", "laplace", {"loadings": "following"}),
    ("svi, structured", "svi", {}),
)
DRAWS = 3000  # of Gaussian models; a third of counts, whose bound takes longer
COUNTS = {"loadings": 0.5, "offset": 0.7}  # sds of log-rates in a neuron, and their mean: two spikes in a bin
GAUSSIAN = {"loadings": 0.8}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dlag": (DLAG(1, (1, 0), **GIVEN), GAUSSIAN),
    "dlag, ar1": (DLAG(1, 0, noise="ar1", **GIVEN), {**GAUSSIAN, "noise_timescale": np.array([0.02, 0.03])}),
    "dlag, psth": (DLAG(1, 0, mean="psth", mean_timescale=0.1, **GIVEN), {**GAUSSIAN, "mean_spread": np.full((1, 9), 0.5)}),
    "adm": (ADM(1, 0, delay_timescale=0.2, **GIVEN), {"loadings": 1.5, "delay_spread": np.array([[0.03]])}),
    "dlag, poisson": (DLAG(1, 0, emission="poisson", **GIVEN), COUNTS),
    "dlag, negative binomial": (DLAG(1, 0, emission="negative_binomial", **GIVEN), {**COUNTS, "dispersion": np.full(9, 0.3)}),
    "gpfa": (GPFA(1, likelihood="dense"), GAUSSIAN),
}
"""Models, and what their recordings are drawn with; numbers are sds of what is drawn itself."""


def drawn_from(model: Any, given: dict[str, Any], seed: int = 0) -> mrgp.MultiRegionData:
    """A recording of two regions drawn from a model."""
    rng = np.random.default_rng(seed)
    like = stand_in(LAYOUT, TRIALS, BINS)
    size = given["loadings"] * rng.choice([-1, 1], 9) * rng.uniform(0.7, 1.3, 9)
    sites: dict[str, Any] = {
        "delay": np.array([[0.02]]), "timescale_across": np.array([0.08]), "offset": given.get("offset", 0.0) + rng.normal(0, 0.3, 9),
        "loadings": size[:, None], "noise": np.ones(9),
    }  # fmt: skip
    if sum(model.assignment(LAYOUT).n_within):
        own = given["loadings"] * rng.choice([-1, 1], 9) * rng.uniform(0.7, 1.3, 9)
        sites |= {"timescale_within": np.array([0.04]), "loadings": np.stack([size, np.where(np.arange(9) < 5, own, 0)], 1)}
    sites |= {name: value for name, value in given.items() if name not in ("loadings", "offset")}
    if "mean_spread" in given:
        sites["mean_change"] = given["mean_spread"][..., None] * rng.normal(size=(1, 9, model.mean_modes(like).shape[1]))
    if "delay_spread" in given:
        sites["delay_change"] = rng.normal(size=(1, 1, model.delays.modes(model.tables.extent(LAYOUT, BINS)).shape[-1]))
    if isinstance(model, GPFA):
        del sites["delay"]
    if model.emission.is_of_counts:
        del sites["noise"]
    values = np.asarray(model.likelihood_at(like, sites).sample(jax.random.key(seed)))
    return mrgp.MultiRegionData({"V1": values[..., :5], "V2": values[..., 5:]}, LAYOUT.bin_width)


def digits(values: Any) -> list[float]:
    """Flat, five digits of each: a hundredth of a sd here, and more."""
    return [float(f"{value:.5g}") for value in np.ravel(values)]


def summary_of(fit: Any, reference: dict[str, Any]) -> dict[str, Any]:
    """Of every element of every site drawn, latents as in the reference: mean, sd, and what chance adds to both."""
    draws = align_draws(fit.samples, fit.assignment, reference)
    used = {"loadings": fit.assignment.used}
    chosen = {name: value[..., used.get(name, np.ones(value.shape[2:], bool))] for name, value in draws.items()}
    tree = az.from_dict({"posterior": chosen})
    found: dict[str, Any] = {}
    for name, value in chosen.items():
        sd = value.std((0, 1))
        errors = {what: digits(az.mcse(tree, method=what)[name].values / sd) for what in ("mean", "sd")}
        mixing = [float(f.max()) for f in (az.rhat(tree)[name], -az.ess(tree)[name], -az.ess(tree, method="sd")[name])]
        found[name] = {"mean": digits(value.mean((0, 1))), "sd": digits(sd),
                       "error of the mean, sd": errors["mean"], "error of the sd, sd": errors["sd"],
                       "rhat": mixing[0], "ess": -mixing[1], "ess of the sd": -mixing[2]}  # fmt: skip
    return found


def fitted(name: str) -> dict[str, Any]:
    """One line of the file: a model by all methods, from one maximum."""
    model, given = KINDS[name]
    data = drawn_from(model, given)
    n_draws = DRAWS // 3 if model.emission.is_of_counts else DRAWS
    start = model.fit(data, progress=False)
    line: dict[str, Any] = {"model": name, "machine": machine(), "methods": {}, "start": start.converged}
    line["mean"] = float(data.values.mean())
    for method, kind, settings in (("nuts", "nuts", EXACT), *((*m[:2], {**m[2], "n_draws": n_draws}) for m in OTHERS)):
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fit = start.model.fit(data, kind, start=start, progress=False, **settings)
        line["methods"][method] = {
            "seconds": time.perf_counter() - began, "converged": fit.converged, "reason": fit.reason,
            "said": [str(one.message) for one in said], "sites": summary_of(fit, start.sites),
            "held": {held: digits(fit.sites[held]) for held in fit.model.held},
        }  # fmt: skip
        if fit.sample_stats:
            stats = fit.sample_stats
            line["methods"][method] |= {"divergences": int(stats["diverging"].sum()), "steps": float(stats["n_steps"].mean())}
        print(name, method, f"{time.perf_counter() - began:.0f} s", fit.reason, flush=True)
    return line


def compared(line: dict[str, Any]) -> list[list[str]]:
    """The rows of the table of one model."""
    exact, rows = line["methods"]["nuts"]["sites"], []
    for method, found in line["methods"].items():
        if method == "nuts":
            continue
        for site, truth in exact.items():
            ours = found["sites"].get(site)
            if ours is None:
                rows.append([line["model"], method, site, len(truth["sd"]), "not drawn", "", "", "", "", ""])
                continue
            ratio = np.divide(ours["sd"], truth["sd"])
            chance = ratio * np.hypot(ours["error of the sd, sd"], truth["error of the sd, sd"])
            off = np.subtract(ours["mean"], truth["mean"]) / truth["sd"]
            wrong = np.hypot(np.multiply(ours["error of the mean, sd"], ratio), truth["error of the mean, sd"])
            inside = np.abs(ratio - 1) < 0.1
            beyond = np.abs(ratio - 1) > 0.1 + 2 * chance
            span = f"{ratio.min():.3f} to {ratio.max():.3f}" if ratio.size > 1 else ""
            rows.append([
                line["model"], method, site, ratio.size, f"{np.median(ratio):.3f}", span,
                f"{100 * inside.mean():.0f}%", int(beyond.sum()), f"{np.median(chance):.3f}",
                f"{np.abs(off).max():.2f} ± {wrong[np.abs(off).argmax()]:.2f}",
            ])  # fmt: skip
    return rows


def diagnosed(line: dict[str, Any]) -> str:
    """What NUTS says of its chains, how long methods took, and what they said."""
    exact = line["methods"]["nuts"]
    worst = {what: [site[what] for site in exact["sites"].values()] for what in ("rhat", "ess", "ess of the sd")}
    took = ", ".join(f"{method} {found['seconds']:.0f} s" for method, found in line["methods"].items())
    said = "".join(f" {method}: {one}." for method, found in line["methods"].items() for one in found["said"])
    held = {site: [found["held"][site] for found in line["methods"].values()] for site in exact["held"]}
    apart = [site for site, values in held.items() if not all(np.allclose(value, values[0]) for value in values)]
    same = f" Held at one value by all: {', '.join(held)}." if held and not apart else ""
    differ = f" Held at different values: {', '.join(apart)}." if apart else ""
    return (
        f"- {line['model']}: R-hat at most {max(worst['rhat']):.3f}, effective draws of a mean at least {min(worst['ess']):.0f}, "
        f"of an sd {min(worst['ess of the sd']):.0f}, {exact['divergences']} divergences, {exact['steps']:.1f} steps per draw; "
        f"{took}.{same}{differ}{said}"
    )


def sites(only: list[str] | None = None) -> None:
    """Mean and sd of every site by every method, against NUTS with everything sampled; a model's as soon as it is there."""
    lines = [json.loads(line) for line in DONE.read_text().splitlines()] if DONE.is_file() else []
    done = {line["model"] for line in lines}
    for name in [name for name in KINDS if name not in done and (only is None or name in only)]:
        lines.append(fitted(name))
        with DONE.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        report(lines)
    report(lines)


def report(lines: list[dict[str, Any]]) -> None:
    lines = sorted(lines, key=lambda line: list(KINDS).index(line["model"]))
    header = ["model", "method", "site", "elements", "sd ratio, median", "range", "within 10%", "beyond 10% by over two errors",
              "Monte-Carlo error of a ratio", "means off by at most, sd"]  # fmt: skip
    note = f"2 regions of {' and '.join(map(str, LAYOUT.n_neurons))} neurons, {TRIALS} trials x {BINS} bins of 20 ms, drawn from the "
    note += "model; one across latent, and of dlag one within latent of the first region. Ratios of sds, and differences of means in "
    note += f"sds, are to those of NUTS: {EXACT['n_chains']} chains of {EXACT['n_draws']} draws after {EXACT['n_warmup']}, everything "
    note += f"sampled that is not held. Other methods have {DRAWS} draws, of counts {DRAWS // 3}. All begin at one maximum, and latents "
    note += "have its signs and order in every draw. Loadings are those of latents that a neuron reads. The Monte-Carlo error is that "
    note += "of both sds, the median over elements. 'laplace, following' draws delays and timescales from the Gaussian at the maximum "
    note += "of the profile, and moves only what follows them: its timescales are too short, and too sure. All use the dense likelihood; of counts it is a variational bound, and NUTS too "
    note += "draws from what that bound says, not from the posterior of exact counts."
    body = "\n".join([table(header, [row for line in lines for row in compared(line)]), "", note, "", "NUTS, and seconds:", "",
                      *map(diagnosed, lines)])  # fmt: skip
    record("Posteriors: sites", body, "python tests/benchmarks/posteriors.py sites")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["agreement", "large", "sites"])
    parser.add_argument("--only", nargs="*", choices=list(KINDS), help="of sites: these models")
    args = parser.parse_args()
    commands = {"agreement": agreement, "large": large, "sites": lambda: sites(args.only)}
    commands[args.what]()
