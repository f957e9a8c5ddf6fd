r"""Causal transformer: what it says of a bin, it has read from this bin and those before.

.. math::
    a = \mathrm{softmax}_{s \le t}\big(q_t \cdot k_s / \sqrt{n}\big), \qquad
    x \leftarrow \mathrm{norm}\big(x + W_o\, a v\big), \qquad x \leftarrow \mathrm{norm}\big(x + \mathrm{MLP}(x)\big)

(Vaswani et al. 2017, NeurIPS, with the norm after each sum, as there). Bins are told apart by waves of their number, so
that a trial may be longer than those of a training.
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.parts.networks.perceptron import Perceptron

WIDER = 2  # times as many hidden units of a block's perceptron as it has numbers of a bin
LONGEST_WAVE = 10_000.0  # bins in a radian of the slowest wave that numbers bins
LEAST_VARIANCE = 1e-5  # in a norm: numbers that are all the same become 0


def normalised(values: Array) -> Array:
    """Numbers of the last axis with mean 0 and variance 1; nothing of it is learned."""
    around = values - values.mean(-1, keepdims=True)
    return around / jnp.sqrt((around**2).mean(-1, keepdims=True) + LEAST_VARIANCE)


def waves(n_bins: int, width: int) -> np.ndarray:
    """Sines and cosines of the numbers of bins, from fast to slow ones, (time, width)."""
    column = np.arange(width)
    phase = np.arange(n_bins)[:, None] / LONGEST_WAVE ** (2 * (column // 2) / width)
    return np.where(column % 2, np.cos(phase), np.sin(phase)).astype(np.float32)


class Norm(NamedTuple):
    """Norm of the numbers of a bin, with a learned scale and level of each, (number,)."""

    scale: Array
    level: Array

    @classmethod
    def of(cls, width: int) -> Self:
        """Make one that begins as :func:`normalised`."""
        return cls(jnp.ones(width), jnp.zeros(width))

    def __call__(self, values: Array) -> Array:
        return self.scale * normalised(values) + self.level


class Attention(NamedTuple):
    """Heads that each look back for bins like what they ask for.

    Attributes:
        reads: Queries, keys and values, (3, head, number, width).
        writes: From the values of all heads, (width, head, number).
    """

    reads: Array
    writes: Array

    @classmethod
    def of(cls, width: int, n_heads: int, key: Array) -> Self:
        """Make ``n_heads``, of width / n_heads numbers each."""
        first, second = random.split(key)
        size, scale = width // n_heads, width**-0.5
        reads = scale * random.normal(first, (3, n_heads, size, width))
        return cls(reads, scale * random.normal(second, (width, n_heads, size)))

    def __call__(self, values: Array) -> Array:
        """Sum of what heads have found for every bin, (trial, time, width)."""
        query, key, value = jnp.einsum("phnw,btw->pbhtn", self.reads, values)
        likeness = jnp.einsum("bhtn,bhsn->bhts", query, key) / np.sqrt(query.shape[-1]).astype(np.float32)
        past = np.tril(np.ones(likeness.shape[-2:], bool))
        share = jax.nn.softmax(jnp.where(past, likeness, -jnp.inf), -1)
        return jnp.einsum("whn,bhts,bhsn->btw", self.writes, share, value)


class Block(NamedTuple):
    """Attention and a perceptron, each added to what was there, and normed."""

    attention: Attention
    norm: Norm
    perceptron: Perceptron
    last_norm: Norm

    @classmethod
    def of(cls, width: int, n_heads: int, key: Array) -> Self:
        """Make one."""
        first, second = random.split(key)
        perceptron = Perceptron.of((width, WIDER * width, width), second)
        return cls(Attention.of(width, n_heads, first), Norm.of(width), perceptron, Norm.of(width))

    def __call__(self, values: Array) -> Array:
        """Numbers of every bin, (trial, time, width)."""
        values = self.norm(values + self.attention(values))
        return self.last_norm(values + self.perceptron(values))


class CausalTransformer(NamedTuple):
    """Blocks that read the bins of a trial, none of them a later one than its own.

    Attributes:
        into: Linear map from the inputs of a bin to its numbers.
        blocks: The first one first.
    """

    into: Perceptron
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, n_inputs: int, width: int, depth: int, n_heads: int, key: Array) -> Self:
        """Make one of ``depth`` blocks, with ``width`` numbers of a bin."""
        first, *keys = random.split(key, 1 + depth)
        return cls(Perceptron.of((n_inputs, width), first), tuple(Block.of(width, n_heads, own) for own in keys))

    def __call__(self, inputs: Array) -> Array:
        """Numbers of every bin (trial, time, width), of inputs (trial, time, input)."""
        values = self.into(inputs)
        values = values + waves(*values.shape[1:])
        for block in self.blocks:
            values = block(values)
        return values
