"""Refits of resampled recordings, each a climb from the fit to its own maximum.

They run in this process or in the workers of any executor.

A recording is resampled after it was reduced to what it says of the readouts (``mode.given_loadings``): trials drawn
with replacement are one weight each, and of a recording drawn from the model no neuron has to be drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from mrgp.inference.density import LogJoint, Sites
from mrgp.inference.mode.curvature import diagonal
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.optimise import INTERRUPTED, Objective, maximise
from mrgp.inference.run import Model
from mrgp.likelihoods.recursions.smoother import synthetic_information
from mrgp.likelihoods.reduction import Information
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.workers import TRACING, as_done

type Kind = Literal["trials", "parametric"]

TOLERANCE = 1e-3  # nats: a climb that stops there is within 0.05 posterior standard deviations of its top
PATIENCE = 2  # iterations: refits begin near their top, in its own units, where each gains far less than the one before
ITERATIONS = 200  # refits take five
FLATTEST = 0.1  # curvature of a free coordinate of which the recording says nothing, about that of the priors
LARGEST_CHUNK, CHUNKS = 25, 16  # samples that a worker is sent at a time, and parts to deal out when they are few


@dataclass(frozen=True, eq=False)
class Job:
    """Data and settings that all refits share.

    They are plain arrays and a model, so that the job can be sent to another process.

    Attributes:
        model: That of the fit.
        given: What the recording says, every trial once.
        start: Sites to refit, at the fit.
        scale: Their posterior standard deviations there, one by one, in their free coordinates.
        kind: "trials": trials drawn with replacement; "parametric": recordings drawn from the model at ``start``.
        seed: Sample i is drawn from the i-th child of its seed sequence.
    """

    model: Model
    given: Given
    start: Mapping[str, np.ndarray]
    scale: Mapping[str, np.ndarray]
    kind: Kind
    seed: int

    @classmethod
    def at(cls, model: Model, given: Given, start: Mapping[str, Any], kind: Kind, seed: int) -> "Job":
        """Make a job with posterior standard deviations from the curvature at ``start``."""
        start = {name: np.asarray(value) for name, value in start.items()}
        objective = Objective(LogJoint(Reduced(model)), given, start, {})
        scale = {name: 1 / np.sqrt(np.maximum(diagonal(objective, name), FLATTEST)) for name in start}
        return cls(model, jax.tree.map(np.asarray, given), start, scale, kind, seed)


class Refit(NamedTuple):
    """Sites at the end of one refit, and whether it converged."""

    sites: dict[str, np.ndarray]
    converged: bool


def refits(job: Job, n_samples: int, executor: Executor | None, progress: bool) -> list[Refit]:
    """Refit samples 0, 1, ..., ``n_samples`` - 1; return them in order.

    They are the same whatever the executor; None is this process.
    """
    done: dict[int, Refit] = {}
    with tqdm(desc="bootstrap", total=n_samples, unit=" samples", disable=not progress, leave=False) as bar:
        for samples, part in _parts(job, n_samples, executor):
            done |= zip(samples, part, strict=True)
            bar.update(len(part))
    return [done[sample] for sample in range(n_samples)]


def _parts(job: Job, n_samples: int, executor: Executor | None) -> Iterator[tuple[Sequence[int], list[Refit]]]:
    """Yield refits of some samples as they are done.

    They come one by one, or chunk by chunk from the workers of an executor.
    """
    if executor is None:
        yield from (([sample], [one]) for sample, one in enumerate(_climbs(job, range(n_samples))))
        return
    size = min(LARGEST_CHUNK, -(-n_samples // CHUNKS))
    chunks = [range(first, min(first + size, n_samples)) for first in range(0, n_samples, size)]
    yield from as_done(partial(_chunk, job), [[chunk] for chunk in chunks], executor)


def _chunk(job: Job, samples: Sequence[int]) -> list[Refit]:
    return list(_climbs(job, samples))


def _climbs(job: Job, samples: Sequence[int]) -> Iterator[Refit]:
    """Climb from the fit to the maximum of each sample, by number."""
    with TRACING:
        given: Given = jax.tree.map(jnp.asarray, job.given)
        objective = Objective(LogJoint(Reduced(job.model)), given, job.start, job.scale)
        objective(np.zeros(objective.size))
        _resampled(job, given, 0)
    for sample in samples:
        objective.data = _resampled(job, given, sample)  # of the same shapes: nothing is compiled again
        ascent = maximise(objective, tolerance=TOLERANCE, max_iterations=ITERATIONS, patience=PATIENCE)
        if ascent.reason == INTERRUPTED:
            raise KeyboardInterrupt
        yield Refit({name: np.asarray(value) for name, value in ascent.sites.items()}, ascent.converged)


def _resampled(job: Job, given: Given, sample: int) -> Given:
    """Resample what the recording says: weights of trials, or a recording drawn anew."""
    if job.kind == "trials":
        weights = counts(job.seed, sample, given.data.n_trials)
        return given._replace(weights=jnp.asarray(weights, given.weights.dtype))
    words = _source(job.seed, sample).generate_state(2)
    key = jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")
    sites = {**given.emission, **{name: jnp.asarray(value) for name, value in job.start.items()}}
    vectors = _drawn(job.model, given.data, given.information, sites, key)
    return given._replace(information=given.information._replace(vectors=vectors))


def counts(seed: int, sample: int, n_trials: int) -> np.ndarray:
    """Draw how often each trial is in one sample of ``n_trials`` trials, (trial,)."""
    return np.random.default_rng(_source(seed, sample)).multinomial(n_trials, np.full(n_trials, 1 / n_trials))


def _source(seed: int, sample: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(sample,))


@partial(jax.jit, static_argnums=0)
def _drawn(model: Model, data: MultiRegionData, told: Information, sites: Sites, key: Array) -> Array:
    """Draw C' R^-1 (y - d) of a recording with ``sites``, (time, trial, readout).

    It is Lambda x + xi with xi ~ N(0, Lambda): no neuron has to be drawn.
    """
    latent_key, noise_key = jax.random.split(key)
    readouts = model.likelihood_at(data, sites).gaussian.sample_readouts(latent_key, data.n_trials)
    vectors = synthetic_information(noise_key, jnp.swapaxes(readouts, 0, 1), told.precision, told.pattern)
    return vectors if told.valid is None else vectors * told.valid[..., None]
