"""Networks as parameters of a program: arrays in single precision, with a Gaussian prior."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist
from numpyro.contrib.module import eqx_module

from mrgp.recordings.checks import need

QUIET = 0.1  # of a layer's usual weights: rates then begin within a few per cent of their means, and still have slopes
SPREAD = 1.0  # prior sd of a weight: it holds what data say nothing of, and is felt by nothing else
NARROW = 1.0  # log of how much narrower than 1, the sd of most priors, a guide's posterior begins
LEAST_SD = 1e-3  # of a guide's posterior, in units of the prior: below it a draw says no more than the mean


def layers() -> Any:
    """Return ``equinox.nn``, of whose layers networks are made.

    Raises:
        DataError: equinox is not installed.
    """
    return need("equinox", "a model with networks", "deep").nn


def network[T](name: str, make: Callable[[Array], T]) -> T:
    """Enter a network into a program or guide, and return it, ready to be called.

    Call it outside the plate of trials. Its arrays are the parameter ``<name>$params``; in a program each number has a
    prior N(0, 1), and is where it is most likely (MAP). Layers take one vector: ``jax.vmap`` over trials.

    Args:
        name: Of the network, once in a model.
        make: From a random key to any pytree of equinox's layers, such as ``layers().MLP(3, 2, 64, 2, key=key)``.
    """
    layers()  # says what to install
    made = jax.tree.map(_single, make(numpyro.prng_key()))
    found = eqx_module(name, made)
    arrays = [leaf for leaf in jax.tree.leaves(found) if _is_trained(leaf)]
    square = sum(((leaf / SPREAD) ** 2).sum() for leaf in arrays)
    numpyro.factor(f"{name}_prior", -0.5 * jnp.asarray(square))
    return found


def quiet(n_inputs: int, n_outputs: int, key: Array) -> Any:
    """Make a linear layer without bias whose weights begin small.

    It is for what neurons read: a training then begins at each neuron's own mean, which it must end above.
    """
    layer = layers().Linear(n_inputs, n_outputs, use_bias=False, key=key)
    return jax.tree.map(lambda leaf: QUIET * leaf if _is_trained(leaf) else leaf, layer)


def gaussian(numbers: Array) -> dist.Normal:
    """Gaussian of a guide, from means and the logarithms of sds side by side on the last axis."""
    mean, log_sd = jnp.split(numbers, 2, -1)
    return dist.Normal(mean, jnp.exp(log_sd - NARROW) + LEAST_SD)


def _is_trained(leaf: Any) -> bool:
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _single(leaf: Any) -> Any:
    return leaf.astype(jnp.float32) if _is_trained(leaf) else leaf
