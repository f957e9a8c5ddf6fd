r"""Base of the three likelihoods: parameters, reduction of neurons, shapes for NumPyro.

One event is a trial, (time, neuron); the batch shape is the trials of a recording. With the
readouts x, which for an across latent g are sqrt(1 - eps) g(t - delay) + sqrt(eps) eta with eta ~ N(0, 1),

    y = C x + d + e,   e ~ N(0, diag R),       log p(y) = constant + log E_x exp(b' x - x' Lambda x / 2),

and a subclass only has to know the expectation under its representation of x.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample
from numpyro.util import is_prng_key

from mrgp.likelihoods.recursions.whole import ReadoutMoments
from mrgp.likelihoods.reduction import Information, reduce, reduce_in_blocks, reduce_innovations
from mrgp.likelihoods.statespace.assemble import Latents
from mrgp.parts.emissions.autocorrelated import remembering, restored
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.kernels import Hyperparameters
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import readout_loadings
from mrgp.parts.readout import Readout
from mrgp.recordings.missing import Missing, centred


class Assigned(Protocol):
    """Prior of readouts that has an ``assignment``.

    The rest is between it and the distribution that understands it.
    """

    @property
    def assignment(self) -> LatentLayout: ...


class Drawn(NamedTuple):
    """Trials that were drawn from a model, and the latents that they were made from.

    Attributes:
        signals: Latents as the readouts read them, without GP noise, (trial, time, readout).
        readouts: x, (trial, time, readout).
        values: y, (trial, time, neuron).
    """

    signals: np.ndarray
    readouts: np.ndarray
    values: np.ndarray


class DelayedGP(Distribution):
    """Marginal distribution of multi-region trials whose latents are delayed Gaussian processes.

    Args:
        loadings: C, (neuron, column): across latents first, then the region's own (unused columns are ignored).
        noise: R, observation variances, (neuron,).
        offset: d, (neuron,).
        delay: (time or 1, region, across_latent), bins; positive means the region lags region 1.
        across: Parameters of the across latents, latents first: ``{"timescale": (across_latent,)}``, bins.
        within: Parameters of the within latents, region after region: ``{"timescale": (within_latent,)}``.
        prior: Kernel, GP noise and assignment of latents to regions
            (:class:`mrgp.likelihoods.statespace.assemble.Prior`).
        n_bins: Bins per trial.
        n_trials: Trials in the batch; None for an empty batch shape.
        missing: Patterns of missing entries (then ``n_trials`` is taken from it); None when all is observed.
        course: What the mean adds to the offset over time, (condition, time, neuron); None for nothing.
        condition: Which condition each trial is of, (trial,); None for the first.
        autocorrelation: phi of noise that remembers, (region,); None for white noise (see
            :mod:`mrgp.parts.emissions.autocorrelated`).
        origin: Constant numbers near the data, (neuron,), that values and offsets are both measured from inside, so
            that the likelihood has all its digits however large the offsets; None for 0. It changes nothing else.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loadings": constraints.independent(constraints.real, 2),
        "noise": constraints.independent(constraints.positive, 1),
        "offset": constraints.real_vector,
        "delay": constraints.independent(constraints.real, 3),
    }
    support = constraints.independent(constraints.real, 2)
    counts: ClassVar[Counts | None] = None  # what the latents are the log-rates of; None for values with Gaussian noise
    reparametrized_params: ClassVar[list[str]] = ["loadings", "noise", "offset", "delay"]
    pytree_data_fields: tuple[str, ...] = (
        "loadings", "noise", "offset", "delay", "across", "within", "missing", "spread", "course", "condition",
        "autocorrelation", "origin",
    )  # fmt: skip
    pytree_aux_fields: tuple[str, ...] = ("prior", "n_bins")

    def __init__(
        self,
        loadings: Array,
        noise: Array,
        offset: Array,
        delay: Array,
        across: Hyperparameters,
        within: Hyperparameters,
        *,
        prior: Assigned,
        n_bins: int,
        n_trials: int | None = None,
        missing: Missing | None = None,
        course: Array | None = None,
        condition: Array | None = None,
        autocorrelation: Array | None = None,
        origin: Array | None = None,
        validate_args: bool | None = None,
    ) -> None:
        assignment = prior.assignment
        neurons = sum(assignment.n_neurons)
        expected = {
            "loadings": (jnp.shape(loadings), (neurons, assignment.n_columns)),
            "noise": (jnp.shape(noise), (neurons,)),
            "offset": (jnp.shape(offset), (neurons,)),
            "delay": (jnp.shape(delay)[1:], (assignment.n_regions, assignment.n_across)),
        }
        counts = {"across": assignment.n_across, "within": sum(assignment.n_within)}
        for kind, hyper in (("across", across), ("within", within)):
            count = counts[kind]
            expected |= {
                f"{kind}[{name!r}]": (jnp.shape(value), (count, *jnp.shape(value)[1:]))
                for name, value in hyper.items()
            }
        if jnp.shape(delay)[0] not in (1, n_bins):
            raise ValueError(f"delay has {jnp.shape(delay)[0]} times, but this model needs 1 or {n_bins}")
        if autocorrelation is not None:
            expected["autocorrelation"] = (jnp.shape(autocorrelation), (assignment.n_regions,))
        if origin is not None:
            expected["origin"] = (jnp.shape(origin), (neurons,))
        if course is not None:
            expected["course"] = (jnp.shape(course)[1:], (n_bins, neurons))
        for name, (given, wanted) in expected.items():
            if given != wanted:
                raise ValueError(f"{name} has shape {given}, but this model needs {wanted}")
        self.loadings, self.noise, self.offset, self.delay = loadings, noise, offset, delay
        self.across, self.within = dict(across), dict(within)
        self.missing, self.course, self.condition, self.autocorrelation = missing, course, condition, autocorrelation
        self.origin = origin
        self.spread: Array | None = None
        self.prior = prior
        self.n_bins = n_bins
        if missing is not None:
            n_trials = missing.pattern.shape[0]
        batch_shape = () if n_trials is None else (n_trials,)
        super().__init__(batch_shape, (n_bins, neurons), validate_args=validate_args)

    @property
    def gaussian(self) -> Self:
        """Gaussian processes behind the trials: itself."""
        return self

    @property
    def emission(self) -> Readout:
        """Parameters of the neurons, together; offsets are measured from ``origin``."""
        offset = self.offset - self.level
        return Readout(self.loadings, self.noise, offset, self.spread, self.course, self.autocorrelation)

    @property
    def level(self) -> Array | float:
        """``origin``, or 0 if there is none."""
        return 0.0 if self.origin is None else self.origin

    @property
    def trial_mean(self) -> Array:
        """Sum of offset and course, (trial or 1, time or 1, neuron)."""
        if self.course is None:
            return self.offset[None, None]
        return self.offset + (self.course[:1] if self.condition is None else self.course[self.condition])

    def centred(self, value: Array) -> Array:
        """Subtract ``origin`` and the course of their condition from trials (trial, time, neuron).

        Missing entries are zero and stay so.
        """
        return self._centred(value, self.patterns(value.shape[0]), self._condition_of(value))

    def _centred(self, value: Array, missing: Missing, condition: Array | None) -> Array:
        value = jnp.asarray(value, jnp.result_type(float))
        if self.origin is None and self.course is None:
            return value
        mean = jnp.broadcast_to(self.level, (1, 1, value.shape[-1]))
        return centred(value, mean if self.course is None else mean + self.course, condition, missing)

    def _condition_of(self, value: Array) -> Array | None:
        """Index of the condition of each trial; they may be the recording's several times over."""
        if self.condition is None or self.course is None:
            return None
        return jnp.tile(self.condition, value.shape[0] // len(self.condition))

    def with_spread(self, spread: Array | None) -> Self:
        """Copy with loadings that are known only up to covariances (neuron, column, column).

        ``log_prob`` then is the expectation of log p(y | x, C) over C with x integrated out: a lower bound.
        """
        other = copy.copy(self)
        other.spread = spread
        return other

    def with_delay(self, delay: Any) -> Self:
        """Copy with other delays, (time or 1, region, across_latent) in bins."""
        other = copy.copy(self)
        other.delay = jnp.asarray(delay)
        return other

    @property
    def latents(self) -> Latents:
        """Parameters of the latents, together."""
        if self.autocorrelation is None:
            return Latents(self.delay, self.across, self.within)
        delay = jnp.broadcast_to(self.delay, (self.n_bins, *self.delay.shape[1:]))
        return Latents(delay, self.across, self.within, self.autocorrelation)

    def normalizer(self, information: Information) -> Array:
        """log E exp(b'x - x' Lambda x / 2) of each trial, (trial,)."""
        raise NotImplementedError

    def smoother(self, n_patterns: int) -> Callable[[Information], ReadoutMoments]:
        """Make a function from information to the moments of readouts.

        The information has its precision at all times.

        It is made once for many: what it needs of the prior is computed here. ``n_patterns`` is the number of
        covariances that the information will have.
        """
        raise NotImplementedError

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        """Draw readouts x from the model, (trial, time, readout).

        Where noise is autocorrelated, their innovations are drawn.
        """
        raise NotImplementedError

    def patterns(self, n_trials: int) -> Missing:
        """Patterns of missing entries for ``n_trials`` trials.

        Covariances are computed once for each pattern.
        """
        if self.missing is not None:
            return self.missing
        return Missing(None, jnp.zeros(n_trials, int), None)

    def information(self, value: Array) -> Information:
        """Reduce trials (trial, time, neuron) to information about the readouts.

        Missing entries are zero. Numbers of any dtype become floating-point numbers block by block.
        """
        return reduce_in_blocks(self._reduced, value, self.patterns(value.shape[0]), self._condition_of(value))

    def _reduced(self, value: Array, missing: Missing, condition: Array | None) -> Information:
        assignment = self.prior.assignment
        if self.autocorrelation is None:
            if self.course is None:
                return reduce(assignment, self.emission, value, missing, self.origin)
            return reduce(assignment, self.emission, self._centred(value, missing, condition), missing)
        mean = self.offset[None, None] if self.course is None else self.offset + self.course
        return reduce_innovations(assignment, self.emission, centred(value, mean, condition, missing), missing)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """log p(y) in nats of each trial.

        ``value`` is (..., time, neuron), with zeros where entries are missing.
        """
        value = jnp.asarray(value)
        lead = value.shape[:-2]
        if self.missing is not None and lead != self.batch_shape:
            raise ValueError(f"a recording with missing entries must be scored whole: {self.batch_shape}, not {lead}")
        information = self.information(value.reshape(int(np.prod(lead)), *value.shape[-2:]))
        scores = information.constant + self.normalizer(information)
        return jnp.broadcast_to(scores.reshape(lead), jnp.broadcast_shapes(lead, self.batch_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw trials, sample_shape + (trial, time, neuron); missing entries are drawn too."""
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        latent_key, noise_key = random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        x = self.sample_readouts(latent_key, int(np.prod(shape)))
        C = readout_loadings(self.prior.assignment, self.loadings)
        white = random.normal(noise_key, (*x.shape[:2], len(self.noise)), x.dtype)
        if self.autocorrelation is None:
            y = x @ C.T + jnp.sqrt(self.noise) * white
        else:
            phi = self.autocorrelation[self.prior.assignment.region_of_neuron]
            y = restored(x @ C.T + jnp.sqrt((1 - phi**2) * self.noise) * white, phi)
        return y.reshape(*shape, *self.event_shape) + self.mean_of_trials

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw all trials once, with the latents behind them; missing entries are drawn too.

        The numbers are those of NumPy, which a seed fixes on every machine.
        """
        signals, x = self.draw_readouts(rng)
        values = mean_given(self, x)
        white = rng.standard_normal(values.shape)
        phi = None if self.autocorrelation is None else self.autocorrelation[self.prior.assignment.region_of_neuron]
        return Drawn(signals, x, values + np.sqrt(self.noise) * remembering(white, phi))

    def draw_readouts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw what readouts read, and the readouts, (trial, time, readout) each.

        They are the same where a representation does not tell GP noise from latents.
        """
        x = self.sample_readouts(random.key(rng.integers(2**31)), int(np.prod(self.batch_shape)))
        if self.autocorrelation is not None:
            x = restored(x, self.autocorrelation[self.prior.assignment.region_of_readout])
        return np.asarray(x), np.asarray(x)

    @property
    def readout_covariance(self) -> Array:
        """Prior covariance of readouts at one time, (time or 1, readout, readout).

        It is right between those that one neuron reads.
        """
        size = self.prior.assignment.n_readouts
        return jnp.eye(size, dtype=self.loadings.dtype)[None]

    @property
    def about_zero(self) -> Self:
        """The same distribution with latents of mean 0; their mean is in the course."""
        return self

    @property
    def mean_of_trials(self) -> Array:
        """Mean where latents are 0, in the shape of the trials."""
        mean = self.trial_mean if self.batch_shape else self.trial_mean[0]
        return jnp.broadcast_to(mean, self.batch_shape + self.event_shape)

    @property
    def mean(self) -> Array:
        return self.mean_of_trials  # latents add nothing to it, unless a model says otherwise

    @property
    def variance(self) -> Array:
        C = readout_loadings(self.prior.assignment, self.loadings)
        return jnp.broadcast_to((C**2).sum(-1) + self.noise, self.batch_shape + self.event_shape)


def mean_given(distribution: DelayedGP, readouts: Any) -> np.ndarray:
    """Mean of the values given readouts, (trial, time, neuron); of counts, their log-rates."""
    C = readout_loadings(distribution.prior.assignment, distribution.loadings)
    return np.asarray(readouts) @ np.asarray(C).T + np.asarray(distribution.trial_mean)
