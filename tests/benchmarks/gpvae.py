"""GPVAE beside DLAG where readouts are linear, and on images and spikes together.

    python tests/benchmarks/gpvae.py [--seeds 0,1,2] [--small] [--epochs 150] [--limit 600] [--parts NAMES]

Linear: DLAG(1, 1) drawn exactly, two regions of 20 neurons, 100 trials of 50 bins of 20 ms, delay 30 ms, timescales 100
and 60 ms, signal-to-noise 0.2; both models fitted to it. Bar: the bound of log p(y) of GPVAE, of one draw of q and not
weighted, is within 1 nat per trial of DLAG's, and 90% intervals hold the delay.

Images and spikes: the simulation of Gondur et al. 2024 (ICLR). 300 trials of 60 bins. A shared latent (variance 0.3) turns a shape in images of 36 x 36 pixels, another of the images
alone (variance 0.8, mean 1) zooms it; the shared one and one of the spikes alone (0.5) drive 100 Poisson neurons of
log-rates W z + d, W = 1.5 U(-1, 1), d = 0.5 U(-1, 1). Each is a Gaussian process of lengthscale 10 bins. Pixels have
noise of sd 0.2 around 0 to 1. Each seed is a process of its own with nothing compiled before.

R2 is of each true latent, regressed on all latents found, over all trials and bins. "Alone": the same fit, shown one
modality, and its latents regressed on what that tells it. Bars: 0.95 each, 0.95 of both together above either alone.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from common import peak_gb, record, table

import mrgp

BIN_WIDTH = 0.02  # seconds
LENGTHSCALE = 10  # bins
VARIANCE = {"shared": 0.3, "spikes": 0.5, "images": 0.8}
MEAN = {"shared": 0.0, "spikes": 0.0, "images": 1.0}
PIXEL_NOISE = 0.2
BLOBS = np.array([[-0.45, 0.6], [-0.45, 0.2], [-0.45, -0.2], [-0.45, -0.6], [0.0, 0.6], [0.4, 0.6], [0.0, 0.1]])
"""An F, of round blobs, in units of half an image: no turn of it is another."""
BLOB = 0.17  # their radius
LARGEST = 0.55  # the shape at a zoom of 1, in units of half an image
BATCH = 32  # trials of a step
DELAY = 0.03  # s, of the second region in recordings of DLAG
TRAINING = {"learning_rate": 1e-2, "batch_size": BATCH, "warm_up": 20}
LINEAR = {"learning_rate": 5e-3, "batch_size": BATCH, "warm_up": 0, "hidden_share": 0.0, "patience": 8}
FULL, SMALL = (300, 60, 100, 36), (100, 30, 60, 18)  # trials, bins, neurons, pixels along a side


def drawn(rng: np.random.Generator, n_trials: int, n_bins: int) -> dict[str, np.ndarray]:
    """True latents, (trial, time) each."""
    lag = np.subtract.outer(np.arange(n_bins), np.arange(n_bins))
    root = np.linalg.cholesky(np.exp(-((lag / LENGTHSCALE) ** 2) / 2) + 1e-8 * np.eye(n_bins))
    return {
        name: MEAN[name] + np.sqrt(variance) * rng.standard_normal((n_trials, n_bins)) @ root.T
        for name, variance in VARIANCE.items()
    }


def images(turn: np.ndarray, zoom: np.ndarray, side: int) -> np.ndarray:
    """The shape turned by radians, and zoomed by exp(zoom / 4), (..., pixel)."""
    grid = np.linspace(-1, 1, side)
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    size = LARGEST * np.exp(zoom / 4)
    c, s = np.cos(turn), np.sin(turn)
    total = np.zeros((*turn.shape, len(points)))
    for x, y in BLOBS:
        centre = size[..., None] * np.stack([c * x - s * y, s * x + c * y], -1)
        square = ((points - centre[..., None, :]) ** 2).sum(-1)
        total += np.exp(-square / (2 * (BLOB * size[..., None]) ** 2))
    return np.minimum(total, 1.0)


def simulated(seed: int, sizes: tuple[int, int, int, int]) -> tuple[mrgp.MultiRegionData, dict[str, np.ndarray]]:
    """The recording, and the true latents."""
    n_trials, n_bins, n_neurons, side = sizes
    rng = np.random.default_rng(seed)
    z = drawn(rng, n_trials, n_bins)
    W, d = 1.5 * rng.uniform(-1, 1, (2, n_neurons)), 0.5 * rng.uniform(-1, 1, n_neurons)
    counts = rng.poisson(np.exp(np.stack([z["shared"], z["spikes"]], -1) @ W + d))
    pixels = np.stack([images(z["shared"][i], z["images"][i], side) for i in range(n_trials)])
    pixels = pixels + PIXEL_NOISE * rng.standard_normal(pixels.shape)
    return mrgp.MultiRegionData({"images": pixels.astype(np.float32), "spikes": counts.astype(float)}, BIN_WIDTH), z


def r2(found: np.ndarray, truth: np.ndarray) -> float:
    """R2 of a true latent (trial, time) by the best affine map of what was found (trial, time, latent)."""
    X = np.concatenate([found.reshape(-1, found.shape[-1]), np.ones((truth.size, 1))], 1)
    y = truth.ravel()
    rest = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    return float(1 - rest.var() / y.var())


def one(seed: int, sizes: tuple[int, int, int, int], epochs: int) -> dict[str, float]:
    """Fit one recording; seconds are of fit and latents, compilation included."""
    from mrgp.models import GPVAE

    data, z = simulated(seed, sizes)
    model = GPVAE(
        1, 1, delays=mrgp.NoDelay(), emission={"images": "gaussian", "spikes": "poisson"}, order=3,
        hidden={"images": (64, 64), "spikes": ()},
    )  # fmt: skip
    start, cpu = time.perf_counter(), time.process_time()
    fit = model.fit(data, seed=seed, max_iterations=epochs, **TRAINING, progress=False)  # type: ignore
    latents = fit.latents()
    found = np.concatenate([latents["across_mean"], latents["within_mean"]], -1)
    result = {"seconds": time.perf_counter() - start, "CPU seconds": time.process_time() - cpu}
    result["epochs"] = float(fit.iterations)
    result |= {name: r2(found, truth) for name, truth in z.items()}
    for name in data.layout.regions:
        hidden = {region: np.array(data.region(region), float) for region in data.layout.regions}
        for other in set(hidden) - {name}:
            hidden[other][:] = np.nan
        alone = fit.latents(mrgp.MultiRegionData(hidden, BIN_WIDTH, drop_dead=None))
        both = np.concatenate([alone["across_mean"], alone["within_mean"]], -1)
        result[f"shared from {name} alone"] = r2(both, z["shared"])
    timescales = fit.timescales
    result["timescales (bins)"] = [round(float(t) / BIN_WIDTH, 2) for kind in ("across", "within") for t in timescales[kind]]  # type: ignore
    result["GB"] = peak_gb()
    return result


def linear(emission: str, seed: int, epochs: int) -> dict[str, float]:
    """Fit DLAG and GPVAE with a linear readout to a recording of DLAG's; times in ms, log p in nats per trial."""
    from mrgp.models import DLAG, GPVAE

    dlag = DLAG(1, 1, max_delay=0.06, emission=emission)
    truth = {"delay": DELAY, "timescale_across": 0.1, "timescale_within": 0.06}
    data = mrgp.simulate(dlag, sites=truth, regions={"A": 20, "B": 20}, snr=0.2, n_trials=100, n_bins=50, seed=seed).data
    exact = dlag.fit(data, seed=seed, n_starts=2, progress=False)
    start = time.perf_counter()
    model = GPVAE(1, 1, hidden=(), max_delay=0.06, emission=emission)
    fit = model.fit(data, seed=seed, max_iterations=epochs, **LINEAR, progress=False)  # type: ignore[arg-type]
    result = {"seconds": time.perf_counter() - start, "epochs": float(fit.iterations)}
    result["DLAG: log p"] = float(exact.log_likelihood().mean())
    result["below it: bound"] = result["DLAG: log p"] - bound_of(fit, data)
    result["weighted"] = result["DLAG: log p"] - float(fit.log_likelihood().mean())
    for name, own in (("DLAG", exact), ("GPVAE", fit)):
        found = 1e3 * own.delay_intervals(0.9).isel(region=1, across_latent=0)
        result |= {f"{name}: {end}": float(found[end]) for end in ("delay", "lower", "upper")}
        result[f"{name}: timescales"] = [round(1e3 * float(t), 1) for kind in ("across", "within") for t in own.timescales[kind]]  # type: ignore
    return result


