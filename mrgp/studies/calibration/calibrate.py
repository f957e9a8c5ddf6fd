"""Simulation-based calibration of a model's posteriors (Talts et al. 2018).

Delays and kernel parameters are drawn from their priors, a recording is simulated with them, the model is fitted to it,
and the rank of the truth among the posterior's draws is noted, again and again. Ranks are uniform, and intervals of
probability p hold the truth with frequency p, if program, likelihood and method of inference are all right.

Loadings, noise and offsets have weak priors in the units of the recording, from which no recording could be drawn: they
come from :func:`mrgp.simulate` (loadings normal, scaled to the signal-to-noise ratio; noise variances 1;
offsets standard normal), are known from far more data than their priors are worth, and are not ranked. Nor are other
parameters, such as dispersions of counts or courses of means, which :func:`mrgp.simulate` draws from their priors.
"""

import importlib.metadata
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.inference.density import known_sites
from mrgp.inference.method import Method
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.delays.varying import DELAY_CHANGE
from mrgp.parts.readout import LOADINGS
from mrgp.parts.symmetries import align_draws
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData, stand_in
from mrgp.recordings.units import read_bin_width, unmistaken
from mrgp.results.fitted import FittedProcesses
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.runtime.records import Store
from mrgp.simulations.simulate import Simulation, simulate
from mrgp.studies.calibration.rank_tests import judged
from mrgp.studies.calibration.result import FILE, Calibration, gathered_from

RESERVED = {"data", "method", "seed", "start", "fixed", "checkpoint", "progress"}  # of fit, and not settings
TWO_REGIONS = {"V1": 10, "V2": 10}


