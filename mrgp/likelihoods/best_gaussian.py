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
from mrgp.likelihoods.blocks import is_large
from mrgp.likelihoods.gaussians import Direction, Fitted, Guess, Told
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


type Seen = Callable[[Array], Array]
"""Sets (trial, neuron) to zero where nothing was observed."""


class Problem(NamedTuple):
    """Counts of trials and the distribution of their log-rates, for which q is searched.

    Its groups are the trials that share a covariance.

    Attributes:
        latent: Distribution of log-rates, with latents of mean 0.
        counts: Of counts given them.
        y: (trial, time, neuron), zero where missing, as the recording keeps them.
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

    @property
    def is_large(self) -> bool:
        """True if nothing of all counts is stored in double precision.

        It is made of a bin at a time, and made again where it is needed again.
        """
        return is_large(self.y.size)

    def expected(self, mean: Array, covariance: Array) -> Told:
        """E_q log p(y | eta) and its derivatives, for the moments of x under q.

        Bin after bin: what is computed of a bin's counts stays in the cache, which is worth a factor of four where the
        expectation takes a quadrature.
        """
        C = self.loadings

        def read(found: Expected, _: Array) -> Told:
            curvature = None if self.is_large else found.curvature
            return Told(found.value.sum(-1), found.slope @ C, self.groups.mean(found.curvature[None])[0], curvature)

        told = self.bin_by_bin(read, mean, covariance)
        return told._replace(value=told.value.sum(0))

    def bin_by_bin[T](self, read: Callable[..., T], mean: Array, covariance: Array, *more: Array) -> T:
        """Stack over time what ``read`` makes of each bin.

        It is called with the bin's expectations, its mean log-rates, (trial, neuron) each, and its part of ``more``.
        """
        C, groups = self.loadings, self.groups

        def of_bin(y: Array, level: Array, seen: Seen, m: Array, V: Array, *own: Array) -> T:
            variance = groups.of_trials(jnp.einsum("ni,gij,nj->gn", C, V, C)[None])[0]
            eta = m @ C.T + level
            found = self.counts.expected(y, eta, variance)
            return read(Expected(*(seen(part) for part in found)), eta, *own)

        return self.over_bins(of_bin, mean, covariance, *more)

    def over_bins[T](self, of_bin: Callable[..., T], *arrays: Array) -> T:
        """Stack over time what ``of_bin`` makes of each bin.

        It is called with the bin's counts, (trial, neuron), its log-rates if latents are zero, a function that sets to
        zero where nothing was observed, and its part of ``arrays``. Of a large recording a bin is made again for
        slopes.
        """
        groups, n_bins = self.groups, self.y.shape[1]
        level = jnp.broadcast_to(self.level, (n_bins, *self.level.shape[1:]))

        def of_parts(parts: tuple[Any, ...]) -> T:
            bin_, level, there, *own = parts
            y = lax.dynamic_index_in_dim(self.y, bin_, 1, keepdims=False).astype(level.dtype)

            def seen(array: Array) -> Array:
                return array if there is None else array * groups.of_trials(there[None])[0]

            return of_bin(y, level[self.conditions], seen, *own)

        again = jax.checkpoint(of_parts, prevent_cse=False) if self.is_large else of_parts
        return lax.map(again, (jnp.arange(n_bins), level, groups.seen, *arrays))

    @property
    def normalizers(self) -> Array:
        """Terms of each trial's log p(y | eta) that do not depend on eta, (trial,)."""
        return self.over_bins(lambda y, _, seen: seen(self.counts.normalizer(y)).sum(-1)).sum(0)

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
        precision = q.precision + step * (q.wanted - q.precision)
        inside = self.in_readouts(precision)
        newton, covariance, log_det = moments(information_of(q.slope, inside, self.groups))
        dual = q.slope - jnp.einsum("tbij,tbj->tbi", self.groups.of_trials(inside), newton)
        power = (q.slope * newton).sum((0, 2))
        turned = jnp.maximum((power - (along.slope * newton).sum((0, 2))) / jnp.maximum(along.power, TINY), 0.0)
        turned = turned[:, None]
        direction = Direction(newton + turned * along.mean, dual + turned * along.dual, q.slope, power)
        rise = (q.slope * direction.mean).sum((0, 2))
        bend = self._bend(q, direction.mean) + (direction.dual * direction.mean).sum((0, 2))
        length = (step * rise / jnp.maximum(bend, TINY))[:, None]
        mean, dual = q.mean + length * direction.mean, q.dual + length * direction.dual
        return self.scored(mean, dual, precision, inside, covariance, log_det), direction

    def _bend(self, q: Fitted, along: Array) -> Array:
        """Curvature of -E_q log p along a direction of each trial's means, (trial,)."""
        C, groups = self.loadings, self.groups
        if q.curvature is not None:
            return (q.curvature * jnp.square(along @ C.T)).sum((0, 2))

        def read(found: Expected, _: Array, guessed: Array, along: Array) -> Array:
            curvature = jnp.where(q.is_guess, groups.of_trials(guessed[None])[0], found.curvature)
            return (curvature * jnp.square(along @ C.T)).sum(-1)

        return self.bin_by_bin(read, q.mean, q.covariance, q.precision, along).sum(0)

    def prior(self) -> Fitted:
        """Return q = p(x)."""
        n_trials, n_bins, n_neurons = self.y.shape
        n_readouts, groups = self.loadings.shape[1], len(self.groups.size)
        still = jnp.zeros((n_bins, n_trials, n_readouts), self.loadings.dtype)
        covariance = self.latent.readout_covariance[:, None]
        covariance = jnp.broadcast_to(covariance, (n_bins, groups, n_readouts, n_readouts))
        found = self.expected(still, covariance)
        nothing, no = jnp.zeros((n_bins, groups, n_neurons), still.dtype), jnp.zeros((), bool)
        return Fitted(still, still, nothing, covariance, found.slope, found.wanted, found.curvature, found.value, no)

    def guess(self) -> Guess:
        """Guess a first q: counts as Gaussian around the log of their local average.

        The average is over nearby bins and the trials of a pattern.
        """
        groups = self.groups
        mean_count = self.over_bins(lambda y, *_: groups.mean(y[None])[0])
        there = jnp.ones_like(mean_count) if groups.seen is None else groups.seen
        overall = (groups.size[:, None] * mean_count).sum((0, 1)) / jnp.maximum(
            (groups.size[:, None] * there).sum((0, 1)), 1.0
        )
        nearby = _moving_sum(mean_count) / jnp.maximum(_moving_sum(there), 1.0)
        rate = jnp.maximum(nearby, START_SHARE * overall + TINY)

        def told(y: Array, level: Array, seen: Seen, rate: Array) -> Array:
            each, log_rate = groups.of_trials(rate[None])[0], groups.of_trials(jnp.log(rate)[None])[0]
            return seen(y - each * (1 - log_rate + level)) @ self.loadings

        return Guess(self.over_bins(told, rate), rate * there)

    def _before(self, guess: Guess) -> Fitted:
        """Make the state from which one step leads to the q of a guess."""
        still = jnp.zeros_like(guess.vectors)
        nothing = jnp.zeros((*guess.precision.shape[:2], *[still.shape[-1]] * 2), still.dtype)
        curvature = None
        if not self.is_large:
            shape = (*still.shape[:2], self.y.shape[2])
            curvature = jnp.broadcast_to(self.groups.of_trials(guess.precision), shape)
        unknown, yes = jnp.full(still.shape[1], -jnp.inf), jnp.ones((), bool)
        wanted = guess.precision
        return Fitted(still, still, wanted, nothing, guess.vectors, wanted, curvature, unknown, yes)

    def scored(
        self, mean: Array, dual: Array, precision: Array, inside: Array, covariance: Array, log_det: Array
    ) -> Fitted:
        """Make the q of these moments, with its bound and derivatives.

        ``inside`` is Lambda, and ``log_det`` is -log|I + K Lambda| / 2 of each trial.
        """
        found = self.expected(mean, covariance)
        slope, no = found.slope - dual, jnp.zeros((), bool)
        q = Fitted(mean, dual, precision, covariance, slope, found.wanted, found.curvature, found.value, no)
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
