r"""Default likelihood: a Kalman filter on the state-space lift.

It costs O(time); covariances are shared by trials.

Where trials are so short, and states so many, that one factor of a trial's readouts costs less than the filter's
steps, the same state space is scored that way (see ``recursions.whole``): the same numbers, sooner.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, random

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.blocks import in_blocks, size_of_blocks
from mrgp.likelihoods.recursions import whole
from mrgp.likelihoods.recursions.filter import (
    Dynamics,
    Gains,
    StateReadout,
    filter_gains,
    filter_means,
    log_normalizer_terms,
)
from mrgp.likelihoods.recursions.scan import parallel_gains, parallel_means
from mrgp.likelihoods.recursions.smoother import sample_prior, smooth_covariances, smooth_means, synthetic_information
from mrgp.likelihoods.recursions.steady import Steady
from mrgp.likelihoods.recursions.whole import ReadoutMoments, costs_less, stationary_covariance, told_apart
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.statespace.about_zero import AboutZero, Start, prior_moments
from mrgp.likelihoods.statespace.assemble import Space
from mrgp.parts.emissions.autocorrelated import restored
from mrgp.parts.loadings import readout_loadings
from mrgp.recordings.missing import Missing, exact_patterns


class Posterior(NamedTuple):
    """Posterior of states and readouts given a recording.

    Covariances are shared by the trials of a pattern.

    Attributes:
        state_mean: (step, trial, state).
        state_covariance: (step, pattern, state, state).
        state_lagged: Covariance of a step's state (rows) with the next, (step - 1, pattern, state, state).
        readout_mean: (trial, time, readout).
        readout_covariance: (pattern, step, bin_in_step * readout, bin_in_step * readout).
        pattern: (trial,).
    """

    state_mean: Array
    state_covariance: Array
    state_lagged: Array
    readout_mean: Array
    readout_covariance: Array
    pattern: Array


class Filtered(NamedTuple):
    """Results of one filter pass, in steps."""

    dynamics: Dynamics
    readout: StateReadout
    gains: Gains
    means: Array
    information: Information


class MarkovGP(DelayedGP):
    """Likelihood of delayed Gaussian processes as a linear state space.

    See :class:`DelayedGP` for the parameters.

    Args:
        space: State space that represents the prior; its ``prior`` is the model.
        parallel: Scans in parallel blocks instead of sequential ones; None chooses by the device, and takes short
            trials at once.
    """

    pytree_aux_fields = ("space", "parallel")

    def __init__(
        self,
        *parameters: Any,
        space: Space,
        parallel: bool | None = None,
        **named: Any,
    ) -> None:
        self.space = space
        self.parallel = parallel
        super().__init__(*parameters, prior=space.prior, **named)

    @property
    def mean(self) -> Array:
        start = self._from_start()
        if start is None:
            return super().mean
        drift = self._read_out(start.mean) @ readout_loadings(self.prior.assignment, self.loadings).T
        return jnp.broadcast_to(drift, self.batch_shape + self.event_shape) + self.mean_of_trials

    @property
    def variance(self) -> Array:
        if self.space.is_standard:
            return super().variance
        C = readout_loadings(self.prior.assignment, self.loadings)
        variance = jnp.einsum("ni,tij,nj->tn", C, self.readout_covariance, C) + self.noise
        return jnp.broadcast_to(variance, self.batch_shape + self.event_shape)

    @property
    def readout_covariance(self) -> Array:
        start = self._from_start()
        return super().readout_covariance if start is None else start.covariance

    @property
    def about_zero(self) -> Self:
        start = self._from_start()
        if start is None:
            return self
        other, drift = copy.copy(self), self._read_out(start.mean)
        other.space = AboutZero(self.space)
        other.course = drift @ readout_loadings(self.prior.assignment, self.loadings).T
        other.course = other.course[None] if self.course is None else other.course + self.course
        return other

    def with_start(self, posterior: Posterior) -> Posterior:
        """Posterior of this distribution from that of :attr:`about_zero`."""
        start = self._from_start()
        if start is None:
            return posterior
        states = posterior.state_mean + start.mean[:, None]
        return posterior._replace(state_mean=states, readout_mean=posterior.readout_mean + self._read_out(start.mean))

    def _read_out(self, states: Array) -> Array:
        """Read readouts from states at all times, (time, readout)."""
        _, readout = self.space.assemble(self.latents)
        weights = jnp.broadcast_to(readout.weights, (len(states), *readout.weights.shape[1:]))
        return jnp.einsum("tis,ts->ti", weights, states)

    def _from_start(self) -> Start | None:
        """Prior moments of readouts that are not of mean 0 and variance 1, else None."""
        if self.space.is_standard:
            return None
        return prior_moments(*self.space.assemble(self.latents), self.n_bins)

    @property
    def _in_parallel(self) -> bool:
        return jax.default_backend() != "cpu" if self.parallel is None else self.parallel

    def _in_steps(self, information: Information) -> Information:
        """Group bins into the steps of the window; bins past the end carry no information."""
        step = self.space.window.step
        if step == 1:
            return information
        short = -self.n_bins % step

        def grouped(array: Array) -> Array:
            padded = jnp.pad(array, [(0, short)] + [(0, 0)] * (array.ndim - 1))
            return padded.reshape(-1, step, *array.shape[1:])

        vectors = jnp.moveaxis(grouped(information.vectors), 1, 2)  # (step, trial, bin, readout)
        vectors = vectors.reshape(*vectors.shape[:2], -1)
        precision = information.precision
        if short or precision.shape[0] > 1:
            precision = grouped(jnp.broadcast_to(precision, (self.n_bins, *precision.shape[1:])))
        else:
            precision = jnp.broadcast_to(precision[:, None], (1, step, *precision.shape[1:]))
        laid = jnp.einsum("tbgij,bc->tgbicj", precision, jnp.eye(step, dtype=precision.dtype))
        size = step * precision.shape[-1]
        laid = laid.reshape(*laid.shape[:2], size, size)
        return information._replace(vectors=vectors, precision=laid)

    def _filter(self, information: Information) -> Filtered:
        return self._filtered(*self.space.assemble(self.latents), self._in_steps(information))

    def _filtered(self, dynamics: Dynamics, readout: StateReadout, information: Information) -> Filtered:
        n_steps = information.vectors.shape[0]
        if self._in_parallel:
            gains = parallel_gains(dynamics, readout, information.precision, n_steps)
            means = parallel_means(dynamics, readout, gains, information.vectors, information.pattern)
        else:
            gains = filter_gains(dynamics, readout, information.precision, n_steps)
            means = filter_means(dynamics, readout, gains, information.vectors, information.pattern)
        return Filtered(dynamics, readout, gains, means, information)

    def _is_short(self, dynamics: Dynamics, readout: StateReadout, n_patterns: int, trials: int | None = None) -> bool:
        """True if one factor of a whole trial costs less than the steps of a filter.

        The filter's gain is that of all steps where a number of ``trials`` is given. False unless the process is
        stationary.
        """
        stationary = self.space.is_stationary and readout.weights.shape[0] == 1
        n_steps = -(-self.n_bins // self.space.window.step)
        cheaper = costs_less(n_steps, readout.weights.shape[1], len(dynamics.transition), n_patterns, trials)
        return self.parallel is None and stationary and cheaper

    def normalizer(self, information: Information) -> Array:
        if self.space.window.step > 1 and information.valid is not None:
            # Bins of one step are scored together, so a trial's end must be written into the precision.
            information = self._whole_steps(information)
        dynamics, readout = self.space.assemble(self.latents)
        if not self.space.remembers:
            return whole.of_bins(dynamics, readout, information)
        stepped = self._in_steps(information)
        (n_steps, n_trials, _), valid = stepped.vectors.shape, information.valid
        constant = stepped.precision.shape[0] == 1 and readout.weights.shape[0] == 1
        steady = constant and self.space.is_stationary and not self._in_parallel
        patterns = stepped.precision.shape[1]
        if valid is None and self._is_short(dynamics, readout, patterns, n_trials if steady else None):
            kinds = told_apart(self.space.kinds, dynamics, readout, n_steps)
            V = stationary_covariance(dynamics, readout, n_steps, kinds)
            return whole.log_normalizer(kinds, V, stepped.vectors, stepped.precision, stepped.pattern)
        if steady:
            scores = Steady.of(dynamics, readout, stepped.precision[0], n_steps).log_normalizer
        else:
            scores = self._by_gains(dynamics, readout, stepped)
        size = size_of_blocks(n_trials, n_steps * len(dynamics.transition))
        return in_blocks(scores, size, (1, 0, 1), stepped.vectors, stepped.pattern, valid)

    def _by_gains(self, dynamics: Dynamics, readout: StateReadout, information: Information) -> Callable[..., Array]:
        """Make a function that scores trials with the gains of their patterns, step after step."""
        one = information._replace(vectors=information.vectors[:, :1], pattern=information.pattern[:1])
        gains = self._filtered(dynamics, readout, one).gains  # which no trial changes
        filtered = parallel_means if self._in_parallel else filter_means

        def scores(vectors: Array, pattern: Array, valid: Array | None) -> Array:
            means = filtered(dynamics, readout, gains, vectors, pattern)
            terms = log_normalizer_terms(gains, readout, means, vectors, pattern)
            return terms.sum(0) if valid is None else (terms * valid).sum(0)

        return scores

    def smoother(self, n_patterns: int) -> Callable[[Information], ReadoutMoments]:
        """Make a function that smooths, or takes the whole trial at once, whatever costs less."""
        dynamics, readout = self.space.assemble(self.latents)
        n_steps, step = -(-self.n_bins // self.space.window.step), self.space.window.step

        def unstacked(mean: Array, covariance: Array, log_determinant: Array) -> ReadoutMoments:
            size = covariance.shape[-1] // step
            bins = jnp.einsum("tgbibj->tbgij", covariance.reshape(*covariance.shape[:2], step, size, step, size))
            means = jnp.swapaxes(self._in_bins(mean), 0, 1)
            return ReadoutMoments(means, bins.reshape(-1, *bins.shape[2:])[: self.n_bins], log_determinant)

        def by_filter(information: Information) -> ReadoutMoments:
            _, _, gains, means, stepped = self._filtered(dynamics, readout, self._in_steps(information))
            smoothed = smooth_means(gains, readout, means, stepped.vectors, stepped.pattern, self._in_parallel)
            spread = smooth_covariances(gains, readout, self._in_parallel).readouts
            return unstacked(smoothed.readouts, spread, gains.log_determinant.sum(0)[stepped.pattern])

        if not self._is_short(dynamics, readout, n_patterns):
            return by_filter
        V = whole.dense_covariance(dynamics, readout, n_steps, self.space.kinds)

        def at_once(information: Information) -> ReadoutMoments:
            stepped = self._in_steps(information)
            found = whole.moments(V, stepped.vectors, stepped.precision, stepped.pattern)
            return unstacked(found.mean, found.covariance, found.log_determinant)

        return at_once

    def _whole_steps(self, information: Information) -> Information:
        valid = information.valid
        assert valid is not None
        by_bin = jnp.broadcast_to(information.precision, (self.n_bins, *information.precision.shape[1:]))
        per_trial = by_bin[:, information.pattern] * valid[:, :, None, None]
        return information._replace(precision=per_trial, pattern=jnp.arange(valid.shape[1]), valid=None)

    def _exact(self, value: Array) -> Information:
        """Information with the end of every trial in its pattern, as smoothing needs it."""
        missing = exact_patterns(self.patterns(value.shape[0]), self.n_bins, len(self.noise))
        clone = self.with_missing(missing)
        return clone.information(value)

    def with_missing(self, missing: Missing | None) -> "MarkovGP":
        """Copy of this model of these trials with other missing data."""
        other = copy.copy(self)
        other.missing = missing
        return other

    def with_space(self, space: Space) -> "MarkovGP":
        """Copy of this model and recording in another state space."""
        other = copy.copy(self)
        other.space = space
        return other

    def _in_bins(self, stacked: Array) -> Array:
        """Reshape (step, trial, bin_in_step * readout) to (trial, time, readout)."""
        n_readouts = self.prior.assignment.n_readouts
        flat = jnp.swapaxes(stacked, 0, 1).reshape(stacked.shape[1], -1, n_readouts)
        return flat[:, : self.n_bins]

    def posterior(self, value: Array) -> Posterior:
        """Smooth trials (trial, time, neuron), zero where missing."""
        return self.posterior_of(self._exact(value))

    def posterior_of(self, information: Information) -> Posterior:
        """Smooth all bins, given the information about the readouts.

        Returns the posterior of states and readouts.
        """
        _, readout, gains, means, information = self._filter(information)
        smoothed = smooth_means(gains, readout, means, information.vectors, information.pattern, self._in_parallel)
        spread = smooth_covariances(gains, readout, self._in_parallel)
        means, covariances = self._in_bins(smoothed.readouts), spread.readouts
        if self.autocorrelation is not None:
            means = restored(means, self._memory_of_readouts)
            # Of what is not in the state (GP noise, what reading misses) the prior: a share gp_noise at the most.
            _, plain = self.space.assemble(self.latents._replace(autocorrelation=None))
            transposed = jnp.swapaxes(plain.weights, -1, -2)
            covariances = plain.weights[:, None] @ spread.states @ transposed[:, None]
            covariances = covariances + jax.vmap(jnp.diag)(plain.noise)[:, None]
        return Posterior(
            smoothed.states, spread.states, spread.lagged, means, jnp.swapaxes(covariances, 0, 1), information.pattern
        )

    @property
    def _memory_of_readouts(self) -> Array:
        assert self.autocorrelation is not None
        return self.autocorrelation[self.prior.assignment.region_of_readout]

    def posterior_sample(self, key: Array, value: Array, n_draws: int) -> tuple[Array, Array]:
        """Draw states and readouts given the trials.

        They are (draw, step, trial, state) and (draw, trial, time, readout).
        """
        dynamics, readout, gains, means, information = self._filter(self._exact(value))
        n_steps, n_trials, _ = information.vectors.shape
        mean = smooth_means(gains, readout, means, information.vectors, information.pattern, self._in_parallel)

        def draw(key: Array) -> tuple[Array, Array]:
            prior_key, data_key = random.split(key)
            prior = sample_prior(prior_key, dynamics, readout, n_steps, n_trials)
            told = synthetic_information(data_key, prior.readouts, information.precision, information.pattern)
            filtered = filter_means(dynamics, readout, gains, told, information.pattern)
            back = smooth_means(gains, readout, filtered, told, information.pattern, self._in_parallel)
            states = mean.states + prior.states - back.states
            return states, self._in_bins(mean.readouts + prior.readouts - back.readouts)

        states, readouts = jax.lax.map(draw, random.split(key, n_draws))
        if self.autocorrelation is not None:
            readouts = jax.lax.map(lambda x: restored(x, self._memory_of_readouts), readouts)
        return states, readouts

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        dynamics, readout = self.space.assemble(self.latents)
        n_steps = -(-self.n_bins // self.space.window.step)
        return self._in_bins(sample_prior(key, dynamics, readout, n_steps, n_trials).readouts)
