"""Densities of models whose states may turn, with weights that hold them in place.

A rotation of the states of a region changes no density, so that the curvature at a maximum has directions without any,
and nothing that turns has a spread. Loadings are told best of all that turns: states are held by them (global states
by what they drive), by a penalty on their rotation against those at the maximum, so strong that what is left of it adds
nothing to any spread.

Draws that move need no more than that nothing turns far, and are turned back when they are there: they are held about
as well as neurons hold states that are known (:class:`AnchoredProgram`). The angle is measured in units of the weights
of each draw, so that the penalty takes the same share of all rotations, and favours no size of weights.

Of counts the bound is taken at the pseudo-observations that it has at the maximum
(:mod:`mrgp.likelihoods.surrogate`), as a Gaussian density of the same slopes: differences of slopes of the bound itself
hold what each search for q has left over.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints

from mrgp.inference.density import Density, LogJoint, Sites
from mrgp.inference.own_covariances import cheaper
from mrgp.inference.run import Model
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.layout import Layout

STIFF = 1e-3  # sd of the angle that is left, in radians
EXACT = 1e-5  # nats: where the search for the pseudo-observations ends


@dataclass(frozen=True)
class Turning:
    """Site whose columns belong to states that turn; static.

    Attributes:
        site: Its name; it has a row for each neuron, or for each state that is driven.
        group: Whose states a row reads, by number.
        sizes: States of each group, which are the first columns.
    """

    site: str
    group: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def anchor(self) -> str:
        """Name of the frozen site with what holds its states."""
        return f"anchor_of_{self.site}"

    @property
    def member(self) -> np.ndarray:
        """Membership of rows in groups, 0 or 1, (group, row)."""
        return 1.0 * (np.array(self.group) == np.arange(len(self.sizes))[:, None])

    def anchored(self, values: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Values over the noise of their rows, and values, (2, row, column).

        By them rotations are measured. Columns that are nobody's are 0.
        """
        used = np.arange(values.shape[1]) < np.array(self.sizes)[np.array(self.group, int)][:, None]
        kept = np.where(used, values, 0.0)
        return np.stack([kept / noise[:, None], kept])

    def inner(self, anchor: Array, values: Array) -> tuple[Array, Array]:
        """Products of the anchor with values, (group, column, column).

        With itself it has those of which the diagonal is the second result, (group, column).
        """
        weighted, center = anchor
        product = jnp.einsum("gn,ni,nj->gij", self.member, weighted, jnp.where(center == 0, 0.0, values))
        return product, jnp.einsum("gn,ni,ni->gi", self.member, weighted, center)


@dataclass(frozen=True)
class TurningStates:
    """States of a model that may turn without a change of its density; static.

    Attributes:
        turning: Sites that hold states in place.
        names: Sites that describe states, of which a posterior is asked.
    """

    turning: tuple[Turning, ...]
    names: tuple[str, ...]


type Aligning = Callable[[Mapping[str, Any], Layout, Mapping[str, Any]], dict[str, np.ndarray]]
"""Gives the latents of draws (..., *site) the order, signs or directions of a reference."""


@dataclass(frozen=True)
class Symmetry:
    """Changes of the latents of a model that its density cannot see.

    Attributes:
        aligned: Settles them in draws.
        turning: States that may turn, by the layout of a recording; None if none do, or nothing is asked of them.
    """

    aligned: Aligning
    turning: Callable[[Layout], TurningStates] | None = None


def anchors(turning: Collection[Turning], sites: Mapping[str, Any], noise: np.ndarray) -> dict[str, np.ndarray]:
    """Frozen sites that hold states where they are at ``sites``; ``noise`` is that of neurons."""
    found = {}
    for turn in turning:
        values = np.asarray(sites[turn.site])
        found[turn.anchor] = turn.anchored(values, noise if turn.site == LOADINGS.name else np.ones(len(values)))
    return found


