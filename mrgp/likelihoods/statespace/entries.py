"""Matrices that are free in some places and zero in all others."""

from dataclasses import dataclass
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import biject_to, constraints, transforms


class Described[T]:
    """Constraint or transform that is described by one thing, which is hashable and no array.

    Attributes:
        about: The thing.
    """

    def __init__(self, about: T) -> None:
        self.about = about

    def tree_flatten(self) -> Any:
        return (), ((), {"about": self.about})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.about))


@dataclass(frozen=True)
class Places:
    """Places in square matrices; static.

    Attributes:
        size: Rows and columns of a matrix.
        rows, columns: Of each place.
    """

    size: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, mask: np.ndarray) -> Self:
        """Places where a mask (row, column) is true."""
        rows, columns = np.nonzero(mask)
        return cls(len(mask), tuple(rows.tolist()), tuple(columns.tolist()))

    @classmethod
    def lower(cls, size: int) -> Self:
        """Places of a lower triangular matrix."""
        return cls.of(np.tril(np.ones((size, size), bool)))

    @property
    def mask(self) -> np.ndarray:
        """True in the places, (row, column)."""
        table = np.zeros((self.size, self.size), bool)
        table[list(self.rows), list(self.columns)] = True
        return table


class Entries(Described[Places], constraints.Constraint[Array]):
    """Constraint to matrices that are zero but for some places."""

    event_dim = 2

    def __call__(self, x: Array) -> Array:
        return jnp.all(jnp.where(self.about.mask, jnp.isfinite(x), x == 0), (-2, -1))

    def feasible_like(self, prototype: Array) -> Array:
        return jnp.zeros_like(prototype)


class ToEntries(Described[Places], transforms.Transform[Array]):
    """Transform of a vector to the places of a matrix, entry by entry."""

    domain = constraints.real_vector

    @property
    def codomain(self) -> constraints.Constraint:
        """Matrices that are zero elsewhere."""
        return Entries(self.about)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return len(self.about.rows)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], self.about.size, self.about.size)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], self.size)

    def __call__(self, x: Array) -> Array:
        places = np.array(self.about.rows, int), np.array(self.about.columns, int)
        return jnp.zeros(self.forward_shape(x.shape), x.dtype).at[..., *places].set(x)

    def _inverse(self, y: Array) -> Array:
        return y[..., np.array(self.about.rows, int), np.array(self.about.columns, int)]

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        return jnp.zeros(x.shape[:-1], x.dtype)


@biject_to.register(Entries)
def _to_entries(constraint: Any) -> ToEntries:
    return ToEntries(constraint.about)
