"""Gaussian at the maximum for delays and kernel parameters: its intervals and draws.

It lives in the unconstrained coordinates of the sites that were inferred, everything else profiled out (see
``mode.curvature``). These functions are methods of :class:`mrgp.results.fit.Fit`, which documents them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.stats import norm

from mrgp.inference.density import LogJoint, prior_density, transforms_of
from mrgp.inference.mode.anchored import standing
from mrgp.inference.mode.coordinates import Coordinates, Whitened
from mrgp.inference.mode.curvature import Curvature, profile_curvature, vanished_noise
from mrgp.inference.mode.evidence import laplace_evidence
from mrgp.inference.mode.mode import unsettled
from mrgp.inference.mode.moves import carried
from mrgp.inference.optimise import Objective
from mrgp.inference.variational_bayes.bound import climbed
from mrgp.parts.delays.bounds import pressing
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.loadings import VANISHED, shared_variance
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.recording import MultiRegionData, stand_in

if TYPE_CHECKING:
    from mrgp.results.gaussian_process_fit import GaussianProcessFit

FAR_MOVES = 40  # at the most from one posterior to another: a trial that stands out may have moved it by many sds
UNIFORM_PRECISION = 3 / np.pi**2  # of a delay's unconstrained coordinate where nothing is known of it: a logistic


class Elsewhere(NamedTuple):
    """Curvature on a recording that the fit was not made from, at the fit's parameters."""

    data: MultiRegionData
    curvature: Curvature


def is_of_others(fit: "GaussianProcessFit", data: MultiRegionData | None) -> bool:
    """True if a recording is not the one that the fit was made from.

    Of a fit whose file does not name its trials, recordings are taken for its own.
    """
    if data is None or data is fit.data:
        return False
    seen = fit.has_seen(data)
    return seen is not None and not (seen.all() and len(seen) == len(fit.training_trials))


def require_own(fit: "GaussianProcessFit", data: MultiRegionData | None) -> None:
    """Refuse to ask draws of a posterior, which are given the fit's recording, of another one."""
    if is_of_others(fit, data):
        raise ValueError(
            f"draws of method {fit.method!r} are given the recording that it was fitted to: leave data out, or fit "
            "the other recording"
        )


def kept_curvature(
    fit: "GaussianProcessFit", data: MultiRegionData | None, progress: bool, follow: bool
) -> Curvature:
    """Curvature on the fit's own recording, or on another one, where it was not computed before.

    See :meth:`mrgp.results.gaussian_process_fit.GaussianProcessFit.curvature`.
    """
    if data is not None and fit.elsewhere is not None and data is fit.elsewhere.data:
        return fit.elsewhere.curvature
    if data is not None and is_of_others(fit, data):
        fit.elsewhere = Elsewhere(data, curvature_at(fit, fit.recording(data), progress))
        return fit.elsewhere.curvature
    known = fit.saved_curvature
    if known is None or (follow and known.response is None):
        known = fit.saved_curvature = curvature_at(fit, fit.recording(data), progress)
    return known


def curvature_at(fit: "GaussianProcessFit", data: MultiRegionData, progress: bool) -> Curvature:
    """Compute the curvature at the maximum over ``fit.uncertain_sites``.

    It is that of log p(y, parameters), or, after variational Bayes, of the bound with the means of loadings, noise and
    offsets profiled out.
    """
    scale, names = fit.model.fitting.scales(data, fit.sites), fit.uncertain_sites
    frozen = tuple(sorted({*fit.fixed, *fit.model.held}))
    if fit.loadings_covariance is None:
        objective = Objective(LogJoint(fit.model), data, fit.sites, scale, frozen)
        return profile_curvature(objective, names, progress, vanished_noise(fit.sites, data))
    objective = climbed(fit.model, data, fit.sites, fit.loadings_covariance, scale, frozen)
    share = shared_variance(fit.assignment, fit.sites[LOADINGS.name], fit.loadings_covariance)
    # Loadings that have vanished do not follow delays.
    unread = (share < VANISHED)[fit.assignment.region_of_neuron] | ~fit.assignment.used
    return profile_curvature(objective, names, progress, {LOADINGS.name: unread}, {DELAY.name: UNIFORM_PRECISION})


