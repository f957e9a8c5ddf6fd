"""Single precision against double: log-likelihood, gradient and smoothed latents of the same recording.

    python tests/benchmarks/precision.py [--check]

Each precision runs in a process of its own; ``--check`` only asserts the bounds and writes nothing.
"""

import argparse
import json
import os
import subprocess
import sys


def one() -> None:
    """Print log-likelihood, gradient norm and a latent of a fixed recording, in this process's precision."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import mrgp
    from mrgp.simulations.simulate import simulate

    made = simulate(regions={"A": 30, "B": 30, "C": 30}, n_across=2, n_trials=10, n_bins=100, timescale_across=(0.1, 0.03), seed=1)
    truth, data = made.truth, made.data
    model = mrgp.models.DLAG(2, 1, max_delay=0.1, window=mrgp.Window(10))
    sites = {
        "loadings": truth.loadings.values, "noise": truth.noise.values, "offset": truth.offset.values,
        "delay": truth.delay.values[1:], "timescale_across": truth.timescale_across.values,
        "timescale_within": truth.timescale_within.values,
    }  # fmt: skip
    sites = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in sites.items()}
    values = jnp.asarray(data.values, jnp.result_type(float))
    out = {"dtype": str(values.dtype)}
    for parallel in (False, True):
        score = lambda s, p=parallel: model.replace(parallel=p).likelihood_at(data, s).log_prob(values).sum()  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(score))(sites)
        latent = jax.jit(lambda s, p=parallel: model.replace(parallel=p).likelihood_at(data, s).posterior(values).readout_mean)(sites)
        kind = "parallel" if parallel else "sequential"
        out[f"{kind} log p(y)"] = [float(value)]
        out[f"{kind} gradient of delays"] = np.ravel(gradient["delay"]).tolist()
        out[f"{kind} gradient of loadings"] = np.ravel(gradient["loadings"]).tolist()
        out[f"{kind} smoothed readouts"] = np.ravel(latent[0]).tolist()
    print(json.dumps(out))


def main() -> None:
    import numpy as np
    from common import record, table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one()
        return
    results = []
    for flag in ("0", "1"):
        environment = {**os.environ, "JAX_ENABLE_X64": flag}
        done = subprocess.run([sys.executable, __file__, "--one"], env=environment, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    single, double = results
    assert (single.pop("dtype"), double.pop("dtype")) == ("float32", "float64")
    rows, worst = [], 0.0
    for name, exact in double.items():
        found = np.array(single[name])
        assert np.isfinite(found).all(), f"{name} is not finite in float32"
        error = float(np.abs(found - exact).max() / np.abs(exact).max())
        worst = max(worst, error if "log p" in name else 0.0)
        rows.append([name, f"{error:.1e}"])
    if args.check:
        assert worst < 1e-3, rows
        print("float32 is finite and within 1e-3 of float64:", rows)
        return
    note = "Largest difference over largest value; 3 regions x 30 neurons, 10 trials x 100 bins, 2 across latents."
    body = f"{table(['quantity', 'float32 against float64, relative'], rows)}\n\n{note}"
    record("Single precision", body, "python tests/benchmarks/precision.py")


if __name__ == "__main__":
    main()