def calibrate(
    model: GaussianProcesses,
    n: int = 200,
    *,
    method: str = "laplace",
    settings: Mapping[str, Any] | None = None,
    regions: Mapping[str, int] = TWO_REGIONS,
    n_trials: int = 40,
    n_bins: int = 50,
    bin_width: float = 0.02,
    snr: float = 1.0,
    draws: int = 99,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> Calibration:
    """Simulate from a model's priors n times, fit, and rank the truth among posterior draws.

    Every simulation has a seed of its own, which does not depend on n. A fit that widens ``max_delay`` uses a wider
    prior than the truth was drawn from; as that prior is flat, its draws within the bound are draws of the posterior
    asked for, and only they count. Latents are paired with the true ones by their loadings alone, never by what is
    ranked. Of delays that vary the mean over a trial is ranked, not their course: how far it moves is set by the fit
    where the evidence is highest, and is no draw.

    Args:
        model: With delays or timescales, the latter with ``timescale_bounds``, such as ``DLAG(1, 1, max_delay=0.1,
            timescale_bounds=(0.03, 0.3))``. Where nothing else is chosen, all fits share one window, that of the
            shortest timescale, so that they share what is compiled.
        n: Simulations.
        method: The name of one that gives draws: "laplace", "nuts" or "svi".
        settings: Of the method, and of ``model.fit``, such as ``{"n_starts": 3}``. "laplace" is asked for the Gaussian
            of ``fit.delay_intervals`` (``loadings="profiled"``) where they do not say.
        regions: Name -> neurons. A model that pools regions is calibrated on one region of as many neurons.
        n_trials, n_bins, bin_width, snr: Of every recording; seconds.
        draws: Evenly spaced posterior draws that the truth is ranked among.
        seed: Of everything.
        out: A folder where every simulation done is kept in ``simulations.json``: a run that is stopped goes on from
            there when it is called again, with a larger n if need be.
        progress: Show a progress bar.

    Raises:
        ValueError: the model has nothing to rank or no such posterior, the method gives too few draws, or ``out`` has
            simulations with other settings.
        FloatingPointError: every fit failed.
    """
    settings, bin_width = dict(settings or {}), read_bin_width(bin_width)
    _check(model, method, settings, n, draws)
    layout = Layout(tuple(regions), tuple(regions.values()), bin_width)
    if model.assignment(layout).n_regions < len(regions):
        layout = Layout(("all",), (layout.total_neurons,), bin_width)
    blank = stand_in(layout, 1, n_bins)
    blank.require(model.regions_needed, type(model).__name__)
    priors = ranked_priors(model, blank)
    design = {"n_trials": n_trials, "n_bins": n_bins, "bin_width": unmistaken(bin_width), "snr": snr}
    asked = dict(Method.member(method).for_calibration)
    if "n_draws" in asked:
        asked["n_draws"] = max(asked["n_draws"], draws)
    settings = asked | settings
    key = _json_ready({
        "model": model.to_settings(), "method": method, "settings": settings,
        "regions": dict(zip(layout.regions, layout.n_neurons, strict=True)), **design,
        "draws": draws, "seed": seed, "mrgp": importlib.metadata.version("mrgp"),
    })  # fmt: skip
    store = Store(None if out is None else Path(out) / FILE, key)
    one = _Simulated(_with_window(model, blank), priors, layout, design, method, settings, draws)
    first = min(n, len(store.done))
    bar = tqdm(total=n, initial=first, desc="calibrating", unit=" fits", disable=not progress, leave=False)
    with bar:
        for i in range(first, n):
            store.append(one.run(np.random.SeedSequence(seed, spawn_key=(i,))))
            bar.update()
            if failed := sum(record["failure"] != "" for record in store.done):
                bar.set_postfix_str(f"{failed} failed")
    return gathered_from(store.done[:n], one.quantities(), key)


def _check(model: GaussianProcesses, method: str, settings: Mapping[str, Any], n: int, draws: int) -> None:
    name = type(model).__name__
    with_draws = methods_with_draws()
    if method not in with_draws:
        listed = ", ".join(with_draws)
        raise ValueError(f"calibration asks for draws of a posterior: method is {listed}, not {method!r}")
    if not Method.member(method).is_for(model):
        raise ValueError(f"{name} has no method {method!r}, and no posterior to calibrate")
    if model.kernel.has_timescale and model.timescale_bounds is None:
        raise ValueError(f"{name} needs timescale_bounds, such as (0.03, 0.3) seconds: timescales are drawn from them")
    if n < 1 or draws < 1:
        raise ValueError(f"n and draws count at least 1, not {n} and {draws}")
    if taken := sorted(RESERVED & settings.keys()):
        raise ValueError(f"settings cannot have {', '.join(taken)}: calibrate sets them itself")


def methods_with_draws() -> list[str]:
    """Names of the methods whose fits have draws of the posterior, sorted."""
    return sorted(method.written_name() for method in Method.members().values() if method.gives_draws)


def ranked_priors(model: GaussianProcesses, blank: MultiRegionData) -> dict[str, Any]:
    """Find the priors of delays and kernel parameters in the model's own program.

    Raises:
        ValueError: the model has none of them.
    """
    free, names = known_sites(model.prepared(blank), blank), model.tables.dynamics_sites(blank.layout)
    if not names:
        raise ValueError(f"{type(model).__name__} has no delays or timescales to calibrate")
    return {name: free[name]["fn"] for name in names}


def _with_window(model: GaussianProcesses, blank: MultiRegionData) -> GaussianProcesses:
    """Choose one window of registers for all fits, unless the model chooses its own.

    It serves the model's shortest timescale and a bin more than its delays. Kernels and noise with further parameters
    have no window that serves all of them.
    """
    known = model.kernel.has_timescale and all(isinstance(value, float) for value in model.kernel.parameters().values())
    known &= not model.emission.is_autocorrelated
    if model.likelihood.registers is not None or model.timescale_bounds is None or not known:
        return model
    layout, bound = blank.layout, model.delays.bound(blank.bin_width)
    wide = model.replace(max_delay=bound + layout.bin_width) if bound > 0 else model
    counts = {"across": model.n_across, "within": sum(model.assignment(layout).n_within)}
    shortest = {f"timescale_{kind}": np.full(count, model.timescale_bounds[0]) for kind, count in counts.items()}
    return model.replace(likelihood=wide.fitting.adapted(blank, shortest, 1.0).likelihood)


@dataclass(frozen=True)
class _Simulated:
    """Recipe to make and judge one simulation, from the arguments of :func:`calibrate`."""

    model: GaussianProcesses
    priors: dict[str, Any]
    layout: Layout
    design: dict[str, Any]
    method: str
    settings: dict[str, Any]
    draws: int

    def quantities(self) -> dict[str, str]:
        """Names of the ranked quantities, in the order of raveled sites, and the kind of each."""
        within = zip(self.layout.regions, self.model.assignment(self.layout).n_within, strict=True)
        latents = {
            "across": [f"across:{k}" for k in range(self.model.n_across)],
            "within": [f"within {region}:{j}" for region, width in within for j in range(width)],
        }
        named: dict[str, str] = {}
        for site in self.priors:
            if site == DELAY.name:
                later = self.layout.regions[1:]
                named |= {f"delay {r}:{k}": "delay" for r in later for k in range(self.model.n_across)}
            elif site != DELAY_CHANGE.name:
                name, _, kind = site.rpartition("_")
                named |= {f"{name} {latent}": f"{name} {kind}" for latent in latents[kind]}
        return named

    def run(self, sequence: np.random.SeedSequence) -> dict[str, Any]:
        """Simulate, fit and judge once; return values ready for JSON."""
        began, bin_width = time.perf_counter(), self.layout.bin_width
        rng = np.random.default_rng(sequence)
        prior_seed, data_seed, fit_seed = rng.integers(2**31, size=3).tolist()
        keys = jax.random.split(jax.random.key(prior_seed), len(self.priors))
        truth = {
            name: np.asarray(prior.sample(key)) for (name, prior), key in zip(self.priors.items(), keys, strict=True)
        }
        simulation = simulate(
            model=self.model, sites=truth, seed=data_seed,
            regions=dict(zip(self.layout.regions, self.layout.n_neurons, strict=True)), **self.design,
        )  # fmt: skip
        told = self._raveled(self._ranked(self.model, simulation.sites), ())
        record: dict[str, Any] = {"truth": told.tolist(), "failure": "", "converged": False, "widened": False}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fit: Any = self.model.fit(
                    simulation.data, self.method, seed=fit_seed, progress=False, **self.settings
                )
                record["converged"] = fit.converged
                record["widened"] = fit.model.delays.bound(bin_width) > self.model.delays.bound(bin_width)
                judgement = self._judgement(fit, told, simulation, rng)
                record |= {name: value.tolist() for name, value in judgement.items()}
            except (FloatingPointError, np.linalg.LinAlgError) as error:
                record["failure"] = str(error) or type(error).__name__
        record["notes"] = sorted({str(each.message) for each in caught if each.category is UserWarning})
        return {**record, "seconds": time.perf_counter() - began}

    def _judgement(
        self, fit: GaussianProcessFit, truth: np.ndarray, simulation: Simulation, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        if fit.n_samples < self.draws:
            raise ValueError(f"the fit has {fit.n_samples} draws, too few to rank among {self.draws}: raise n_draws")
        drawn = self._ranked(fit.model, fit.draws(fit.n_samples))
        # By loadings alone: were what is ranked to decide, the draws would come closer to the truth.
        known = {LOADINGS.name: simulation.sites[LOADINGS.name]}
        aligned = align_draws(drawn, fit.assignment, known)
        flat = self._raveled(aligned, (fit.n_samples,))
        if DELAY.name in self.priors:
            bound = self.model.delays.bound(self.layout.bin_width)
            flat = flat[np.all(np.abs(aligned[DELAY.name]) <= bound, axis=(1, 2))]
            if len(flat) < self.draws:
                raise FloatingPointError(
                    f"{len(flat)} of {fit.n_samples} draws have delays within max_delay, too few to rank among"
                )
        return judged(truth, flat, self.draws, rng)

    def _ranked(self, model: FittedProcesses, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return loadings and the sites that are ranked, of one value or of many draws."""
        named = {name: np.asarray(sites[name]) for name in (LOADINGS.name, *self.priors) if name != DELAY_CHANGE.name}
        if DELAY_CHANGE.name in self.priors:
            named[DELAY.name] = model.tables.delays(sites, self.layout, self.design["n_bins"])[..., 1:, :, :].mean(-1)
        return named

    def _raveled(self, sites: Mapping[str, np.ndarray], leading: tuple[int, ...]) -> np.ndarray:
        ranked = (name for name in self.priors if name != DELAY_CHANGE.name)
        return np.concatenate([np.reshape(sites[name], (*leading, -1)) for name in ranked], -1)


def _json_ready(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to the form that a JSON file gives back, functions to their names."""
    return json.loads(json.dumps(values, default=lambda value: getattr(value, "__qualname__", str(value))))