def delay_intervals(
    fit: "GaussianProcessFit", curvature: Curvature, probability: float, over_time: bool, reference: str
) -> xr.Dataset:
    """Build the Dataset of ``fit.delay_intervals``."""
    lean = delay_gaussian(fit, curvature, over_time, reference)
    z = norm.ppf(0.5 + probability / 2)
    bound, center, sd = lean.bound, lean.center, lean.sd
    names = {
        DELAY.name: bound * np.tanh(center),
        "lower": bound * np.tanh(center - z * sd),
        "upper": bound * np.tanh(center + z * sd),
        "sd": np.minimum(bound * (1 - np.tanh(center) ** 2) * sd, lean.widest),
    }
    return _table(fit, over_time, names, probability)


class DelayGaussian(NamedTuple):
    """Gaussians of artanh(delay / bound), with delays behind one region.

    ``center`` and ``sd`` have the shape of the delays.

    ``widest`` is the prior's standard deviation of a delay. ``sd`` is NaN where a delay presses against its bound.
    """

    center: np.ndarray
    sd: np.ndarray
    bound: float
    widest: float


def delay_gaussian(fit: "GaussianProcessFit", curvature: Curvature, over_time: bool, reference: str) -> DelayGaussian:
    """Find the Gaussians of the delays behind ``reference`` from the curvature."""
    widths = np.sqrt(np.diag(curvature.covariance))
    steps = np.concatenate([np.zeros((1, len(widths))), np.diag(1e-4 * widths), np.diag(-1e-4 * widths)])
    moved = {**fit.sites, **sites_from(fit, curvature, curvature.mean + steps)}
    tables = fit.model.tables.delays(moved, fit.layout, fit.n_bins)
    tables = np.broadcast_to(tables, (len(steps), *fit.delays.shape))
    if over_time and fit.delays_vary:
        tables = tables.mean(-1)
    bound = max(fit.model.delays.bound(fit.layout.bin_width), 1e-12)
    widest = bound / np.sqrt(3)
    at_bound = pressing(fit.model.delays, tables[0], fit.layout.bin_width)
    stuck = at_bound & (fit.has_delays and DELAY.name not in fit.fixed)
    if place := fit.populations.index(reference):
        tables = tables - tables[:, [place]]
        stuck = stuck | stuck[[place]]
        bound, widest = 2 * bound, np.sqrt(2) * widest
    ups, downs = np.split(np.arctanh(np.clip(tables[1:] / bound, -1 + 1e-15, 1 - 1e-15)), 2)
    slopes = np.moveaxis((ups - downs) / (2e-4 * widths.reshape(-1, *[1] * (tables.ndim - 1))), 0, -1)
    sd = np.sqrt(np.einsum("...i,ij,...j->...", slopes, curvature.covariance, slopes))
    # A delay that the bound stops is at no maximum, and the curvature there says nothing.
    return DelayGaussian(np.arctanh(tables[0] / bound), np.where(stuck, np.nan, sd), bound, widest)


def delay_quantiles(fit: "GaussianProcessFit", probability: float, over_time: bool, reference: str) -> xr.Dataset:
    """Build the Dataset of delay intervals from draws of the posterior.

    See :meth:`mrgp.results.gaussian_process_fit.GaussianProcessFit.delay_intervals`.
    """
    tables = delay_draws(fit, fit.draws(fit.n_samples), reference)
    if over_time and fit.delays_vary:
        tables = tables.mean(-1)
    lower, upper = np.quantile(tables, [0.5 - probability / 2, 0.5 + probability / 2], axis=0)
    names = {DELAY.name: tables.mean(0), "lower": lower, "upper": upper, "sd": tables.std(0, ddof=1)}
    return _table(fit, over_time, names, probability)


