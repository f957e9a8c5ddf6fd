"""Networks of one input each, layer after layer."""

from itertools import pairwise
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, random

from mrgp.parts.networks.network import layers


class Perceptron(NamedTuple):
    """Linear layers with a smooth activation between them; of one layer, a linear map.

    Attributes:
        layers: ``equinox.nn.Linear``, the first one first.
    """

    layers: tuple[Any, ...]

    @classmethod
    def of(cls, sizes: tuple[int, ...], key: Array, offset: bool = True) -> Self:
        """Make one with inputs, hidden units and outputs of these ``sizes``.

        Without ``offset`` the last layer is linear, without a constant.
        """
        kind, keys = layers().Linear, random.split(key, len(sizes) - 1)
        last = len(sizes) - 2
        made = zip(pairwise(sizes), keys, strict=True)
        return cls(tuple(kind(*two, use_bias=offset or i < last, key=k) for i, (two, k) in enumerate(made)))

    @property
    def is_linear(self) -> bool:
        """True of a linear map without a constant, the weights of its one layer."""
        return len(self.layers) == 1 and self.layers[0].bias is None

    def __call__(self, inputs: Array) -> Array:
        """Outputs (..., output) of inputs (..., input), in single precision."""
        values = jnp.asarray(inputs, jnp.float32)
        for i, layer in enumerate(self.layers):
            values = values @ layer.weight.T + (0.0 if layer.bias is None else layer.bias)
            values = jax.nn.silu(values) if i < len(self.layers) - 1 else values
        return values


class AroundBins(NamedTuple):
    """Network that reads every bin of a trial together with the bins around it.

    Attributes:
        of_bin: Features of a bin.
        of_all: Outputs from the features of a bin and its neighbours.
    """

    of_bin: Perceptron
    of_all: Perceptron

    @classmethod
    def of(cls, sizes: tuple[int, ...], n_outputs: int, reach: int, key: Array) -> Self:
        """Make one with inputs and hidden units of these ``sizes``.

        A bin has ``reach`` neighbours on either side.
        """
        first, second = random.split(key)
        width = sizes[-1]
        return cls(Perceptron.of(sizes, first), Perceptron.of(((2 * reach + 1) * width, width, n_outputs), second))

    def __call__(self, inputs: Array, seen: Array) -> Array:
        """Outputs (trial, time, output) of inputs (trial, time, input).

        Of bins that are not ``seen`` (trial, time, 1), 0 to 1, nothing is read.
        """
        features = jax.nn.silu(self.of_bin(inputs)) * jnp.asarray(seen > 0, jnp.float32)
        n_bins, width = features.shape[1:]
        reach = self.of_all.layers[0].weight.shape[1] // width // 2
        wide = jnp.pad(features, [(0, 0), (reach, reach), (0, 0)])
        return self.of_all(jnp.concatenate([wide[:, lag : lag + n_bins] for lag in range(2 * reach + 1)], -1))
