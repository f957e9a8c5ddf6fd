r"""A NumPyro program in coordinates where its posterior is nearly a standard normal.

With u the unconstrained sites, theta the few that describe latents (delays, kernel parameters) and c the many
(loadings, noise, offsets),

    theta = theta_0 + L x_theta,        c = c_0 + s (I + V diag(k) V') x_c + J (theta - theta_0),

where L L' is the covariance of theta with c profiled out, J how c follows theta, s about one posterior standard
deviation of c, and V the directions in which c is known less well than that, by 1 + k (see ``mode.curvature``).
Near the maximum x is uncorrelated and of unit size, so that samplers and variational guides have nothing left to learn
but what is not Gaussian.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers

from mrgp.inference.density import Sites, constrain, transforms_of
from mrgp.inference.mode.curvature import Curvature, product_on
from mrgp.inference.mode.krylov import softest
from mrgp.inference.optimise import Objective

DYNAMICS, REST = "standard_dynamics", "standard_rest"  # the sites of x_theta and x_c


MOST_STRETCHED = 1e3  # of s: loadings that nothing reads are known by their prior alone, hundreds of times less well
WIDEST = 3.0  # sd of an unconstrained coordinate of the dynamics: priors have at most 1.8, that of a delay


class Coordinates(NamedTuple):
    """Origin x = 0 and axes of the coordinates x.

    A pytree, so that equal shapes share what is compiled.

    Attributes:
        dynamics: theta_0, unconstrained, site by site.
        root: L, (parameter, parameter).
        rest: c_0, unconstrained, site by site.
        scale: s, of the shapes of ``rest``.
        soft: V, orthonormal directions of c / s that are known less well than s says, (entry of c, direction).
        stretch: Their posterior standard deviations less 1, (direction,).
        response: J, (parameter, ...) per site of ``rest``.
        frozen: Sites that stay as they are, constrained.
        volume: log |du / dx|, with which densities of x are those of u.
    """

    dynamics: Sites
    root: Array
    rest: Sites
    scale: Sites
    soft: Array
    stretch: Array
    response: Sites
    frozen: Sites
    volume: Array

    @classmethod
    def at(cls, objective: Objective, curvature: Curvature, following: bool = False) -> "Coordinates":
        """Make the coordinates around a maximum.

        With ``following`` the rest only follows, and its own spread is not computed.
        """
        known = {name: jnp.asarray(objective.origin[name]) for name in curvature.names}
        rest = {name: jnp.asarray(value) for name, value in objective.origin.items() if name not in known}
        response = {name: jnp.asarray(value) for name, value in (curvature.response or {}).items()}
        values, vectors = np.linalg.eigh(curvature.covariance)
        lengths = np.minimum(np.sqrt(values), WIDEST)
        root = jnp.asarray(vectors * lengths)
        size = sum(value.size for value in rest.values())
        product = product_on(objective, [name for name in objective.origin if name in rest])
        soft, directions = (np.ones(0), np.zeros((size, 0))) if following else softest(product, size)
        soft = np.maximum(soft, MOST_STRETCHED**-2)
        stretch = jnp.asarray(1 / np.sqrt(soft) - 1)
        scale = {name: objective.scale[name] for name in rest}
        volume = np.log(lengths).sum()
        if not following:
            volume += sum(np.log(value).sum() for value in scale.values()) - 0.5 * np.log(soft).sum()
        return cls(
            known, root, rest, scale, jnp.asarray(directions), stretch, response, objective.frozen, jnp.asarray(volume)
        )


@dataclass(frozen=True)
class Whitened:
    """``program`` with two latent sites that are nearly standard normal.

    They are :data:`DYNAMICS` and :data:`REST`.

    Args:
        program: A NumPyro program that takes ``data``.
        following: The rest follows the dynamics without a spread of its own: there is no site REST.
    """

    program: Callable[..., None]
    following: bool = False

    def __call__(self, data: Any, coordinates: Coordinates) -> None:
        x = {
            name: numpyro.sample(name, dist.Normal().expand(zero.shape).to_event(1).mask(False))  # flat
            for name, zero in self.center(coordinates).items()
        }
        sites, volume = self.sites(data, coordinates, x)
        numpyro.factor("volume", volume)
        handlers.condition(self.program, data={**coordinates.frozen, **sites})(data)

    def center(self, coordinates: Coordinates) -> Sites:
        """Return the origin x = 0, site by site."""
        x: Sites = {DYNAMICS: jnp.zeros(len(coordinates.root))} if coordinates.dynamics else {}
        if not self.following and coordinates.rest:
            x[REST] = jnp.zeros(len(coordinates.soft))
        if not x:
            raise ValueError("nothing is left to draw: what describes latents is fixed, and the rest follows")
        return x

    def sites(self, data: Any, coordinates: Coordinates, x: Mapping[str, Array]) -> tuple[Sites, Array]:
        """The constrained sites at x, and log |d sites / d x| there."""
        along = coordinates.root @ x[DYNAMICS] if DYNAMICS in x else jnp.zeros(len(coordinates.root))
        own = jnp.zeros(len(coordinates.soft))
        if REST in x:
            own = x[REST] + coordinates.soft @ (coordinates.stretch * (coordinates.soft.T @ x[REST]))
        free = {name: coordinates.dynamics[name] + part for name, part in _parts(coordinates.dynamics, along).items()}
        for name, part in _parts(coordinates.rest, own).items():
            followed = jnp.tensordot(along, coordinates.response[name], 1)
            free[name] = coordinates.rest[name] + coordinates.scale[name] * part + followed
        with handlers.block():  # asked for its sites, not run
            transforms = transforms_of(self.program, data, tuple(coordinates.frozen))
        sites = constrain(transforms, free)
        filled = [name for name in free if free[name].size]
        volume = sum(transforms[name].log_abs_det_jacobian(free[name], sites[name]).sum() for name in filled)
        return sites, coordinates.volume + volume

    def standard(self, data: Any, coordinates: Coordinates, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return x at draws of the sites, (draw, ...) each; the inverse of :meth:`sites`."""
        with handlers.block():
            transforms = transforms_of(self.program, data, tuple(coordinates.frozen))
        count = len(next(iter(sites.values())))

        def flat(like: Sites, free: Sites) -> Array:
            parts = [free[name].reshape(count, -1) for name in sorted(like)]
            return jnp.concatenate([jnp.zeros((count, 0)), *parts], 1)

        free = {name: transform.inv(jnp.asarray(sites[name])) for name, transform in transforms.items()}
        along = flat(coordinates.dynamics, {name: free[name] - at for name, at in coordinates.dynamics.items()})
        x: Sites = {}
        if coordinates.dynamics:
            x[DYNAMICS] = jnp.linalg.solve(coordinates.root, along.T).T
        if not self.following and coordinates.rest:
            own = flat(coordinates.rest, {
                name: (free[name] - at - jnp.tensordot(along, coordinates.response[name], 1)) / coordinates.scale[name]
                for name, at in coordinates.rest.items()
            })  # fmt: skip
            shrunk = coordinates.stretch / (1 + coordinates.stretch)
            x[REST] = own - (own @ coordinates.soft * shrunk) @ coordinates.soft.T
        return {name: np.asarray(value) for name, value in x.items()}

    def constrained(self, data: Any, coordinates: Coordinates, draws: Mapping[str, Array]) -> dict[str, np.ndarray]:
        """Constrained sites at draws of x with any leading axes, without frozen sites."""
        lead = next(iter(draws.values())).shape[:-1]
        flat = {name: jnp.reshape(value, (-1, value.shape[-1])) for name, value in draws.items()}
        sites = jax.lax.map(lambda x: self.sites(data, coordinates, x)[0], flat)
        return {name: np.asarray(value).reshape(*lead, *value.shape[1:]) for name, value in sites.items()}


def _parts(like: Sites, flat: Array) -> Sites:
    """Cut a flat vector into the shapes of ``like``, in the order of raveled trees."""
    edges = np.cumsum([0] + [like[name].size for name in sorted(like)])
    cuts = zip(sorted(like), edges[:-1], edges[1:], strict=True)
    return {name: flat[first:last].reshape(like[name].shape) for name, first, last in cuts}
