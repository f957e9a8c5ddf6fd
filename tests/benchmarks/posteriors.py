"""Do Laplace, variational guides and NUTS agree, and does NUTS finish on a large recording?

python tests/benchmarks/posteriors.py agreement      # one small recording, every method
python tests/benchmarks/posteriors.py large          # 5 regions x 100 neurons, NUTS given the loadings
"""

import argparse
import time

import arviz as az
import numpy as np
from common import peak_gb, record, reference, table
from mrgp.models import DLAG

import mrgp
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["agreement", "large"])
    {"agreement": agreement, "large": large}[parser.parse_args().what]()
