"""Fits by other packages, for field.py: each in its own process, of an environment that has no part of this project.

    python field_peers.py CONTESTANT RECORDING.npz FOLDER LATENTS LIMIT

A contestant leaves its parameters in FOLDER at growing numbers of iterations, each with the seconds that it took.
"""

import importlib.metadata
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GROWTH = 1.25  # from one number of iterations at which parameters are kept to the next
TOLERANCE, PATIENCE = 0.01, 4  # nats gained over iterations: where mrgp ends, and who has no rule of its own
SEGMENT_SEED = 0  # of the overlaps of elephant's segments
FIRST_TIMESCALE, GP_NOISE = 100.0, 1e-3  # ms, share: elephant's own
FLOOR = 1e-6  # of a neuron's variance: the least noise; elephant's own, 1%, is a bound that the other model lacks
FIRST_MEMORY = 0.9  # correlation of a state with the one before, where dynamax begins
LEAST_SHARE = 0.05  # of a neuron's variance that is noise, where dynamax begins
PRECISION = 0.1  # 1 / bins^2: where mbrila's demonstration begins
ROUNDS, RELATIVE = 300, 1e-8  # iterations and tolerance of mbrila's demonstration


class OutOfTime(Exception):
    """A contestant's time is over."""


class Recording(NamedTuple):
    """Values (trial, time, neuron), regions one after the other; neurons per region; seconds per bin."""

    values: np.ndarray
    neurons: tuple[int, ...]
    bin_width: float

    @classmethod
    def read(cls, path: Path) -> "Recording":
        with np.load(path) as file:
            return cls(file["values"], tuple(int(n) for n in file["neurons"]), float(file["bin_width"]))

    @property
    def bins(self) -> np.ndarray:
        """Every bin of every trial as a sample, (sample, neuron)."""
        return self.values.reshape(-1, self.values.shape[-1])


class Diary:
    """Parameters on the way, one file each; the seconds of writing them are not counted."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.next, self.began, self.aside = 1, self.now(), np.zeros(2)

    @staticmethod
    def now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    @property
    def spent(self) -> np.ndarray:
        """Seconds by the clock, and of all processors together."""
        return self.now() - self.began - self.aside

    @property
    def is_over(self) -> bool:
        return bool(self.spent[0] > self.limit)

    def keep(self, iteration: int, seconds: np.ndarray | None = None, **parameters: Any) -> None:
        """Write the parameters after an iteration, and choose the next one that is to be kept."""
        seconds, paused = self.spent if seconds is None else seconds, self.now()
        arrays: dict[str, Any] = {name: np.asarray(value, float) for name, value in parameters.items()}
        np.savez(self.folder / f"{iteration:06d}.npz", seconds=seconds, iteration=iteration, **arrays)
        self.next = max(iteration + 1, int(GROWTH * iteration))
        self.aside += self.now() - paused


type Contestant = Callable[[Recording, int, Diary], str]
"""From a recording, a number of latents and a diary to the reason of the end."""


def sklearn_fa(recording: Recording, latents: int, diary: Diary) -> str:
    """Factor analysis of scikit-learn; the noise variances are all that one call hands to the next."""
    from sklearn.decomposition import FactorAnalysis

    samples, done, noise = recording.bins, 0, None
    while not diary.is_over:
        rounds = diary.next - done
        model = FactorAnalysis(latents, svd_method="lapack", tol=TOLERANCE, max_iter=rounds, noise_variance_init=noise)
        model.fit(samples)
        done, noise = done + model.n_iter_, model.noise_variance_
        diary.keep(done, loadings=model.components_.T, noise=noise, offset=model.mean_)
        if model.n_iter_ < rounds:
            return "its tolerance"
    return "out of time"


def elephant(recording: Recording, latents: int, diary: Diary, segmented: bool = False) -> str:
    """Expectation-maximization of elephant's GPFA from its own start, on whole trials or on its segments of them."""
    from elephant.gpfa import gpfa_core, gpfa_util
    from sklearn.decomposition import FactorAnalysis

    trials: Any = np.array([(len(y), y.T) for y in recording.values], dtype=[("T", int), ("y", "O")])
    if segmented:
        np.random.seed(SEGMENT_SEED)  # noqa: NPY002  elephant draws from the global generator
        trials = gpfa_util.cut_trials(trials)
    width = 1e3 * recording.bin_width
    samples = np.hstack(trials["y"]).T
    factors = FactorAnalysis(latents, noise_variance_init=samples.var(0)).fit(samples)
    parameters: dict[str, Any] = {
        "covType": "rbf",
        "gamma": np.full(latents, (width / FIRST_TIMESCALE) ** 2),
        "eps": np.full(latents, GP_NOISE),
        "d": samples.mean(0),
        "C": factors.components_.T,
        "R": np.diag(factors.noise_variance_),
        "notes": {"learnKernelParams": True, "learnGPNoise": False, "RforceDiagonal": True},
    }
    done = 0
    while not diary.is_over:
        rounds = diary.next - done
        parameters, _, heights, _ = gpfa_core.em(parameters, trials, max_iters=rounds, min_var_frac=FLOOR)
        done += len(heights)
        diary.keep(
            done, loadings=parameters["C"], noise=np.diag(parameters["R"]), offset=parameters["d"],
            timescale=recording.bin_width / np.sqrt(parameters["gamma"]),
        )  # fmt: skip
        if len(heights) < rounds:
            return "its tolerance"
    return "out of time"


