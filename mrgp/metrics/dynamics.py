"""Learned dynamics of a fit: velocities in a plane, and fixed points with their stability.

They are of any model that gives its :class:`mrgp.parts.dynamics.Dynamics`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, lax
from numpy.typing import ArrayLike

from mrgp.parts.dynamics import Dynamics, Velocity
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit

MARGIN = 0.15  # of the range of states, by which the plane goes beyond them
STEPS = 200  # of a search for a fixed point: each from afar takes some twenty, along a slow valley many
DAMPING = 1e-2  # of the first step, relative to the curvature of |velocity|^2
AT_REST = 1e-4  # of the usual speed: below it a state does not move
SAME = 0.05  # of the radius of states: fixed points closer than this are one
STABILITY = ("stable", "saddle", "unstable")


class Visited(NamedTuple):
    """States that a fit has seen, and the dynamics there.

    Attributes:
        dynamics: Of the model.
        states: (trial, time, state), NaN after the end of a trial.
        cloud: Those that are not NaN, (point, state).
        center: Their mean, (state,).
        radius: Root mean square of their distances from it.
        speed: Root mean square of their velocities, per second.
    """

    dynamics: Dynamics
    states: np.ndarray
    cloud: np.ndarray
    center: np.ndarray
    radius: float
    speed: float


def flow_field(
    fit: Fit, data: MultiRegionData | None = None, *, states: ArrayLike | None = None, n_points: int = 21
) -> xr.Dataset:
    """Compute the velocities that a fit has learned, in the plane of two principal components.

    The plane goes through the mean of the states.

    Args:
        fit: Of a model with learned dynamics of two or more states.
        data: The recording whose states are looked at; None for the fit's own.
        states: States instead of the fit's latents, (trial, time, state).
        n_points: Points of the grid along each axis.

    Returns:
        ``velocity`` (second, first, component), per second, in the plane; ``speed`` (second, first), of the whole
        velocity; ``states`` (trial, time, component) in the plane; ``axes`` (component, state); ``center`` (state);
        ``share`` (component), of the variance of states. Coordinates ``first`` and ``second`` are in units of states.

    Raises:
        ValueError: the model has no dynamics, or of one state; or states are not of its size.
    """
    seen = _visited(fit, data, states)
    if seen.dynamics.n_states < 2:
        raise ValueError("dynamics of one state have no plane: look at their fixed points")
    if n_points < 2:
        raise ValueError(f"n_points is 2 or more, not {n_points}")
    _, spread, axes = np.linalg.svd(seen.cloud - seen.center, full_matrices=False)
    plane = (seen.states - seen.center) @ axes[:2].T
    low, high = np.nanmin(plane, (0, 1)), np.nanmax(plane, (0, 1))
    first, second = np.linspace(low - MARGIN * (high - low), high + MARGIN * (high - low), n_points).T
    grid = np.stack(np.meshgrid(first, second), -1)
    velocity = np.asarray(seen.dynamics.velocity(jnp.asarray(seen.center + grid.reshape(-1, 2) @ axes[:2])))
    shape, per_second = (n_points, n_points), {"units": "1/s"}
    return xr.Dataset(
        {
            "velocity": (("second", "first", "component"), (velocity @ axes[:2].T).reshape(*shape, 2), per_second),
            "speed": (("second", "first"), np.linalg.norm(velocity, axis=1).reshape(shape), per_second),
            "states": (("trial", "time", "component"), plane),
            "axes": (("component", "state"), axes[:2]),
            "center": (("state",), seen.center),
            "share": (("component",), (spread**2 / (spread**2).sum())[:2]),
        },
        {"first": first, "second": second},
    )


def fixed_points(
    fit: Fit,
    data: MultiRegionData | None = None,
    *,
    states: ArrayLike | None = None,
    n_starts: int = 100,
    reach: float = 0.5,
    seed: int = 0,
) -> xr.Dataset:
    """Find where the dynamics of a fit stand still, and what happens near there.

    The squared velocity is made small from many states (Sussillo & Barak 2013, Neural Comput. 25), by damped Newton
    steps. Where states rest along a line, the points are some of it. Growth and frequency are of the velocity's
    Jacobian, or of the step from bin to bin where the model takes such.

    Args:
        fit: Of a model with learned dynamics.
        data: The recording whose states are looked at; None for the fit's own.
        states: States instead of the fit's latents, (trial, time, state).
        n_starts: States to search from.
        reach: Farthest that a fixed point may be from all states, in radii of these (root mean square distance from
            their mean): where no data were, a network says nothing.
        seed: Of the choice of starts.

    Returns:
        Over ``fixed_point``, those reached from most starts first: ``place`` (fixed_point, state), ``speed`` per
        second, ``reached`` starts, ``stability`` ("stable", "saddle", "unstable"); over (fixed_point, mode), slowest
        decay first: ``growth`` of a small distance per second, ``timescale`` in seconds in which it changes by a
        factor e, ``frequency`` in Hz. ``radius`` and ``center`` (state) are of the states.

    Raises:
        ValueError: the model has no dynamics, or states are not of their size.
    """
    seen = _visited(fit, data, states)
    rng = np.random.default_rng(seed)
    starts = seen.cloud[rng.choice(len(seen.cloud), min(n_starts, len(seen.cloud)), replace=False)]
    ends = np.asarray(_searched(seen.dynamics.velocity, jnp.asarray(starts)))
    speeds = np.linalg.norm(np.asarray(seen.dynamics.velocity(jnp.asarray(ends))), axis=1)
    nearest = np.array([np.linalg.norm(seen.cloud - end, axis=1).min() for end in ends])
    kept = np.flatnonzero((speeds < AT_REST * seen.speed) & (nearest < reach * seen.radius))
    groups: list[list[int]] = []  # the first of each moves least
    for i in kept[np.argsort(speeds[kept], kind="stable")].tolist():
        home = next((g for g in groups if np.linalg.norm(ends[g[0]] - ends[i]) < SAME * seen.radius), None)
        if home is None:
            groups.append([i])
        else:
            home.append(i)
    groups.sort(key=len, reverse=True)
    points = ends[[group[0] for group in groups]].reshape(-1, seen.dynamics.n_states)
    growth, frequency = _modes(seen.dynamics, points)
    rises = (growth > 0).sum(1)
    kinds = [STABILITY[int(n > 0) + int(n == growth.shape[1])] for n in rises]
    per_mode = ("fixed_point", "mode")
    return xr.Dataset(
        {
            "place": (("fixed_point", "state"), points),
            "speed": (("fixed_point",), speeds[[group[0] for group in groups]], {"units": "1/s"}),
            "reached": (("fixed_point",), np.array([len(group) for group in groups], int)),
            "stability": (("fixed_point",), np.array(kinds, str)),
            "growth": (per_mode, growth, {"units": "1/s"}),
            "timescale": (per_mode, 1 / np.abs(growth), {"units": "s"}),
            "frequency": (per_mode, frequency, {"units": "Hz"}),
            "radius": ((), seen.radius),
            "center": (("state",), seen.center),
        },
        attrs={"n_starts": len(starts)},
    )


def _visited(fit: Fit, data: MultiRegionData | None, states: ArrayLike | None) -> Visited:
    dynamics = fit.model.learned_dynamics(fit.layout, fit.sites)
    if states is None:
        seen = fit.recording(data)
        lengths = np.full(seen.n_trials, seen.n_bins) if seen.length is None else seen.length
        lasts = np.arange(seen.n_bins) < lengths[:, None]
        posterior: Any = fit.conditional(seen)  # of a model with a guide: no other has learned dynamics
        own = np.where(lasts[..., None], posterior.of_sites(dynamics.site)[0][0], np.nan)
    else:
        own = np.asarray(states, float)
    if own.ndim != 3 or own.shape[2] != dynamics.n_states:
        wanted = f"(trial, time, {dynamics.n_states})"
        raise ValueError(f"states have shape {own.shape}, but the dynamics are of {wanted}: pass states= of that shape")
    cloud = own[np.isfinite(own).all(2)]
    center = cloud.mean(0)
    radius = float(np.sqrt(((cloud - center) ** 2).sum(1).mean()))
    speed = float(np.sqrt((np.asarray(dynamics.velocity(jnp.asarray(cloud))) ** 2).sum(1).mean()))
    return Visited(dynamics, own, cloud, center, radius, speed)


def _searched(velocity: Velocity, starts: Array) -> Array:
    """Make |velocity|^2 small from each start by Levenberg-Marquardt steps, (start, state)."""

    def one(z: Array) -> Array:
        return velocity(z[None])[0]

    def step(carried: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        z, damping = carried
        v, J = one(z), jax.jacfwd(one)(z)
        curvature = J.T @ J
        scale = damping * (jnp.trace(curvature) / len(z) + jnp.finfo(z.dtype).tiny)
        there = z - jnp.linalg.solve(curvature + scale * jnp.eye(len(z)), J.T @ v)
        lower = (one(there) ** 2).sum() < (v**2).sum()
        return (jnp.where(lower, there, z), jnp.where(lower, damping / 4, damping * 4)), None

    def search(z: Array) -> Array:
        return lax.scan(step, (z, jnp.asarray(DAMPING, z.dtype)), None, STEPS)[0][0]

    return jax.jit(jax.vmap(search))(starts)


def _modes(dynamics: Dynamics, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Growth per second and frequency in Hz of modes, (fixed_point, mode) each."""
    if not len(points):
        return np.empty(points.shape), np.empty(points.shape)
    jacobian = jax.vmap(jax.jacfwd(lambda z: dynamics.velocity(z[None])[0]))(jnp.asarray(points))
    values = np.linalg.eigvals(np.asarray(jacobian, float)).astype(complex)
    if dynamics.step is not None:
        values = np.log(1 + dynamics.step * values) / dynamics.step
    order = np.argsort(-values.real, axis=1, kind="stable")
    values = np.take_along_axis(values, order, 1)
    return values.real, np.abs(values.imag) / (2 * np.pi)
