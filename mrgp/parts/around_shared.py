"""Normal distribution of values of groups that resemble each other."""

from typing import ClassVar, Self

import jax.numpy as jnp
from jax import Array, random
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample


class AroundShared(Distribution):
    r"""Normal values of groups around a value that they share.

    .. math:: x_g = a + b_g, \qquad a \sim N(0, s^2), \qquad b_g \sim N(0, o^2)

    element by element; one event is (group, \*shape).

    Args:
        shared: s, of the event's shape but its first axis.
        own: o, likewise.
        n_groups: How many groups there are.
    """

    arg_constraints: ClassVar[dict] = {"shared": constraints.positive, "own": constraints.positive}
    pytree_data_fields = ("shared", "own")
    pytree_aux_fields = ("n_groups",)

    def __init__(self, shared: Array, own: Array, n_groups: int, *, validate_args: bool | None = None) -> None:
        self.shared, self.own = jnp.broadcast_arrays(shared, own)
        self.n_groups = n_groups
        super().__init__(event_shape=(n_groups, *self.shared.shape), validate_args=validate_args)

    @property
    def support(self: Self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw values (*sample_shape, group, *shape)."""
        first, second = random.split(key)
        around = self.shared * random.normal(first, (*sample_shape, 1, *self.shared.shape))
        return around + self.own * random.normal(second, (*sample_shape, *self.event_shape))

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Log density in nats, (*sample_shape,)."""
        axis = value.ndim - len(self.event_shape)
        middle = value.mean(axis)
        deviation = value - jnp.expand_dims(middle, axis)
        wide = self.own**2 + self.n_groups * self.shared**2  # variance along the direction that groups share
        square = (deviation**2).sum(axis) / self.own**2 + self.n_groups * middle**2 / wide
        size = 2 * (self.n_groups - 1) * jnp.log(self.own) + jnp.log(wide) + self.n_groups * jnp.log(2 * jnp.pi)
        return -0.5 * (square + size).sum(tuple(range(axis, axis + self.shared.ndim)))