def elephant_segments(recording: Recording, latents: int, diary: Diary) -> str:
    return elephant(recording, latents, diary, segmented=True)


def dynamax(recording: Recording, latents: int, diary: Diary) -> str:
    """EM steps of dynamax from principal components, with three repairs (see ``Mended``)."""
    import jax
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm import LinearGaussianSSM

    class Mended(LinearGaussianSSM):
        """Its M-step with three repairs.

        The noise of neurons keeps its diagonal alone, the maximum among diagonal ones. The first state's covariance is
        that of several trials: dynamax 1.0.3 subtracts the product of sums where that of means belongs. Covariances of
        states are made symmetric: their other parts, of round-off at first, grow from step to step until nothing is a
        number.
        """

        def m_step(self, params: Any, props: Any, sums: Any, state: Any) -> Any:
            found, state = super().m_step(params, props, sums, state)
            first, square, trials = (part.sum(0) for part in sums[0])
            start, noise = square / trials - jnp.outer(first, first) / trials**2, found.dynamics.cov
            return found._replace(
                initial=found.initial._replace(cov=0.5 * (start + start.T)),
                dynamics=found.dynamics._replace(cov=0.5 * (noise + noise.T)),
                emissions=found.emissions._replace(cov=jnp.diag(found.emissions.cov)),
            ), state

    samples = recording.bins
    power, directions = np.linalg.eigh(np.cov(samples.T))
    loadings = directions[:, -latents:] * np.sqrt(power[-latents:])
    variance = samples.var(0)
    left = np.maximum(variance - (loadings**2).sum(1), LEAST_SHARE * variance)
    model = Mended(latents, samples.shape[1], has_dynamics_bias=False)
    params, props = model.initialize(
        dynamics_weights=FIRST_MEMORY * jnp.eye(latents),
        dynamics_covariance=(1 - FIRST_MEMORY**2) * jnp.eye(latents),
        emission_weights=jnp.asarray(loadings),
        emission_bias=jnp.asarray(samples.mean(0)),
        emission_covariance=jnp.asarray(left),
    )

    @jax.jit
    def several(params: Any, values: jax.Array, rounds: int) -> tuple[Any, jax.Array]:
        def once(_: int, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            sums, heights = jax.vmap(lambda y: model.e_step(state[0], y))(values)
            return model.m_step(state[0], props, sums, None)[0], heights.sum()

        return jax.lax.fori_loop(0, rounds, once, (params, jnp.zeros(())))

    done, before = 0, -np.inf
    while not diary.is_over:
        rounds = diary.next - done
        params, reached = several(params, recording.values, rounds)
        height, done = float(reached), done + rounds
        if not np.isfinite(height):
            return "no number"
        initial, dynamics, emissions = params.initial, params.dynamics, params.emissions
        diary.keep(
            done, transition=dynamics.weights, process_noise=dynamics.cov, start_mean=initial.mean,
            start_covariance=initial.cov, loadings=emissions.weights, offset=emissions.bias, noise=emissions.cov,
        )  # fmt: skip
        if (height - before) / rounds * PATIENCE < TOLERANCE:
            return f"gain below {TOLERANCE:g} nats over {PATIENCE} iterations"
        before = height
    return "out of time"


def mbrila(recording: Recording, latents: int, diary: Diary, **ways: Any) -> str:
    """DLAG of mbrila with one within latent per region, as its demonstration begins and ends."""
    import torch
    from mbrila import DLAG, LatentSpec, MOSEKernel
    from mbrila.core.data import MultiRegionData
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    count, width = len(recording.neurons), recording.bin_width
    data = MultiRegionData(torch.as_tensor(recording.values), recording.neurons, bin_width=1e3 * width)
    model = DLAG(
        LatentSpec(n_across=latents, n_within=(1,) * count), recording.neurons, data.T,
        kernel_factory_across=lambda: MOSEKernel(count, init_sigma=PRECISION),
        kernel_factory_within=lambda: MOSEKernel(1, init_sigma=PRECISION),
        device="cpu", dtype=torch.float64, **ways,
    )  # fmt: skip
    done = 0

    def write() -> None:
        own, dynamics = model.observation, model.dynamics
        if hasattr(dynamics, "blocks"):  # of the lifted model: across first, then within
            delays = torch.cat([block.delay.as_tensor() for block in dynamics.blocks[:latents]], 1)
            kernels = [block.kernel for block in dynamics.blocks]
        else:
            delays, kernels = dynamics.delay.as_tensor(), [*dynamics.kernel_across, *dynamics.kernel_within_flat]
        lengths = [width / float(kernel.sigma.detach()) ** 0.5 for kernel in kernels]
        columns = {f"loadings_{i}": matrix.detach() for i, matrix in enumerate(own.Cs)}
        diary.keep(
            done, timescale=lengths[:latents], timescale_within=lengths[latents:], delays=width * delays.detach(),
            noise=own.diag_R().detach(), offset=own.offset().detach(), **columns,
        )  # fmt: skip

    def after(*_: Any) -> None:
        nonlocal done
        done += 1
        if done >= diary.next or diary.is_over:
            write()
        if diary.is_over:
            raise OutOfTime

    register_optimizer_step_post_hook(after)
    try:
        model.initialize_from_data(data, mode="pcca")
        result = model.fit(data, max_iter=ROUNDS, tol=RELATIVE)
    except OutOfTime:
        return "out of time"
    write()
    return "its tolerance" if result.converged else f"{ROUNDS} iterations, as in its demonstration"


def mbrila_exact(recording: Recording, latents: int, diary: Diary) -> str:
    return mbrila(recording, latents, diary, engine="exact")


def mbrila_lifted(recording: Recording, latents: int, diary: Diary) -> str:
    return mbrila(recording, latents, diary, engine="kalman")


PEERS: dict[str, tuple[Contestant, str]] = {
    "sklearn_fa": (sklearn_fa, "scikit-learn"),
    "elephant": (elephant, "elephant"),
    "elephant_segments": (elephant_segments, "elephant"),
    "dynamax": (dynamax, "dynamax"),
    "mbrila_exact": (mbrila_exact, "mbrila"),
    "mbrila_lifted": (mbrila_lifted, "mbrila"),
}
MODULES = {"scikit-learn": "sklearn.decomposition", "elephant": "elephant.gpfa", "dynamax": "dynamax.linear_gaussian_ssm"}


def main() -> None:
    name, recording, folder, latents, limit = sys.argv[1:]
    warnings.simplefilter("ignore")
    contestant, package = PEERS[name]
    importlib.import_module(MODULES.get(package, package))
    reason = contestant(Recording.read(Path(recording)), int(latents), Diary(Path(folder), float(limit)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"reason": reason, "peak": peak, "version": f"{package} {importlib.metadata.version(package)}"}))


if __name__ == "__main__":
    main()
