r"""Likelihood of spike counts, with latents integrated out up to a variational bound.

Latents are delayed Gaussian processes.

A trial's counts y are independent given the log-rates eta(t) = C x(t) + d(t). With a Gaussian q(x),

    log p(y) >= E_q log p(y | eta) - KL(q || p(x)),        q(x) ~ p(x) exp(b' x - x' Lambda x / 2),

and -KL = log Z - E_q[b' x - x' Lambda x / 2], where log Z(b, Lambda) is the ``normalizer`` of the latents. The best q
(see ``best_gaussian``) has Lambda = C' diag(lambda) C. **lambda is shared by the trials of a pattern** of missing data,
being the mean over them, so that the covariance of q is computed once for all of them. That restricts q; it is a lower
bound nevertheless: on counts of V1 and V2 2.3 nats of 7,000 per trial below that of covariances of their own, and on
268 neurons of a mouse at a task with 16 conditions 0.7 of 1,500, of which covariances of conditions would save 0.2.
Where log-rates move far, and differently in every trial, it loses more, and not the same at all parameters: with an sd
of 1 and a count in a bin 21 nats of 5,200 per trial, of which 5 pulled edges between regions to where they are too
strong (``shared_covariance`` of :class:`mrgp.models.CoupledLDS`).

The gradient of the bound in the parameters is that at q held fixed, since q is a maximum: through log Z where b and
Lambda are constants, and through E_q log p where the moments of x are. First derivatives only.
"""

import copy
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample
from numpyro.util import is_prng_key

from mrgp.likelihoods.base import DelayedGP, Drawn, mean_given
from mrgp.likelihoods.best_gaussian import Problem
from mrgp.likelihoods.gaussians import Guess
from mrgp.likelihoods.groups import Groups
from mrgp.likelihoods.kalman import MarkovGP, Posterior
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.surrogate import information_in, surrogate_of
from mrgp.parts.emissions.counts import Counts, prediction
from mrgp.parts.loadings import readout_loadings


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
    pytree_data_fields = ("latent", "counts")
    pytree_aux_fields = ("shared_covariance",)

    def __init__(
        self, latent: DelayedGP, counts: Counts, *, shared_covariance: bool = True, validate_args: bool | None = None
    ) -> None:
        self.latent, self.counts, self.shared_covariance = latent, counts, shared_covariance
        super().__init__(latent.batch_shape, latent.event_shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        """Values that the emission can have."""
        return constraints.independent(self.counts.support, 2)

    # ---- the bound -----------------------------------------------------------------------------------------------

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Lower bound of log p(y) in nats of each trial.

        ``value`` is (..., time, neuron), with zeros where entries are missing.
        """
        value = jnp.asarray(value)
        lead = value.shape[:-2]
        if self.latent.missing is not None and lead != self.batch_shape:
            raise ValueError(f"a recording with missing entries must be scored whole: {self.batch_shape}, not {lead}")
        scores, _ = self.bound_from(value.reshape(int(np.prod(lead)), *value.shape[-2:]))
        return jnp.broadcast_to(scores.reshape(lead), jnp.broadcast_shapes(lead, self.batch_shape))

    def bound_from(
        self, value: Array, guess: Guess | None = None, within: Array | float | None = None
    ) -> tuple[Array, Guess]:
        """Compute the bound of each trial, (trial,), and the q that reaches it.

        ``value`` is (trial, time, neuron). The next search can begin with this q.

        ``guess`` is that of a search at other parameters; the nearer they are, the sooner this one ends, which it does
        where a step gains less than ``within`` nats in all trials, ``best_gaussian.TOLERANCE`` unless given.
        """
        problem = self.problem(value)
        held = jax.tree.map(lax.stop_gradient, self).problem(lax.stop_gradient(value))
        q = lax.stop_gradient(held.best(guess, within))
        told = lax.stop_gradient(held.information(q))
        spread = jnp.einsum("tgij,tgji->tg", told.precision, q.covariance)
        square = jnp.einsum("tbi,tbij,tbj->tb", q.mean, problem.groups.of_trials(told.precision), q.mean)
        log_sites = (told.vectors * q.mean).sum((0, 2)) - 0.5 * (square + problem.groups.of_trials(spread)).sum(0)
        terms = problem.normalizers
        scores = problem.expected(q.mean, q.covariance).value + terms - log_sites + problem.latent.normalizer(told)
        # It has the slopes of the bound, but where rates are huge it is a small difference of large numbers.
        scores = scores + lax.stop_gradient(q.bound + terms - scores)
        return scores, Guess(told.vectors, q.precision)

    # ---- given loadings and offsets ------------------------------------------------------------------------------

    def information(self, value: Array) -> Information:
        """Information of trials (trial, time, neuron) about the readouts, at the best q.

        It is that of Gaussian pseudo-observations, with which the normalizer of :attr:`gaussian` has the slopes of the
        bound by delays and kernels at the parameters of this distribution; away from them it is an approximation.
        """
        problem = self.problem(value)
        return information_in(problem, surrogate_of(problem, problem.best()))

    def with_spread(self, spread: Array | None) -> Self:
        """Itself: its q is that of the means of loadings, however well they are known."""
        return self

    def with_delay(self, delay: Any) -> Self:
        """Copy with other delays, (time or 1, region, across_latent) in bins."""
        other = copy.copy(self)
        other.latent = self.latent.with_delay(delay)
        return other

    def problem(self, value: Array) -> Problem:
        """Search for q of trials (trial, time, neuron), which may be of any dtype."""
        value = jnp.asarray(value)
        groups = Groups.of(self.latent, value.shape[0], self.shared_covariance)
        return Problem(self.latent.about_zero, self.counts, value, groups)

    # ---- what it says ----------------------------------------------------------------------------------------------

    def posterior(self, value: Array) -> Posterior:
        """q of states and readouts given trials (trial, time, neuron), zero where missing.

        TypeError unless the likelihood is Markov.
        """
        if not isinstance(self.latent, MarkovGP):
            raise TypeError("only the Markov likelihood smooths states: use likelihood='markov'")
        problem = self.problem(value)
        return self.latent.with_start(problem.latent.posterior_of(problem.information(problem.best())))

    @property
    def gaussian(self) -> DelayedGP:
        """Gaussian processes behind the trials: those of log-rates."""
        return self.latent

    @property
    def space(self) -> Any:
        """State space of the latents."""
        return self.latent.space  # type: ignore[attr-defined]

    def with_space(self, space: Any) -> Self:
        """Copy with latents in another state space."""
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
        eta = (x @ self._loadings.T).reshape(*shape, *self.event_shape) + self.latent.mean_of_trials
        return self.counts.draw(count_key, eta)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw all trials once, with the latents behind them; missing entries are drawn too."""
        signals, x = self.latent.draw_readouts(rng)
        eta = jnp.asarray(mean_given(self.latent, x))
        return Drawn(signals, x, np.asarray(self.counts.draw(random.key(rng.integers(2**31)), eta)))

    @property
    def mean(self) -> Array:
        return self._prior_prediction()[0]

    @property
    def variance(self) -> Array:
        return self._prior_prediction()[1]

    @property
    def _loadings(self) -> Array:
        return readout_loadings(self.latent.prior.assignment, self.latent.loadings)

    def _prior_prediction(self) -> tuple[Array, Array]:
        power = jnp.einsum("ni,tij,nj->tn", self._loadings, self.latent.readout_covariance, self._loadings)
        return prediction(self.counts, self.latent.mean, jnp.broadcast_to(power, self.batch_shape + self.event_shape))
