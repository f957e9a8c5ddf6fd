"""Parameters of an amortised model: networks, and sites that trials share, by name.

Networks are ``numpyro.param`` of program and guide. Sites outside the plate of trials, such as the noise of neurons,
are at their most likely value, in unconstrained coordinates while they are trained.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro import handlers
from numpyro.distributions import biject_to

from mrgp.parts.sites import site_of
from mrgp.recordings.recording import MultiRegionData

SEPARATOR = ":"  # between a network's name and the place of an array in it; a file's names cannot have "/" or "."


class WithGuide(Protocol):
    """Interface that amortised inference needs of a model: its program, and its guide."""

    first_horizon: ClassVar[float]
    has_own_posteriors: ClassVar[bool]
    reads_across: ClassVar[bool]
    is_autoencoder: ClassVar[bool]

    def __call__(self, data: MultiRegionData) -> None: ...
    def guide(self, data: MultiRegionData) -> None: ...
    def first_guess(self, data: MultiRegionData) -> Mapping[str, Any]: ...


class Values(NamedTuple):
    """Values of parameters.

    Attributes:
        networks: Of each ``numpyro.param``, a pytree.
        shared: Of each site that trials share, constrained.
    """

    networks: dict[str, Any]
    shared: dict[str, Array]

    @property
    def all(self) -> dict[str, Any]:
        """All of them by name, as ``handlers.substitute`` takes them."""
        return {**self.networks, **self.shared}


class Parameters(NamedTuple):
    """Parameters of a program and its guide, inside code that is compiled.

    Attributes:
        first: Values that training begins from.
        supports: Of the shared sites.
        of_guide: Names of the networks that only the guide has.
    """

    first: Values
    supports: dict[str, Any]
    of_guide: frozenset[str]

    @classmethod
    def of(cls, model: WithGuide, data: Any, key: Array | None = None) -> Self:
        """Find the parameters by running program and guide once."""
        keys = jax.random.split(jax.random.key(0) if key is None else key)
        programs = zip((model, model.guide), keys, strict=True)
        traces = [handlers.trace(handlers.seed(program, own)).get_trace(data) for program, own in programs]
        both = {name: site for trace in reversed(traces) for name, site in trace.items()}
        networks = {name: site["value"] for name, site in both.items() if site["type"] == "param"}
        shared = {
            name: site["fn"]
            for name, site in traces[0].items()
            if site["type"] == "sample" and not site["is_observed"] and not is_of_trials(site)
        }
        means = {name: jnp.broadcast_to(fn.mean, fn.shape()) for name, fn in shared.items()}
        of_guide = frozenset(networks) - frozenset(traces[0])
        return cls(Values(networks, means), {name: fn.support for name, fn in shared.items()}, of_guide)

    def free(self, values: Values) -> Values:
        """Unconstrained coordinates of values."""
        return Values(values.networks, {n: biject_to(self.supports[n]).inv(v) for n, v in values.shared.items()})

    def with_program_held(self, values: Values) -> Values:
        """Values of which only those of the guide's own networks have slopes."""
        held = jax.tree.map(lax.stop_gradient, values)
        return Values({**held.networks, **{name: values.networks[name] for name in self.of_guide}}, held.shared)

    def constrained(self, free: Values) -> Values:
        """Values at unconstrained coordinates."""
        return Values(free.networks, {n: biject_to(self.supports[n])(v) for n, v in free.shared.items()})


def strides(free: Values, warm: Any = 1.0) -> Values:
    """Lengths of the steps of every array, in those of networks.

    Traits of latents stay where they begin until a training is ``warm``, 0 or 1: all that they are told by is the
    divergence of q from the prior, and while it counts for little, the slowest latents look best.
    """
    sites = {name: site_of(name) for name in free.shared}
    lengths: dict[str, Any] = {
        name: 1.0 if site is None else site.stride * (warm if site.trait else 1.0) for name, site in sites.items()
    }
    return Values(jax.tree.map(lambda _: 1.0, free.networks), lengths)


@partial(jax.jit, static_argnums=0)
def first_values(model: WithGuide, data: Any, key: Array) -> Values:
    """Values that training begins from."""
    return Parameters.of(model, data, key).first


@partial(jax.jit, static_argnums=0)
def freed(model: WithGuide, data: Any, values: Values) -> Values:
    """Unconstrained coordinates of values."""
    return Parameters.of(model, data).free(values)


@partial(jax.jit, static_argnums=0)
def constrained(model: WithGuide, data: Any, free: Values) -> Values:
    """Values at unconstrained coordinates."""
    return Parameters.of(model, data).constrained(free)


def packed(values: Values) -> dict[str, np.ndarray]:
    """Values as arrays by name, a network's one by one."""
    arrays = {name: np.asarray(value) for name, value in values.shared.items()}
    for name, network in values.networks.items():
        for place, leaf in jax.tree_util.tree_flatten_with_path(network)[0]:
            arrays[_named(name, place)] = np.asarray(leaf)
    return arrays


def unpacked(model: WithGuide, data: Any, arrays: Mapping[str, Any]) -> Values:
    """Values from arrays by name.

    Raises:
        ValueError: arrays are missing, or of another shape.
    """
    needed = jax.eval_shape(lambda data: Parameters.of(model, data).first, data)
    shared = {name: _like(arrays, name, value) for name, value in needed.shared.items()}
    networks = {
        name: jax.tree_util.tree_map_with_path(
            lambda place, leaf, name=name: _like(arrays, _named(name, place), leaf), network
        )
        for name, network in needed.networks.items()
    }
    return Values(networks, shared)


def is_of_trials(site: Mapping[str, Any]) -> bool:
    """True if a site is in the plate of trials."""
    return any(frame.name == "trial" for frame in site["cond_indep_stack"])


def _named(network: str, place: Any) -> str:
    inside = jax.tree_util.keystr(place, simple=True, separator=SEPARATOR)
    return SEPARATOR.join([network, inside]) if inside else network


def _like(arrays: Mapping[str, Any], name: str, needed: Any) -> Array:
    if name not in arrays or np.shape(arrays[name]) != needed.shape:
        held = f"of shape {np.shape(arrays[name])}" if name in arrays else "missing"
        raise ValueError(f"parameter {name!r} is {held}, but the model needs {needed.shape}")
    return jnp.asarray(arrays[name], needed.dtype)
