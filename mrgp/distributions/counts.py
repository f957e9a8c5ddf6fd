r"""Spike counts: latents that are delayed Gaussian processes, integrated out up to a variational bound.

A trial's counts y are independent given the log-rates eta(t) = C x(t) + d(t). With a Gaussian q(x),

    log p(y) >= E_q log p(y | eta) - KL(q || p(x)),        q(x) ~ p(x) exp(b' x - x' Lambda x / 2),

and the best q has information of the form that a Gaussian recording would give (Khan & Lin 2017, AISTATS, eq. 11;
Chang, Wilkinson, Khan & Solin 2020, MLSP):

    Lambda = C' diag(lambda) C,    lambda = -E_q d^2 log p / d eta^2,
    b = C' (E_q d log p / d eta + lambda (m - d)),

m being the mean of eta. So the latents' own likelihood, ``normalizer(b, Lambda) = log Z``, is all that is needed: its
derivatives are the moments of q, and -KL = log Z - E_q[b' x - x' Lambda x / 2]. Damped steps towards the best b and
lambda are natural-gradient steps; they are taken until the bound stops growing.

**lambda is shared by the trials of a pattern** (of missing data and condition), being the mean over them, so that the
covariance of q is computed once for all of them. That restricts q; it is a lower bound nevertheless.

The gradient of the bound in the parameters is that at q held fixed, since q is a maximum: through log Z where b and
Lambda are constants, and through E_q log p where the moments of x are. First derivatives only.
"""

import copy
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample
from numpyro.util import is_prng_key

from mrgp.distributions.base import DelayedGP
from mrgp.distributions.families import Counts, Expected, prediction
from mrgp.distributions.markov import MarkovGP, Posterior
from mrgp.statespace.reduce import Information, exact_patterns, readout_loadings

TOLERANCE = 1e-3  # nats in all trials: a step gains a twentieth or less of the one before
MOST_STEPS = 50
LEAST_STEP = 1e-4  # a step this short that does not raise the bound ends the climb
TINY = 1e-12
START_BINS = 9  # over which counts are averaged where q begins
START_SHARE = 0.1  # of a neuron's mean count: the least rate there


class Groups(NamedTuple):
    """Trials that share a covariance.

    Attributes:
        pattern: (trial,).
        seen: (time, pattern, neuron), 1 where observed; None where everything was.
        size: Trials of each pattern, at least 1, (pattern,).
        alone: Whether every trial is its own pattern.
    """

    pattern: Array
    seen: Array | None
    size: Array
    alone: bool

    def of_trials(self, array: Array) -> Array:
        """(time, pattern, ...) as (time, trial or 1, ...)."""
        return array if self.alone or array.shape[1] == 1 else array[:, self.pattern]

    def mean(self, array: Array) -> Array:
        """Mean over the trials of a pattern of (time, trial, ...): (time, pattern, ...)."""
        if self.alone:
            return array
        if len(self.size) == 1:
            return array.mean(1, keepdims=True)
        nothing = jnp.zeros((array.shape[0], len(self.size), *array.shape[2:]), array.dtype)
        return nothing.at[:, self.pattern].add(array) / self.size.reshape(-1, *[1] * (array.ndim - 2))


class Fitted(NamedTuple):
    """A q, and what improves it. Vectors of readouts are (time, trial, readout).

    Attributes:
        mean: m = E[x].
        dual: K^-1 m, K being the prior covariance of x.
        precision: lambda, (time, pattern, neuron).
        covariance: V = (K^-1 + Lambda)^-1 at every time, (time, pattern, readout, readout).
        slope: Of the bound by m: C' E[d log p / d eta] - K^-1 m.
        curvature: -E[d^2 log p / d eta^2], (time, trial, neuron).
        bound: Summed over trials, without what does not depend on q.
    """

    mean: Array
    dual: Array
    precision: Array
    covariance: Array
    slope: Array
    curvature: Array
    bound: Array


class Direction(NamedTuple):
    """Where the means go: a conjugate direction (time, trial, readout), its dual, and what the next one needs.

    Attributes:
        mean, dual: p and K^-1 p.
        slope: The slope it was made from.
        power: slope' V slope, (trial,).
    """

    mean: Array
    dual: Array
    slope: Array
    power: Array


