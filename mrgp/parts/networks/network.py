"""Networks as parameters of a program: arrays in single precision, with a Gaussian prior."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.contrib.module import eqx_module

QUIET = 0.1
SPREAD = 1.0  # prior sd of a weight: it holds what data say nothing of, and is felt by nothing else


def layers() -> Any:
    """Return ``equinox.nn``, of whose layers networks are made.

    Raises:
        ImportError: equinox is not installed.
    """
    try:
        return importlib.import_module("equinox").nn
    except ImportError as error:
        raise ImportError("models with networks are made with equinox: pip install 'mrgp[deep]'") from error


def network[T](name: str, make: Callable[[Array], T], spread: float = SPREAD) -> T:
    """Enter a network into a program or guide, and return it, ready to be called.

    Call it outside the plate of trials. Its arrays are the parameter ``<name>$params``; in a program each number has a
    prior N(0, spread^2), and is where it is most likely (MAP). Layers take one vector: ``jax.vmap`` over trials.

    Args:
        name: Of the network, once in a model.
        make: From a random key to any pytree of equinox's layers, such as ``layers().MLP(3, 2, 64, 2, key=key)``.
        spread: sd of the prior.
    """
    layers()  # says what to install
    made = jax.tree.map(_single, make(numpyro.prng_key()))
    found = eqx_module(name, made)
    arrays = [leaf for leaf in jax.tree.leaves(found) if _is_trained(leaf)]
    square = sum(((leaf / spread) ** 2).sum() for leaf in arrays)
    numpyro.factor(f"{name}_prior", -0.5 * jnp.asarray(square))
    return found


def quiet(n_inputs: int, n_outputs: int, key: Array) -> Any:
    """Make a linear layer without bias whose weights begin small.

    It is for what neurons read: a training then begins at each neuron's own mean, which it must end above.
    """
    layer = layers().Linear(n_inputs, n_outputs, use_bias=False, key=key)
    return jax.tree.map(lambda leaf: QUIET * leaf if _is_trained(leaf) else leaf, layer)


def _is_trained(leaf: Any) -> bool:
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _single(leaf: Any) -> Any:
    return leaf.astype(jnp.float32) if _is_trained(leaf) else leaf