def delay_draws(fit: "GaussianProcessFit", drawn: Mapping[str, np.ndarray], reference: str) -> np.ndarray:
    """Delays behind ``reference`` in seconds, (draw, region, across_latent[, time]).

    ``drawn`` are draws of all sites.
    """
    tables = fit.model.tables.delays(drawn, fit.layout, fit.n_bins)
    place = fit.populations.index(reference)
    return tables - tables[:, [place]]


def _table(
    fit: "GaussianProcessFit", over_time: bool, names: Mapping[str, np.ndarray], probability: float
) -> xr.Dataset:
    shown = fit.delays.mean("time") if over_time and fit.delays_vary else fit.delays
    arrays = {name: (shown.dims, table) for name, table in names.items()}
    return xr.Dataset(arrays, shown.coords, {"units": "s", "probability": probability})


def thinned(fit: "GaussianProcessFit", n_draws: int) -> dict[str, np.ndarray]:
    """Select at most ``n_draws`` draws of a fit, evenly spaced, one chain after the other.

    Sites that were not drawn are repeated.
    """
    assert fit.samples is not None
    chosen = np.linspace(0, fit.n_samples - 1, min(n_draws, fit.n_samples)).round().astype(int)
    drawn = {name: value.reshape(-1, *value.shape[2:])[chosen] for name, value in fit.samples.items()}
    return drawn | _repeated(fit, drawn, len(chosen))


def _repeated(fit: "GaussianProcessFit", drawn: Mapping[str, np.ndarray], n_draws: int) -> dict[str, np.ndarray]:
    rest = {name: value for name, value in fit.sites.items() if name not in drawn}  # fixed, held, or relevance
    return {name: np.broadcast_to(value, (n_draws, *np.shape(value))) for name, value in rest.items()}


def log_evidence(fit: "GaussianProcessFit", data: MultiRegionData, progress: bool) -> tuple[float, float]:
    """Compute log p(y | model) in nats, and its standard error.

    See :meth:`mrgp.results.gaussian_process_fit.GaussianProcessFit.log_evidence`.
    """
    if not fit.model.tables.dynamics_sites(fit.layout):
        raise ValueError(f"{type(fit.model).__name__}'s latents are known up to a rotation: it has no single maximum")
    if not fit.method_class.ends_at_maximum:
        raise ValueError(f"the evidence is that of a maximum: fit with method 'map' or 'laplace', not {fit.method!r}")
    frozen = tuple(sorted({*fit.fixed, *fit.model.held}))
    objective = Objective(LogJoint(fit.model), data, fit.sites, fit.model.fitting.scales(data, fit.sites), frozen)
    value, error = laplace_evidence(objective, fit.curvature(data, progress), progress)
    given = prior_density(fit.model, data, fit.sites, frozen)
    modes = 0.0 if LOADINGS.name in fit.fixed else fit.assignment.log_symmetries
    return value - given + modes, error


def draws(fit: "GaussianProcessFit", curvature: Curvature, n_draws: int, seed: int) -> dict[str, np.ndarray]:
    """Draw from the Gaussian at the maximum; all sites, (draw, ...) each.

    See :meth:`mrgp.results.gaussian_process_fit.GaussianProcessFit.draws`; the curvature knows how the other sites
    respond.
    """
    rng = np.random.default_rng(seed)
    flat = np.zeros((n_draws, 0))
    if curvature.names:  # models of white latents have nothing to draw
        flat = rng.multivariate_normal(curvature.mean, curvature.covariance, n_draws, method="eigh")
    sites = sites_from(fit, curvature, flat)
    transforms = transforms_of(fit.model, stand_in(fit.layout), curvature.names)
    for name, response in (curvature.response or {}).items():
        center = np.asarray(transforms[name].inv(jnp.asarray(fit.sites[name])))
        moved = center + np.tensordot(flat - curvature.mean, response, 1)
        sites[name] = np.asarray(transforms[name](jnp.asarray(moved)))
    return sites | _repeated(fit, sites, n_draws)


