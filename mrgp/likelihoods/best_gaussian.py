r"""Search for the best Gaussian q of latents given counts.

It takes natural-gradient steps for covariances and conjugate ones for means.

Among q(x) ~ p(x) exp(b' x - x' Lambda x / 2), x ~ N(0, K) a priori, the bound of ``counts`` is highest where

    Lambda = C' diag(lambda) C,    lambda = -E_q d^2 log p / d eta^2,        K^-1 m = C' E_q d log p / d eta,

m being the mean of x, and b = K^-1 m + Lambda m (Khan & Lin 2017, AISTATS, eq. 11; Adam et al. 2021, NeurIPS, for the
dual K^-1 m). So all that is asked of the latents is their moments given b and Lambda. Means and their duals move
together, so K is never inverted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.groups import Groups
from mrgp.likelihoods.recursions.whole import ReadoutMoments
from mrgp.likelihoods.reduction import Information
from mrgp.parts.emissions.base import Expected
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.loadings import readout_loadings

TOLERANCE = 1e-3  # nats in all trials: a step gains a twentieth or less of the one before
MOST_STEPS = 50
LEAST_STEP = 1e-4  # a step this short that does not raise the bound ends the climb
TINY = 1e-12
START_BINS = 9  # over which counts are averaged where q begins
START_SHARE = 0.1  # of a neuron's mean count: the least rate there


class Fitted(NamedTuple):
    """A Gaussian q, with the derivatives that improve it.

    Vectors of readouts are (time, trial, readout).

    Attributes:
        mean: m = E[x].
        dual: K^-1 m, K being the prior covariance of x.
        precision: lambda, (time, pattern, neuron).
        covariance: V = (K^-1 + Lambda)^-1 at every time, (time, pattern, readout, readout).
        slope: Of the bound by m: C' E[d log p / d eta] - K^-1 m.
        curvature: -E[d^2 log p / d eta^2], (time, trial, neuron).
        bound: Of every trial, (trial,), without what does not depend on q.
    """

    mean: Array
    dual: Array
    precision: Array
    covariance: Array
    slope: Array
    curvature: Array
    bound: Array


class Guess(NamedTuple):
    """First q of the search: prior times exp(b' x - x' Lambda x / 2).

    Lambda = C' diag(lambda) C.

    Attributes:
        vectors: b, (time, trial, readout).
        precision: lambda, (time, pattern, neuron).
    """

    vectors: Array
    precision: Array


class Direction(NamedTuple):
    """Conjugate direction of the means, (time, trial, readout), with its dual.

    ``slope`` and ``power`` are for the next direction.

    Attributes:
        mean, dual: p and K^-1 p.
        slope: The slope it was made from.
        power: slope' V slope, (trial,).
    """

    mean: Array
    dual: Array
    slope: Array
    power: Array


class Told(NamedTuple):
    """Expected log likelihood of counts under q, and its derivatives.

    It is E_q log p(y | eta) of each trial, without terms that do not depend on eta.

    Attributes:
        value: (trial,).
        slope: By the mean of x, C' E_q[d log p / d eta], (time, trial, readout).
        curvature: -E_q[d^2 log p / d eta^2], (time, trial, neuron).
    """

    value: Array
    slope: Array
    curvature: Array


class Problem(NamedTuple):
    """Counts of trials and the distribution of their log-rates, for which q is searched.

    Its groups are the trials that share a covariance.

    Attributes:
        latent: Distribution of log-rates, with latents of mean 0.
        counts: Of counts given them.
        y: (time, trial, neuron), zero where missing.
        groups: Trials that share a covariance.
    """

    latent: DelayedGP
    counts: Counts
    y: Array
    groups: Groups

    @property
    def loadings(self) -> Array:
        """Loadings C, (neuron, readout)."""
        return readout_loadings(self.latent.prior.assignment, self.latent.loadings)

    @property
    def level(self) -> Array:
        """Log-rates if latents are zero, (time or 1, condition or 1, neuron)."""
        latent = self.latent
        return latent.offset[None, None] if latent.course is None else jnp.swapaxes(latent.offset + latent.course, 0, 1)

    @property
    def conditions(self) -> Array | slice:
        """Index of every trial's condition in :attr:`level`."""
        latent = self.latent
        return slice(0, 1) if latent.course is None or latent.condition is None else latent.condition

    def seen(self, array: Array) -> Array:
        """Set (time, trial, neuron) to zero where nothing was observed."""
        return array if self.groups.seen is None else array * self.groups.of_trials(self.groups.seen)

    def expected(self, mean: Array, covariance: Array) -> Told:
        """E_q log p(y | eta) and its derivatives, for the moments of x under q.

        Bin after bin: what is computed of a bin's counts stays in the cache, which is worth a factor of four where the
        expectation takes a quadrature.
        """
        C = self.loadings
        told = self.bin_by_bin(
            lambda found, _: Told(found.value.sum(-1), found.slope @ C, found.curvature), mean, covariance
        )
        return told._replace(value=told.value.sum(0))

    def bin_by_bin[T](self, read: Callable[[Expected, Array], T], mean: Array, covariance: Array) -> T:
        """Stack over time what ``read`` makes of each bin.

        It is called with the bin's expectations and its mean log-rates, (trial, neuron) each.
        """
        C, groups = self.loadings, self.groups
        level = jnp.broadcast_to(self.level, (len(self.y), *self.level.shape[1:]))

        def of_bin(bin_: tuple[Array, ...]) -> T:
            y, m, V, level, seen = bin_
            variance = groups.of_trials(jnp.einsum("ni,gij,nj->gn", C, V, C)[None])[0]
            eta = m @ C.T + level[self.conditions]
            found = self.counts.expected(y, eta, variance)
            if seen is not None:
                found = Expected(*(part * groups.of_trials(seen[None])[0] for part in found))
            return read(found, eta)

        return lax.map(of_bin, (self.y, mean, covariance, level, groups.seen))

    def in_readouts(self, precision: Array) -> Array:
        """Lambda = C' diag(lambda) C, (time, pattern, readout, readout)."""
        return jnp.einsum("tgn,ni,nj->tgij", precision, self.loadings, self.loadings)

    def information(self, q: Fitted) -> Information:
        """Gaussian pseudo-observations of the readouts that define q.

        They are b = K^-1 m + Lambda m, and Lambda.
        """
        precision = self.in_readouts(q.precision)
        b = q.dual + jnp.einsum("tbij,tbj->tbi", self.groups.of_trials(precision), q.mean)
        return information_of(b, precision, self.groups)

    def best(self, guess: Guess | None = None, within: Array | float | None = None) -> Fitted:
        """Find the best q by steps that never lower the bound.

        Steps move lambda to the value that q asks for, and means along conjugate directions.

        They end where one gains less than ``within`` nats in all trials, TOLERANCE unless given.

        Its bound is never below that of the prior: where the first step, to the guess, ends below it, the prior is
        where the climb goes on.
        """
        prior = self.prior()
        moments = self.latent.smoother(len(self.groups.size))  # made before the loop, as the prior stays as it is

        def climb(state: tuple[Fitted, Direction, Array, Array, Array]) -> tuple[Any, ...]:
            q, along, step, _, count = state
            tried, direction = self.step(moments, q, along, step)
            gain = (tried.bound - q.bound).sum()
            better = gain >= 0  # not where it is not a number
            left = jax.tree.map(lambda guess, safe: jnp.where(count == 0, safe, guess), q, prior)
            q = jax.tree.map(lambda new, old: jnp.where(better, new, old), tried, left)
            # After a loss it goes on along the slope alone, and less far, until rounding is all that there is to lose.
            # So it does after the first step, whose slope was another's.
            kept = better & jnp.isfinite(gain)
            direction = direction._replace(power=jnp.where(kept, direction.power, jnp.inf))
            gain = jnp.where(better, gain, jnp.where(step > LEAST_STEP, jnp.inf, 0.0))
            return q, direction, jnp.where(better, jnp.minimum(1.0, 2 * step), 0.25 * step), gain, count + 1

        def going(state: tuple[Fitted, Direction, Array, Array, Array]) -> Array:
            return (state[4] < MOST_STEPS) & (state[3] > (TOLERANCE if within is None else within))

        q = self._before(self.guess() if guess is None else guess)._replace(bound=prior.bound)
        still = jnp.zeros_like(q.mean)
        along = Direction(still, still, still, jnp.full(still.shape[1], jnp.inf))
        return lax.while_loop(going, climb, (q, along, jnp.ones(()), jnp.asarray(jnp.inf), jnp.zeros((), int)))[0]

    def step(
        self, moments: Callable[[Information], ReadoutMoments], q: Fitted, along: Direction, step: Array
    ) -> tuple[Fitted, Direction]:
        """Take one step of covariances, and of means along a conjugate direction.

        Covariances are V for the lambda that q asks for; directions are trial by trial.

        Preconditioned by V the slope is a Newton direction, but for lambda being a mean over trials; conjugate
        directions (Polak & Ribiere) make up for that, each as long as the trial's own curvature says.
        """
        precision = q.precision + step * (self.groups.mean(q.curvature) - q.precision)
        inside = self.in_readouts(precision)
        newton, covariance, log_det = moments(information_of(q.slope, inside, self.groups))
        dual = q.slope - jnp.einsum("tbij,tbj->tbi", self.groups.of_trials(inside), newton)
        power = (q.slope * newton).sum((0, 2))
        turned = jnp.maximum((power - (along.slope * newton).sum((0, 2))) / jnp.maximum(along.power, TINY), 0.0)
        turned = turned[:, None]
        direction = Direction(newton + turned * along.mean, dual + turned * along.dual, q.slope, power)
        rise = (q.slope * direction.mean).sum((0, 2))
        bend = (q.curvature * jnp.square(direction.mean @ self.loadings.T)).sum((0, 2))
        bend = bend + (direction.dual * direction.mean).sum((0, 2))
        length = (step * rise / jnp.maximum(bend, TINY))[:, None]
        mean, dual = q.mean + length * direction.mean, q.dual + length * direction.dual
        return self.scored(mean, dual, precision, inside, covariance, log_det), direction

    def prior(self) -> Fitted:
        """Return q = p(x)."""
        n_readouts = self.loadings.shape[1]
        still = jnp.zeros((*self.y.shape[:2], n_readouts), self.y.dtype)
        shape = (self.y.shape[0], len(self.groups.size))
        covariance = jnp.broadcast_to(self.latent.readout_covariance[:, None], (*shape, n_readouts, n_readouts))
        found = self.expected(still, covariance)
        nothing = jnp.zeros((*shape, self.y.shape[2]), self.y.dtype)
        return Fitted(still, still, nothing, covariance, found.slope, found.curvature, found.value)

    def guess(self) -> Guess:
        """Guess a first q: counts as Gaussian around the log of their local average.

        The average is over nearby bins and the trials of a pattern.
        """
        mean_count = self.groups.mean(self.y)
        seen = jnp.ones_like(mean_count) if self.groups.seen is None else self.groups.seen
        overall = (self.groups.size[:, None] * mean_count).sum((0, 1)) / jnp.maximum(
            (self.groups.size[:, None] * seen).sum((0, 1)), 1.0
        )
        nearby = _moving_sum(mean_count) / jnp.maximum(_moving_sum(seen), 1.0)
        rate = jnp.maximum(nearby, START_SHARE * overall + TINY)
        precision, log_rate = rate * seen, self.groups.of_trials(jnp.log(rate))
        level = jnp.swapaxes(self.latent.trial_mean, 0, 1)
        nu = self.seen(self.y - self.groups.of_trials(rate) * (1 - log_rate + level))
        return Guess(nu @ self.loadings, precision)

    def _before(self, guess: Guess) -> Fitted:
        """Make the state from which one step leads to the q of a guess."""
        still = jnp.zeros_like(guess.vectors)
        nothing = jnp.zeros((*guess.precision.shape[:2], *[still.shape[-1]] * 2), still.dtype)
        curvature = jnp.broadcast_to(self.groups.of_trials(guess.precision), self.y.shape)
        unknown = jnp.full(still.shape[1], -jnp.inf)
        return Fitted(still, still, guess.precision, nothing, guess.vectors, curvature, unknown)

    def scored(
        self, mean: Array, dual: Array, precision: Array, inside: Array, covariance: Array, log_det: Array
    ) -> Fitted:
        """Make the q of these moments, with its bound and derivatives.

        ``inside`` is Lambda, and ``log_det`` is -log|I + K Lambda| / 2 of each trial.
        """
        found = self.expected(mean, covariance)
        q = Fitted(mean, dual, precision, covariance, found.slope - dual, found.curvature, found.value)
        # -KL = log Z - E_q[b' x - x' Lambda x / 2] with b = K^-1 m + Lambda m.
        spread = self.groups.of_trials(jnp.einsum("tgij,tgji->tg", inside, covariance))
        widths = 0.5 * (spread * jnp.ones(mean.shape[:2])).sum(0)
        minus_kl = log_det - 0.5 * (mean * dual).sum((0, 2)) + widths
        # Where rates are astronomical a divergence below 0 is what rounding has made of it.
        rounding = jnp.sqrt(jnp.finfo(mean.dtype).eps) * (1 + widths)
        return q._replace(bound=jnp.where(minus_kl < rounding, found.value + minus_kl, -jnp.inf))


def information_of(b: Array, precision: Array, groups: Groups) -> Information:
    """Make information from b (time, trial, readout) and the matrices Lambda.

    Lambda is ``precision``, (time, pattern, readout, readout).
    """
    return Information(b, precision, groups.pattern, None, jnp.zeros(b.shape[1]))


def _moving_sum(series: Array) -> Array:
    """Sum (time, pattern, neuron) over the START_BINS bins around each bin."""
    half = START_BINS // 2
    sums = jnp.cumsum(jnp.pad(series, [(half + 1, half), (0, 0), (0, 0)]), 0)
    return sums[START_BINS:] - sums[:-START_BINS]