@dataclass(frozen=True)
class Anchored(Density):
    """Density whose states are held in place.

    The frozen sites of :func:`anchors` have what is at the maximum.

    Attributes:
        density: Of a model whose states turn.
        turning: What holds them.
    """

    density: Density
    turning: tuple[Turning, ...]

    def __call__(self, sites: Sites, data: Any) -> Array:
        return self.density(self._without(sites), data) + self._held(sites)

    def transforms(self, data: Any, frozen: Collection[str]) -> dict[str, Any]:
        return self.density.transforms(data, frozen)

    def first_guess(self, sites: Sites, data: Any) -> Any:
        """Surrogate of a bound, which stands for it; None for a density that is no bound."""
        guess = self.density.first_guess(self._without(sites), data)
        return None if guess is None else self.density.surrogate(self._without(sites), data, guess, EXACT)

    def from_guess(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> tuple[Array, Any]:
        inside = self._without(sites)
        value = self.density(inside, data) if guess is None else self.density.near(inside, data, guess)
        return value + self._held(sites), guess

    def _held(self, sites: Sites) -> Array:
        """Penalty on rotations: C0' R^-1 C0 (I + W) has the skew part of the small rotation W."""
        penalty = jnp.zeros(())
        for turn in self.turning:
            inner, size = turn.inner(sites[turn.anchor], sites[turn.site])
            penalty = penalty - 0.25 * jnp.square(_angles(inner, size) / STIFF).sum()  # each pair is there twice
        return penalty

    def _without(self, sites: Sites) -> Sites:
        names = {turn.anchor for turn in self.turning}
        return {name: value for name, value in sites.items() if name not in names}


@dataclass(frozen=True)
class AnchoredProgram:
    """NumPyro program of a model whose states are kept from turning far.

    Attributes:
        program: Of the model.
        turning: What holds its states.
        likelihood: Of the model.
    """

    program: Callable[..., None]
    turning: tuple[Turning, ...]
    likelihood: Any

    is_state_space: ClassVar[bool] = True

    def __call__(self, data: Any) -> None:
        sites = handlers.trace(self.program).get_trace(data)
        bins = data.n_trials * data.n_bins
        for turn in self.turning:
            values = sites[turn.site]["value"]
            flat = dist.ImproperUniform(constraints.real, (), (2, *jnp.shape(values)))
            inner, size = turn.inner(numpyro.sample(turn.anchor, flat), values)
            told = bins * 0.5 * (size[:, :, None] + size[:, None])  # of the angle, were states known
            angle = _angles(inner, jnp.diagonal(inner, axis1=1, axis2=2))
            numpyro.factor(f"held_{turn.site}", -0.25 * (told * jnp.square(angle)).sum())


class Standing(NamedTuple):
    """Model around a maximum, with states that stay where they are.

    Attributes:
        density: For the curvature there.
        program: For draws.
        anchors: Frozen sites that both need beside those of the model.
        names: Sites that describe states, of which a posterior is asked; () if the model knows them.
    """

    density: Density
    program: Callable[..., None]
    anchors: dict[str, np.ndarray]
    names: tuple[str, ...]


def standing(model: Model, layout: Layout, sites: Mapping[str, Any]) -> Standing:
    """Hold the states of a model where they are at ``sites``, if they may turn.

    The curvature of a bound of counts is that of the cheapest bound that bends alike.
    """
    turning = model.symmetry.turning
    if turning is None:
        return Standing(LogJoint(model), model, {}, ())
    states: TurningStates = turning(layout)
    held = anchors(states.turning, sites, np.asarray(model.emission.noise_of(sites)))
    program = AnchoredProgram(model, states.turning, model.likelihood)
    return Standing(Anchored(LogJoint(cheaper(model)), states.turning), program, held, states.names)


def _angles(inner: Array, size: Array) -> Array:
    """Angle of each pair of columns, (group, column, column)."""
    both = size[:, :, None] + size[:, None]
    return (inner - jnp.swapaxes(inner, 1, 2)) / jnp.where(both > 0, both, 1.0)
