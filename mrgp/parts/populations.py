r"""Populations: the groups of neurons that read latents of their own.

They are the regions of a recording, or unknown. Where they are unknown, neuron n belongs to population c_n, of
at most K:

.. math:: v_k \sim \mathrm{Beta}(1, \alpha), \qquad \pi_k = v_k \prod_{l < k} (1 - v_l), \qquad c_n \sim \pi, \qquad
    \theta_n \sim p(\theta)

(a Dirichlet process cut off at K: Ishwaran & James 2001, JASA 96, 161-173), theta_n being the neuron's loadings, offset
and what else it has of its own. Its posterior is q(c_n = k) = r_nk, with the best theta_nk for each k, so that

.. math:: \log p(y, \theta) \ge \sum_{n,k} r_{nk} \big(E \log p(y_n \mid x_k, \theta_{nk}) + \log p(\theta_{nk})
    + \log \pi_k - \log r_{nk}\big) + \dots

Every neuron is therefore written once for each population, and has a copy of its parameters there. No copy depends on
r: a neuron finds its way to another population from anywhere.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import xlogy
from numpyro.primitives import Messenger

from mrgp.part import Part
from mrgp.parts.emissions.negative_binomial import DISPERSION
from mrgp.parts.membership import Membership
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import Site
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.repeated import repeated

STICKS = Site("population_sticks", "stick")  # v, of all populations but the last
MEMBERSHIP = Site("membership", "neuron", "population")  # r
COPIED = {
    LOADINGS.name: Site("copied_loadings", "copy", "column", signed=True),
    OFFSET.name: Site("copied_offset", "copy"),
    NOISE.name: Site("copied_noise", "copy"),
    DISPERSION.name: Site("copied_dispersion", "copy"),
}  # of all neurons in the first population, then of all in the second, and so on
LEAST = 1e-6  # share of a stick, and of what is left of it

type Sites = Mapping[str, Any]


class Populations(Part, family="populations", tag="name", short=True):
    """Groups of neurons that read latents of their own."""

    are_known: bool = True

    def layout(self, layout: Layout) -> Layout:
        """Layout of the neurons as the readout has them, with populations in the place of regions."""
        raise NotImplementedError

    def copies(self, data: MultiRegionData) -> MultiRegionData:
        """Recording of the neurons as the readout has them."""
        raise NotImplementedError

    def membership(self, data: MultiRegionData) -> Membership:
        """Sample the populations of neurons; to be called inside a NumPyro program."""
        raise NotImplementedError

    @contextmanager
    def of_copies(self, membership: Membership) -> Iterator[None]:
        """Within it, sites of neurons are those of all their copies."""
        raise NotImplementedError

    def first_groups(self, layout: Layout, clusters: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        """Neurons of each population where a fit begins, as columns of the recording.

        ``clusters`` finds the cluster of each neuron among so many.
        """
        raise NotImplementedError

    def first_guess(self, members: list[np.ndarray], n_neurons: int) -> dict[str, np.ndarray]:
        """First guess of the sites of the populations themselves."""
        raise NotImplementedError

    def as_copies(self, sites: Sites) -> dict[str, Any]:
        """Name sites of neurons as the program does."""
        raise NotImplementedError

    def as_neurons(self, sites: Sites) -> dict[str, Any]:
        """Name sites of neurons as those of a recording of the copies are named."""
        raise NotImplementedError

    def updated(self, sites: Sites, scores: Array) -> dict[str, Array]:
        """Return the best sites of the populations themselves.

        ``scores`` are the log densities of the values and parameters of each copy, (copy,).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Known(Populations):
    """Populations that are the regions of the recording."""

    def layout(self, layout: Layout) -> Layout:
        return layout

    def copies(self, data: MultiRegionData) -> MultiRegionData:
        return data

    def membership(self, data: MultiRegionData) -> Membership:
        return Membership.known(data.values.shape[-1])

    @contextmanager
    def of_copies(self, membership: Membership) -> Iterator[None]:
        yield

    def first_groups(self, layout: Layout, clusters: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        return [np.flatnonzero(layout.region_of_neuron == region) for region in range(layout.n_regions)]

    def first_guess(self, members: list[np.ndarray], n_neurons: int) -> dict[str, np.ndarray]:
        return {}

    def as_copies(self, sites: Sites) -> dict[str, Any]:
        return dict(sites)

    def as_neurons(self, sites: Sites) -> dict[str, Any]:
        return dict(sites)

    def updated(self, sites: Sites, scores: Array) -> dict[str, Array]:
        return {}


@dataclass(frozen=True)
class Unknown(Populations):
    """Populations that are found: clusters of neurons that read the same latents.

    Args:
        most: Populations, at most; those that nothing asks for stay empty.
        concentration: alpha, from 1 on: the larger it is, the more populations there are a priori.
    """

    most: int = 6
    concentration: float = 1.0

    are_known = False
    short_forms: ClassVar[Mapping[str, str]] = {"most_populations": "most"}

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"Unknown: most counts populations, 1 or more, not {self.most}")
        if not 1 <= self.concentration < np.inf:
            raise ValueError(f"Unknown: concentration is a number from 1 on, not {self.concentration}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"population {k}" for k in range(self.most))

    def layout(self, layout: Layout) -> Layout:
        return replace(layout, regions=self.names, n_neurons=(layout.total_neurons,) * self.most)

    def copies(self, data: MultiRegionData) -> MultiRegionData:
        return repeated(data, self.names)

    def membership(self, data: MultiRegionData) -> Membership:
        sticks = STICKS.sample(dist.Beta(1.0, self.concentration).expand((self.most - 1,)).to_event(1))
        prior = Memberships(jnp.log(shares(sticks)), data.values.shape[-1])
        return Membership(MEMBERSHIP.sample(prior))

    @contextmanager
    def of_copies(self, membership: Membership) -> Iterator[None]:
        with _OfCopies(membership.weights):
            yield

    def first_groups(self, layout: Layout, clusters: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        cluster = clusters(self.most)
        return [np.flatnonzero(cluster == k) for k in range(self.most)]

    def first_guess(self, members: list[np.ndarray], n_neurons: int) -> dict[str, np.ndarray]:
        share = np.zeros((n_neurons, self.most))
        for k, own in enumerate(members):
            share[own, k] = 1.0
        return {MEMBERSHIP.name: share, STICKS.name: np.asarray(self.sticks(jnp.asarray(share)))}

    def as_copies(self, sites: Sites) -> dict[str, Any]:
        return {COPIED[name].name if name in COPIED else name: value for name, value in sites.items()}

    def as_neurons(self, sites: Sites) -> dict[str, Any]:
        names = {site.name: name for name, site in COPIED.items()}
        return {names.get(name, name): value for name, value in sites.items()}

    def updated(self, sites: Sites, scores: Array) -> dict[str, Array]:
        table = scores.reshape(self.most, -1).T + jnp.log(shares(sites[STICKS.name]))
        share = jax.nn.softmax(table, -1)
        return {MEMBERSHIP.name: share, STICKS.name: self.sticks(share)}

    def sticks(self, share: Array) -> Array:
        """Most likely sticks of probabilities (neuron, population)."""
        own = share.sum(0)
        later = jnp.cumsum(own[::-1])[::-1] - own + self.concentration - 1
        whole = (own + later)[:-1]
        sticks = jnp.where(whole > 0, own[:-1] / jnp.where(whole > 0, whole, 1.0), 0.0)
        return jnp.clip(sticks, LEAST, 1 - LEAST)


def shares(sticks: Array) -> Array:
    """Shares pi of all populations, of the sticks v of all but the last."""
    left = jnp.concatenate([jnp.ones(1), jnp.cumprod(1 - sticks)])
    return left * jnp.concatenate([sticks, jnp.ones(1)])


class Memberships(dist.Distribution):
    """Populations of neurons, drawn; and the density of their probabilities in a bound.

    The density of r is sum_nk r_nk (log pi_k - log r_nk), at most 0.

    Args:
        log_share: log pi, (population,).
        n_neurons: Neurons.
    """

    arg_constraints = {"log_share": dist.constraints.real_vector}  # noqa: RUF012  as its base class has it
    support = dist.constraints.independent(dist.constraints.simplex, 1)
    pytree_data_fields = ("log_share",)
    pytree_aux_fields = ("n_neurons",)

    def __init__(self, log_share: Array, n_neurons: int) -> None:
        self.log_share, self.n_neurons = log_share, n_neurons
        super().__init__((), (n_neurons, log_share.shape[-1]), validate_args=False)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        drawn = jax.random.categorical(key, self.log_share, shape=(*sample_shape, self.n_neurons))
        return jax.nn.one_hot(drawn, self.log_share.shape[-1])

    def log_prob(self, value: Array) -> Array:
        return (value * self.log_share - xlogy(value, value)).sum((-2, -1))


class _OfCopies(Messenger):
    """Give sites of neurons the names of copies, whose densities count by their weights (copy,)."""

    def __init__(self, weights: Array) -> None:
        self.weights = weights
        super().__init__()

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in COPIED:
            site = COPIED[msg["name"]]
            msg["name"], msg["infer"] = site.name, {**msg["infer"], "dims": site.dims}
            msg["scale"] = self.weights  # not by NumPyro's handler, which refuses weights of 0
