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


def library() -> Any:
    """Return ``equinox``, with which networks are made.

    Raises:
        DataError: it is not installed.
    """
    return need("equinox", "a model with networks", "deep")


def layers() -> Any:
    """Return ``equinox.nn``, of whose layers networks are made."""
    return library().nn


def normal(network: Any) -> Array:
    """Compute the log prior of a network whose numbers are N(0, SPREAD^2) each."""
    arrays = [leaf for leaf in jax.tree.leaves(network) if is_trained(leaf)]
    return -0.5 * jnp.asarray(sum(((leaf / SPREAD) ** 2).sum() for leaf in arrays))


def network[T](name: str, make: Callable[[Array], T], log_prior: Callable[[T], Array] = normal) -> T:
    """Enter a network into a program or guide, and return it, ready to be called.

    Call it outside the plate of trials. Its arrays are the parameter ``<name>$params``, and are where they are most
    likely (MAP). Layers take one vector: ``jax.vmap`` over trials.

    Args:
        name: Of the network, once in a model.
        make: From a random key to any pytree of equinox's layers, such as ``layers().MLP(3, 2, 64, 2, key=key)``.
        log_prior: Of the network in a program; of a guide it counts for nothing. N(0, 1) for each number by default.
    """
    library()  # says what to install
    made = jax.tree.map(single, make(numpyro.prng_key()))
    found = eqx_module(name, made)
    numpyro.factor(f"{name}_prior", log_prior(found))
    return found


def quiet(n_inputs: int, n_outputs: int, key: Array) -> Any:
    """Make a linear layer without bias whose weights begin small.

    It is for what neurons read: a training then begins at each neuron's own mean, which it must end above.
    """
    layer = layers().Linear(n_inputs, n_outputs, use_bias=False, key=key)
    return jax.tree.map(lambda leaf: QUIET * leaf if is_trained(leaf) else leaf, layer)


def gaussian(numbers: Array) -> dist.Normal:
    """Gaussian of a guide, from means and the logarithms of sds side by side on the last axis."""
    mean, log_sd = jnp.split(numbers, 2, -1)
    return dist.Normal(mean, jnp.exp(log_sd - NARROW) + LEAST_SD)


def is_trained(leaf: Any) -> bool:
    """Return True for an array of real numbers."""
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def single(leaf: Any) -> Any:
    """Return an array of real numbers in single precision, and anything else as it is.

    Draws of a guide are in double precision, and would take all that is computed from them along.
    """
    return leaf.astype(jnp.float32) if is_trained(leaf) else leaf