def bound_of(fit: mrgp.Fit, data: mrgp.MultiRegionData) -> float:
    """Bound of log p(y) in nats per trial, by single draws of the guide."""
    import jax

    from mrgp.inference.amortised_bound import terms

    values = fit.conditional(data).values

    def drawn(key: jax.Array) -> jax.Array:
        found = terms(fit.model, values, data, key)
        return found.likelihood - found.divergence

    keys = jax.random.split(jax.random.key(0), 32)
    return float(jax.jit(lambda keys: jax.lax.map(drawn, keys).mean())(keys)) / data.n_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--parts", default="images,poisson,gaussian", help="which of them, separated by commas")
    parser.add_argument("--small", action="store_true", help="images: 100 trials, 30 bins, 60 neurons, 18 x 18 pixels")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which a seed is given up")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        part, seed = options.one.split(":")
        sizes = SMALL if options.small else FULL
        found = one(int(seed), sizes, options.epochs) if part == "images" else linear(part, int(seed), options.epochs)
        print(json.dumps(found))
        return
    titles = {"images": "GPVAE of images and spikes" + " (small)" * options.small}
    for part in options.parts.split(","):
        rows = []
        for seed in options.seeds.split(","):
            own = [sys.executable, __file__, "--one", f"{part}:{seed}", "--epochs", str(options.epochs)]
            try:
                done = subprocess.run(
                    own + ["--small"] * options.small, capture_output=True, text=True, timeout=options.limit, check=True
                )
            except subprocess.TimeoutExpired:
                rows.append({"seed": seed, "seconds": options.limit})
                continue
            rows.append({"seed": seed, **json.loads(done.stdout.splitlines()[-1])})
        header = list(dict.fromkeys(name for row in rows for name in row))
        shown = [[f"{v:.4g}" if isinstance(v := row.get(name, ""), float) else v for name in header] for row in rows]
        title = titles.get(part, f"GPVAE with linear readouts beside DLAG ({part})")
        record(title, table(header, shown), " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
