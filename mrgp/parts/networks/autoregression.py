r"""Autoregressive law of inputs over the bins of a trial.

.. math::
    u_0 \sim N(0, s^2), \qquad u_t = a u_{t-1} + \sqrt{1 - a^2}\, s\, \epsilon_t
"""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.distributions.util import promote_shapes

from mrgp.parts.sites import Site

INPUT_TIMESCALE = Site("input_timescale", "input", unit="s")
INPUT_SPREAD = Site("input_spread", "input")
TYPICAL_TIMESCALE, TIMESCALE_SPREAD = 0.05, 1.0  # s, of inputs: prior median, and sd of its logarithm
TYPICAL_SPREAD = 0.3  # of inputs, beside states of about 1: what is there without them is left to the dynamics


class Steps(NamedTuple):
    """Recursion of inputs, u_t = keep u_{t-1} + kicks_t e_t with e ~ N(0, 1), from u = 0.

    Attributes:
        keep: a, (input,).
        kicks: (time, input).
    """

    keep: Array
    kicks: Array


def steps_of(law: tuple[Array, Array] | None, n_bins: int) -> Steps:
    """Write the law of :func:`law_of_inputs` as a recursion."""
    if law is None:
        return Steps(jnp.zeros(0, jnp.float32), jnp.zeros((n_bins, 0), jnp.float32))
    keep, spread = law
    first = (jnp.arange(n_bins) == 0)[:, None]
    return Steps(keep, spread * jnp.where(first, 1.0, jnp.sqrt(1 - keep**2)).astype(spread.dtype))


class Autoregression(dist.Distribution):
    """Stationary autoregressive process of order 1 of every input, event (time, input).

    Args:
        correlation: a, of neighbouring bins, (input,).
        spread: s, sd of an input, (input,).
        n_bins: Bins of the longest trial.
        length: Bins of each trial, (trial,), after which nothing counts; None where all are as long.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "correlation": constraints.unit_interval,
        "spread": constraints.positive,
    }
    support = constraints.real_matrix
    reparametrized_params: ClassVar[list[str]] = ["correlation", "spread"]
    pytree_aux_fields = ("n_bins",)
    pytree_data_fields = ("correlation", "spread", "length")

    def __init__(
        self, correlation: Array, spread: Array, n_bins: int, length: Any = None, *,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self.correlation, self.spread = promote_shapes(correlation, spread)
        self.n_bins, self.length = n_bins, length
        event = (n_bins, self.correlation.shape[-1])
        super().__init__(() if length is None else length.shape, event, validate_args=validate_args)

    @property
    def there(self) -> Array:
        """1 in bins of a trial, 0 after its end, (time,) or (trial, time)."""
        bins = jnp.arange(self.n_bins)
        lasts = jnp.ones(self.n_bins) if self.length is None else bins < self.length[:, None]
        return jnp.asarray(lasts, self.correlation.dtype)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        white = random.normal(key, shape, self.correlation.dtype)
        steps = steps_of((self.correlation, self.spread), self.n_bins)

        def step(before: Array, own: Array) -> tuple[Array, Array]:
            now = steps.keep * before + own
            return now, now

        by_bin = jnp.moveaxis(steps.kicks * white, -2, 0)
        return jnp.moveaxis(lax.scan(step, jnp.zeros_like(by_bin[0]), by_bin)[1], 0, -2)

    def log_prob(self, value: Array) -> Array:
        return self.expected_log_density(value, jnp.zeros_like(value))

    def expected_log_density(self, mean: Array, variance: Array) -> Array:
        """E log p(u) of inputs N(mean, variance) that are independent, (..., time, input) each."""
        a, s2 = self.correlation, self.spread**2
        kick = s2 * (1 - a**2)
        first = mean[..., 0, :] ** 2 + variance[..., 0, :]
        change = mean[..., 1:, :] - a * mean[..., :-1, :]
        later = change**2 + variance[..., 1:, :] + a**2 * variance[..., :-1, :]
        density = -0.5 * (first / s2 + jnp.log(2 * jnp.pi * s2)).sum(-1)
        return density - 0.5 * ((later / kick + jnp.log(2 * jnp.pi * kick)).sum(-1) * self.there[..., 1:]).sum(-1)


def law_of_inputs(n_inputs: int, bin_width: float) -> tuple[Array, Array] | None:
    """Sample the correlation of neighbouring bins, and the spread, of every input.

    They are (input,) each; None if there are none. ``bin_width`` is in seconds.
    """
    if not n_inputs:
        return None
    each = (n_inputs,)
    timescale = INPUT_TIMESCALE.sample(
        dist.LogNormal(jnp.log(TYPICAL_TIMESCALE), TIMESCALE_SPREAD).expand(each).to_event(1)
    )
    spread = INPUT_SPREAD.sample(dist.LogNormal(jnp.log(TYPICAL_SPREAD), 1.0).expand(each).to_event(1))
    return jnp.exp(-bin_width / timescale).astype(jnp.float32), spread.astype(jnp.float32)


@kl_divergence.register(dist.Independent, Autoregression)
def _(q: Any, p: Autoregression) -> Array:
    """KL of independent Gaussians, Normal(...).to_event(2), masked or not, from the process."""
    base = q.base_dist
    base = base.base_dist if isinstance(base, dist.MaskedDistribution) else base  # by what p says is there
    if not isinstance(base, dist.Normal) or q.reinterpreted_batch_ndims != 2:
        raise NotImplementedError
    entropy = 0.5 * jnp.log(2 * jnp.pi * jnp.e * base.scale**2)
    return -(entropy.sum(-1) * p.there).sum(-1) - p.expected_log_density(base.loc, base.scale**2)