class CountGP(Distribution):
    """Counts of multi-region trials whose log-rates are read from delayed Gaussian processes.

    ``log_prob`` is a **lower bound** of log p(y) in nats, trial by trial; the trials scored together share the
    covariance of q.

    Args:
        latent: The log-rates as a Gaussian distribution: loadings, offset, course, delays and kernel are read from it.
        counts: The distribution of counts given log-rates.
        shared_covariance: False lets every trial have a covariance of its own: a higher bound, at the cost of a
            covariance recursion per trial.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.nonnegative_integer, 2)
    pytree_data_fields = ("latent", "counts")
    pytree_aux_fields = ("shared_covariance",)

    def __init__(
        self, latent: DelayedGP, counts: Counts, *, shared_covariance: bool = True, validate_args: bool | None = None
    ) -> None:
        self.latent, self.counts, self.shared_covariance = latent, counts, shared_covariance
        super().__init__(latent.batch_shape, latent.event_shape, validate_args=validate_args)

    # ---- the bound -----------------------------------------------------------------------------------------------

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Lower bound of log p(y) in nats of each trial; ``value`` (..., time, neuron) with zeros where missing."""
        value = jnp.asarray(value, jnp.result_type(float))
        lead = value.shape[:-2]
        if self.latent.missing is not None and lead != self.batch_shape:
            raise ValueError(f"a recording with missing entries must be scored whole: {self.batch_shape}, not {lead}")
        scores = self._bound(value.reshape(int(np.prod(lead)), *value.shape[-2:]))
        return jnp.broadcast_to(scores.reshape(lead), jnp.broadcast_shapes(lead, self.batch_shape))

    def _bound(self, value: Array) -> Array:
        groups, y = self._groups(value.shape[0]), jnp.swapaxes(value, 0, 1)
        held = jax.tree.map(lax.stop_gradient, self)
        q = lax.stop_gradient(held._fit(lax.stop_gradient(y), groups))
        precision = lax.stop_gradient(held._in_readouts(q.precision))
        b = q.dual + jnp.einsum("tbij,tbj->tbi", groups.of_trials(precision), q.mean)
        told = (b * q.mean).sum((0, 2)) - 0.5 * self._quadratic(precision, q, groups)
        log_z = self.latent.normalizer(_information(b, precision, groups))
        fixed = self._seen(self.counts.normalizer(y), groups)
        return (self._expected(y, q.mean, q.covariance, groups).value + fixed).sum((0, 2)) - told + log_z

    def _fit(self, y: Array, groups: Groups) -> Fitted:
        """The best q, by steps that never lower the bound: of lambda to what q asks for, of means conjugate."""

        def climb(state: tuple[Fitted, Direction, Array, Array, Array]) -> tuple[Any, ...]:
            q, along, step, _, count = state
            tried, direction = self._step(q, along, step, y, groups)
            gain = tried.bound - q.bound
            better = gain >= 0  # not where it is not a number
            q = jax.tree.map(lambda new, old: jnp.where(better, new, old), tried, q)
            # After a loss it goes on along the slope alone, and less far, until rounding is all that there is to lose.
            # So it does after the first step, whose slope was another's.
            kept = better & jnp.isfinite(gain)
            direction = direction._replace(power=jnp.where(kept, direction.power, jnp.inf))
            gain = jnp.where(better, gain, jnp.where(step > LEAST_STEP, jnp.inf, 0.0))
            return q, direction, jnp.where(better, jnp.minimum(1.0, 2 * step), 0.25 * step), gain, count + 1

        def going(state: tuple[Fitted, Direction, Array, Array, Array]) -> Array:
            return (state[4] < MOST_STEPS) & (state[3] > TOLERANCE)

        q = self._first(y, groups)
        still = jnp.zeros_like(q.mean)
        along = Direction(still, still, still, jnp.full(still.shape[1], jnp.inf))
        return lax.while_loop(going, climb, (q, along, jnp.ones(()), jnp.asarray(jnp.inf), jnp.zeros((), int)))[0]

    def _step(self, q: Fitted, along: Direction, step: Array, y: Array, groups: Groups) -> tuple[Fitted, Direction]:
        """One step: V for the lambda that q asks for, and the means along a conjugate direction, trial by trial.

        Preconditioned by V the slope is a Newton direction, but for lambda being a mean over trials; conjugate
        directions (Polak & Ribiere) make up for that, each as long as the trial's own curvature says.
        """
        precision = q.precision + step * (groups.mean(q.curvature) - q.precision)
        inside = self._in_readouts(precision)
        newton, covariance, log_det = self._moments(q.slope, inside, groups)
        dual = q.slope - jnp.einsum("tbij,tbj->tbi", groups.of_trials(inside), newton)
        power = (q.slope * newton).sum((0, 2))
        turned = jnp.maximum((power - (along.slope * newton).sum((0, 2))) / jnp.maximum(along.power, TINY), 0.0)
        turned = turned[:, None]
        direction = Direction(newton + turned * along.mean, dual + turned * along.dual, q.slope, power)
        rise = (q.slope * direction.mean).sum((0, 2))
        bend = (q.curvature * jnp.square(direction.mean @ self._C.T)).sum((0, 2))
        bend = bend + (direction.dual * direction.mean).sum((0, 2))
        length = (step * rise / jnp.maximum(bend, TINY))[:, None]
        mean, dual = q.mean + length * direction.mean, q.dual + length * direction.dual
        return self._scored(mean, dual, precision, inside, covariance, log_det, y, groups), direction

    def _first(self, y: Array, groups: Groups) -> Fitted:
        """Before the first step, which then takes counts as Gaussian around the log of their average nearby.

        The average is over nearby bins and the trials of a pattern; the slope is at means of zero.
        """
        mean_count = groups.mean(y)
        seen = jnp.ones_like(mean_count) if groups.seen is None else groups.seen
        overall = (groups.size[:, None] * mean_count).sum((0, 1)) / jnp.maximum(
            (groups.size[:, None] * seen).sum((0, 1)), 1.0
        )
        nearby = _moving_sum(mean_count) / jnp.maximum(_moving_sum(seen), 1.0)
        rate = jnp.maximum(nearby, START_SHARE * overall + TINY)
        precision, log_rate = rate * seen, groups.of_trials(jnp.log(rate))
        nu = self._seen(y - groups.of_trials(rate) * (1 - log_rate + self._mu), groups)
        slope = nu @ self._C
        still, prior = jnp.zeros_like(slope), jnp.zeros((*precision.shape[:2], *[slope.shape[-1]] * 2))
        curvature = jnp.broadcast_to(groups.of_trials(precision), y.shape)
        return Fitted(still, still, precision, prior, slope, curvature, jnp.asarray(-jnp.inf))

    def _moments(self, b: Array, precision: Array, groups: Groups) -> tuple[Array, Array, Array]:
        """V b, V at every time, and -log|I + K Lambda| / 2 of each trial."""

        def total(b: Array, precision: Array) -> tuple[Array, Array]:
            scores = self.latent.normalizer(_information(b, precision, groups))
            return scores.sum(), scores

        (_, scores), (mean, squares) = jax.value_and_grad(total, (0, 1), has_aux=True)(b, precision)
        second = -(squares + jnp.swapaxes(squares, -1, -2)) / groups.size[:, None, None]
        covariance = second - groups.mean(mean[..., :, None] * mean[..., None, :])
        return mean, covariance, scores - 0.5 * (b * mean).sum((0, 2))

    def _scored(
        self, mean: Array, dual: Array, precision: Array, inside: Array, covariance: Array, log_det: Array, y: Array,
        groups: Groups,
    ) -> Fitted:  # fmt: skip
        found = self._expected(y, mean, covariance, groups)
        q = Fitted(mean, dual, precision, covariance, found.slope @ self._C - dual, found.curvature, jnp.zeros(()))
        # -KL = log Z - E_q[b' x - x' Lambda x / 2] with b = K^-1 m + Lambda m.
        spread = groups.of_trials(jnp.einsum("tgij,tgji->tg", inside, covariance))
        minus_kl = log_det.sum() - 0.5 * (mean * dual).sum() + 0.5 * (spread * jnp.ones(mean.shape[:2])).sum()
        return q._replace(bound=found.value.sum() + minus_kl)

    # ---- what it says ----------------------------------------------------------------------------------------------

    def posterior(self, value: Array) -> Posterior:
        """q of states and readouts given trials (trial, time, neuron), zero where missing; for a Markov likelihood."""
        if not isinstance(self.latent, MarkovGP):
            raise TypeError("only the Markov likelihood smooths states: use likelihood='markov'")
        groups = self._groups(value.shape[0])
        q = self._fit(jnp.swapaxes(value, 0, 1), groups)
        precision = self._in_readouts(q.precision)
        b = q.dual + jnp.einsum("tbij,tbj->tbi", groups.of_trials(precision), q.mean)
        return self.latent.posterior_of(_information(b, precision, groups))

    @property
    def space(self) -> Any:
        """The state space of the latents."""
        return self.latent.space  # type: ignore[attr-defined]

    def with_space(self, space: Any) -> Self:
        """The same with latents in another state space."""
        other = copy.copy(self)
        other.latent = self.latent.with_space(space)  # type: ignore[attr-defined]
        return other

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw counts, sample_shape + (trial, time, neuron); missing entries are drawn too."""
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        latent_key, count_key = random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        x = self.latent.sample_readouts(latent_key, int(np.prod(shape)))
        eta = (x @ self._C.T).reshape(*shape, *self.event_shape) + self.latent.mean
        return self.counts.sample(count_key, eta)

    @property
    def mean(self) -> Array:
        return self._prior_prediction()[0]

    @property
    def variance(self) -> Array:
        return self._prior_prediction()[1]

    def _prior_prediction(self) -> tuple[Array, Array]:
        power = jnp.broadcast_to(jnp.square(self._C).sum(-1), self.batch_shape + self.event_shape)
        return prediction(self.counts, self.latent.mean, power)

    # ---- pieces --------------------------------------------------------------------------------------------------

    @property
    def _C(self) -> Array:
        return readout_loadings(self.latent.prior.assignment, self.latent.loadings)

    @property
    def _mu(self) -> Array:
        """(time or 1, trial or 1, neuron)."""
        return jnp.swapaxes(self.latent.trial_mean, 0, 1)

    def _groups(self, n_trials: int) -> Groups:
        latent = self.latent
        missing = exact_patterns(latent.patterns(n_trials), latent.n_bins, latent.event_shape[1])
        observed, pattern = missing.observed, missing.pattern
        if not self.shared_covariance:
            observed = None if observed is None else observed[pattern]
            pattern = jnp.arange(n_trials)
            count = n_trials
        else:
            count = 1 if observed is None else len(observed)
            if latent.course is not None and latent.condition is not None and (kinds := len(latent.course)) > 1:
                pattern, count = pattern * kinds + latent.condition, count * kinds
                observed = None if observed is None else jnp.repeat(observed, kinds, axis=0)
        size = jnp.zeros(count).at[pattern].add(1.0)
        seen = None if observed is None else jnp.swapaxes(observed, 0, 1).astype(size.dtype)
        return Groups(pattern, seen, jnp.maximum(size, 1.0), not self.shared_covariance)

    def _seen(self, array: Array, groups: Groups) -> Array:
        """(time, trial, neuron), zero where nothing was observed."""
        return array if groups.seen is None else array * groups.of_trials(groups.seen)

    def _expected(self, y: Array, mean: Array, covariance: Array, groups: Groups) -> Expected:
        C = self._C
        variance = jnp.einsum("ni,tgij,nj->tgn", C, covariance, C)
        found = self.counts.expected(y, mean @ C.T + self._mu, groups.of_trials(variance))
        return Expected(*(self._seen(part, groups) for part in found))

    def _in_readouts(self, precision: Array) -> Array:
        """Lambda = C' diag(lambda) C, (time, pattern, readout, readout)."""
        return jnp.einsum("tgn,ni,nj->tgij", precision, self._C, self._C)

    @staticmethod
    def _quadratic(precision: Array, q: Fitted, groups: Groups) -> Array:
        """E_q[x' Lambda x], (trial,)."""
        square = jnp.einsum("tbi,tbij,tbj->tb", q.mean, groups.of_trials(precision), q.mean)
        return (square + groups.of_trials(jnp.einsum("tgij,tgji->tg", precision, q.covariance))).sum(0)


def _information(b: Array, precision: Array, groups: Groups) -> Information:
    return Information(b, precision, groups.pattern, None, jnp.zeros(b.shape[1]))


def _moving_sum(series: Array) -> Array:
    """Sum over the START_BINS bins around each, of (time, pattern, neuron)."""
    half = START_BINS // 2
    sums = jnp.cumsum(jnp.pad(series, [(half + 1, half), (0, 0), (0, 0)]), 0)
    return sums[START_BINS:] - sums[:-START_BINS]
