"""What all tests share: float64, warnings as errors, one registry of kernels, small random models."""

import os
from pathlib import Path

# Programs of tests run for milliseconds and compile for seconds: half as long without the compiler's optimisations.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Matrices of tests are small: threads of BLAS have nothing to share out, and wait for each other where cores are busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Workers, files and runs share what they have compiled, also small programs, which are read in a fifth of the time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import mrgp.runtime.devices  # noqa: I001  float64 before any array exists

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry

from mrgp.likelihoods import DenseGP, MarkovGP, SpectralGP
from mrgp.likelihoods.statespace.assemble import Prior, StateSpace
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.latents import LatentLayout
from mrgp.recordings.missing import Missing

WINDOW = Window(6)  # reads delays of up to 3 bins


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    # One worker reads what the other is writing: it compiles that by itself.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cases that a test's mark ``slow_cases`` names are marked slow, before the marks choose what runs."""
    for item in items:
        mark = item.get_closest_marker("slow_cases")
        if mark and isinstance(item, pytest.Function) and item.callspec.id in mark.args:
            item.add_marker(pytest.mark.slow)


MAPS = Path("/proc/self/maps")
MANY_MAPS = 30_000  # of the 65530 that a process has on Linux


@pytest.fixture(scope="module", autouse=True)
def fresh_compiler():
    """Compiled programs hold memory maps: they are dropped after a file that leaves many, or where maps are unknown."""
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Carry out a command line; returns exit code, standard output and standard error."""
    from mrgp.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def agg() -> None:
    """Draw without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")


@pytest.fixture
def shared_data() -> Path:
    """The folder of recordings and reference values beside the checkout; the test is skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no reference recordings beside this checkout")
    return folder


# --- kernels

LIFTS: dict[str, Any] = {}


@pytest.fixture(params=registry.KERNELS, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> registry.KernelCase:
    """Every kernel of the registry in turn."""
    return request.param


@pytest.fixture
def lift(case: registry.KernelCase) -> Any:
    """The state space of ``case`` at the default order, built once per session."""
    if case.name not in LIFTS:
        LIFTS[case.name] = build_lift(case.kernel)
    return LIFTS[case.name]


# --- small models


@dataclass
class SmallModel:
    """Random parameters of a small model, and the three distributions made of them."""

    prior: Prior
    arguments: dict[str, Any]
    n_bins: int

    def _given(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"n_bins": self.n_bins, **self.arguments, **options}

    def dense(self, **options: Any) -> DenseGP:
        return DenseGP(prior=self.prior, **self._given(options))

    def spectral(self, **options: Any) -> SpectralGP:
        return SpectralGP(prior=self.prior, **self._given(options))

    def markov(
        self, window: Window = WINDOW, order: int = 5, parallel: bool = False, **options: Any
    ) -> MarkovGP:
        autocorrelated = options.get("autocorrelation") is not None
        space = StateSpace(self.prior, shared_lift(self.prior.kernel, order), window, autocorrelated=autocorrelated)
        return MarkovGP(space=space, parallel=parallel, **self._given(options))


def shared_lift(kernel: mrgp.Kernel, order: int) -> Any:
    """One lift per kernel and order: functions jitted on its identity are compiled once."""
    key = repr((kernel, order))
    if key not in LIFTS:
        LIFTS[key] = build_lift(kernel, order)
    return LIFTS[key]


def make_model(
    n_neurons: tuple[int, ...] = (3, 2),
    n_across: int = 2,
    n_within: tuple[int, ...] = (1, 0),
    n_bins: int = 7,
    kernel: mrgp.Kernel | None = None,
    timescale: tuple[float, float] = (2.0, 6.0),
    max_delay: float = 2.5,
    delay_steps: int = 1,
    gp_noise: float = 1e-2,
    seed: int = 0,
) -> SmallModel:
    """A model with random loadings, noises, delays (0 in region 1) and timescales in the interval given."""
    rng = np.random.default_rng(seed)
    assignment = LatentLayout(n_neurons, n_across, n_within)
    neurons = sum(n_neurons)
    delay = rng.uniform(-max_delay, max_delay, (delay_steps, len(n_neurons), n_across))
    delay[:, 0] = 0.0
    arguments = {
        "loadings": jnp.asarray(0.8 * rng.standard_normal((neurons, assignment.n_columns))),
        "noise": jnp.asarray(rng.uniform(0.2, 0.8, neurons)),
        "offset": jnp.asarray(rng.standard_normal(neurons)),
        "delay": jnp.asarray(delay),
        "across": {"timescale": jnp.asarray(rng.uniform(*timescale, n_across))},
        "within": {"timescale": jnp.asarray(rng.uniform(*timescale, sum(n_within)))},
    }
    return SmallModel(Prior(kernel or mrgp.SquaredExponential(), gp_noise, assignment), arguments, n_bins)


@pytest.fixture
def small_model() -> Callable[..., SmallModel]:
    """The factory of small random models; see :func:`make_model` for its arguments."""
    return make_model


MISSING = ["complete", "holes", "ragged", "ragged_holes"]


def make_missing(
    kind: str, n_trials: int, n_bins: int, n_neurons: int, seed: int = 0
) -> tuple[np.ndarray, Missing | None]:
    """Which entries (trial, time, neuron) are observed, and the same as the likelihoods take it.

    Three arrangements of holes are dealt out to the trials, one with a whole bin and a neuron missing.
    """
    rng = np.random.default_rng(seed)
    mask = np.ones((n_trials, n_bins, n_neurons), bool)
    observed, length = None, None
    pattern = np.zeros(n_trials, int)
    if "holes" in kind:
        observed = rng.random((3, n_bins, n_neurons)) < 0.7
        observed[1, n_bins // 2] = False
        observed[1, :, 0] = False
        pattern = np.arange(n_trials) % 3
        mask &= observed[pattern]
    if "ragged" in kind:
        length = rng.integers(1, n_bins + 1, n_trials)
        length[0] = n_bins
        mask &= (np.arange(n_bins) < length[:, None])[..., None]
    if kind == "complete":
        return mask, None
    arrays = [None if a is None else jnp.asarray(a) for a in (observed, pattern, length)]
    return mask, Missing(*arrays)


@pytest.fixture(params=MISSING)
def missing_kind(request: pytest.FixtureRequest) -> str:
    """Each way in which a recording can be incomplete."""
    return request.param


@pytest.fixture
def missing_data() -> Callable[..., tuple[np.ndarray, Any]]:
    """The factory of missing data; see :func:`make_missing` for its arguments."""
    return make_missing