def sites_from(fit: "GaussianProcessFit", curvature: Curvature, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Convert unconstrained vectors (draw, parameter) to constrained sites."""
    sites, first = {}, 0
    transforms = transforms_of(fit.model, stand_in(fit.layout), [n for n in fit.sites if n not in curvature.names])
    for name in curvature.names:
        shape = fit.sites[name].shape
        size = int(np.prod(shape))
        block = flat[:, first : first + size].reshape(-1, *shape)
        sites[name] = np.asarray(transforms[name](jnp.asarray(block)))
        first += size
    return sites


class Whole(NamedTuple):
    """Draws of everything that was inferred, in whitened coordinates.

    There the draws are nearly standard normal.

    Attributes:
        program, coordinates: See :class:`mrgp.inference.mode.coordinates.Whitened`.
        x: (draw, coordinate) per site of the program.
        known: Sites that are given.
    """

    program: Whitened
    coordinates: Coordinates
    x: dict[str, np.ndarray]
    known: dict[str, np.ndarray]

    def sites(self, data: MultiRegionData) -> dict[str, np.ndarray]:
        """All sites, (draw, ...) each."""
        x = {name: jnp.asarray(value) for name, value in self.x.items()}
        drawn = self.program.constrained(data, self.coordinates, x)
        count = len(next(iter(self.x.values())))
        return drawn | {name: np.broadcast_to(v, (count, *np.shape(v))) for name, v in self.known.items()}

    def carried_to(self, data: MultiRegionData, weights: np.ndarray, n_draws: int, seed: int) -> "Whole | None":
        """Move the draws to the posterior of another recording of the same neurons.

        None if they do not settle.

        They begin as draws of these, resampled by ``weights`` (draw,), the likelier the better.
        """
        pick_key, move_key = jax.random.split(jax.random.key(seed))
        chosen = jax.random.choice(pick_key, len(weights), (n_draws,), p=jnp.asarray(weights / weights.sum()))
        begin = {name: value[np.asarray(chosen)] for name, value in self.x.items()}
        moved = carried(self.program, data, self.coordinates, begin, move_key, most=FAR_MOVES)
        return self._replace(x=moved.x) if moved.settled else None


def around_maximum(
    fit: "GaussianProcessFit", data: MultiRegionData, progress: bool
) -> tuple[Whitened, Coordinates, dict[str, np.ndarray]]:
    """Coordinates in which the posterior is nearly a standard normal, and its program there.

    They are of everything that was inferred; the third result are the sites that are given.
    """
    frozen = tuple(sorted({*fit.fixed, *fit.model.held}))
    stands = standing(fit.model, fit.layout, fit.sites)
    sites, scales = {**fit.sites, **stands.anchors}, fit.model.fitting.scales(data, fit.sites)
    objective = Objective(stands.density, data, sites, scales, (*frozen, *stands.anchors))
    coordinates = Coordinates.at(objective, fit.curvature(data, progress, follow=True))
    return Whitened(stands.program), coordinates, {name: np.asarray(fit.sites[name]) for name in frozen}


def whole_posterior(fit: "GaussianProcessFit", data: MultiRegionData, n_draws: int, seed: int, progress: bool) -> Whole:
    """Draws of everything that was inferred.

    They are those of the fit if it has them; else they start from the Gaussian at the maximum.

    Raises:
        ValueError: they do not come to rest: a latent may be one too many.
    """
    program, coordinates, known = around_maximum(fit, data, progress)
    if fit.samples is not None and not fit.undrawn_sites:
        return Whole(program, coordinates, program.standard(data, coordinates, thinned(fit, n_draws)), known)
    *keys, last = jax.random.split(jax.random.key(seed), len(program.center(coordinates)) + 1)
    begin = {
        name: jax.random.normal(key, (n_draws, *zero.shape))
        for key, (name, zero) in zip(keys, program.center(coordinates).items(), strict=True)
    }
    drawn = carried(program, data, coordinates, begin, last, progress=progress)
    if not drawn.settled:
        raise ValueError(unsettled(fit.assignment, fit.sites, drawn.reason))
    return Whole(program, coordinates, drawn.x, known)
