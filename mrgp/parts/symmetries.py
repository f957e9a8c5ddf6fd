"""Order and sign of latents and origin of delays, settled before draws are averaged.

The likelihood cannot see them. The models say the same of any recording when

1. a latent changes its sign, and with it its column of the loadings;
2. across latents change places, or the within latents of one region do, with all that belongs to them;
3. the delays of a latent move by one shift in all regions: they are measured from the first region, or another one.

Latents that are white, and the states of an LDS, may be rotated besides: a rotation is not settled here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from mrgp.parts.delays.constant import DELAY
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import site_of

ROUNDS = 2  # the first may start from an odd draw, or from units that wrong pairs have blown up; the second does not
TIE = 0.01  # of a cosine: the most that timescales and delays count where loadings are drawn; enough between equals

Shape = tuple[int | None, ...]  # None on an axis of any length


class Fitted(Protocol):
    """Fit, as far as this module reads it."""

    @property
    def sites(self) -> Mapping[str, Any]: ...

    @property
    def assignment(self) -> LatentLayout: ...


class Kind(NamedTuple):
    """Group of latents that may change places, and the slices where they are found.

    They are ``across``, or ``within`` one region.

    Attributes:
        name: "across" or "within".
        size: How many they are.
        regions, neurons: That read them.
        columns: Theirs in the loadings.
        entries: Theirs in sites named ``*_<name>``.
    """

    name: str
    size: int
    regions: slice
    neurons: slice
    columns: slice
    entries: slice


class View(NamedTuple):
    """Loadings and traits by which latents of one kind are recognised.

    A reference has one draw.
    """

    loadings: Float[np.ndarray, "draw neuron latent"]
    traits: Float[np.ndarray, "draw trait latent"]


def align_draws(
    draws: Mapping[str, Any], assignment: LatentLayout, reference: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Give the latents of all draws the order and the signs of ``reference``.

    In every draw the across latents, and each region's within latents, are paired with those of the reference so that
    the absolute cosines between columns of loadings sum to the most. Timescales, other kernel parameters and delays
    decide only where cosines are within 0.01 of each other. Then a column whose inner product with its partner is
    negative changes its sign. With loadings integrated out, timescales (their logarithms), other kernel parameters
    and delays decide alone, by squared distances in units of their root mean square distance from the reference; a
    kind of latents of which nothing is drawn stays as it is.

    Draws made with loadings *held* at given values need no alignment: there every latent has its name, and to pair
    latents anew would only make delays and timescales look more certain than they are.

    Args:
        draws: Site -> array ``(..., *site)``, the leading axes the same for all: (draw,), (chain, draw), or none. Sites
            have the shapes that the models sample (``delay`` has no row for the first region); others pass through.
        assignment: Which neuron reads which latent (``fit.assignment`` or ``model.assignment(data.layout)``).
        reference: One value of some of these sites, such as ``fit.sites`` or :func:`sites_of_truth`; None for the
            last draw of the first chain, and after it the mean of the draws aligned to it.

    Raises:
        ValueError: a site has another shape than the assignment or the other sites ask for, or is not finite.
    """
    given = {name: np.asarray(value) for name, value in draws.items()}
    leading = _leading(given, assignment)
    count = int(np.prod(leading))
    flat = {name: value.reshape(count, *value.shape[len(leading) :]) for name, value in given.items()}
    names = [name for name in flat if reference is None or name in reference]
    target = None
    if reference is not None:
        target = {name: np.asarray(reference[name])[None] for name in names}
        for name, value in target.items():
            _check(f"{name} of the reference", value.shape[1:], (), _shape(name, assignment))
    aligned = {name: np.array(value) for name, value in flat.items()}
    start = slice(leading[-1] - 1, leading[-1]) if leading else slice(0, 1)
    for kind in _kinds(assignment):
        drawn = _view(flat, names, kind, count)
        if not any(part.shape[1] for part in drawn):
            continue
        first = View(*(part[start] for part in drawn)) if target is None else _view(target, names, kind, 1)
        order, signs = _pairing(drawn, first, refine=target is None)
        for name, value in aligned.items():
            for axis, index in _places(name, kind):
                value[index] = _arranged(value[index], order, signs if _is_signed(name) else None, axis)
    return {name: value.reshape(*leading, *value.shape[1:]) for name, value in aligned.items()}


def align_fits(fits: Sequence[Fitted], reference: int = 0) -> list[dict[str, np.ndarray]]:
    """Align the latents of several fits of one model with those of ``fits[reference]``.

    The fits may be from several seeds. Returns the sites of each.

    Raises:
        ValueError: the fits have other numbers of neurons or latents.
    """
    first = fits[reference]
    for i, fit in enumerate(fits):
        if fit.assignment != first.assignment:
            raise ValueError(f"fit {i} has {fit.assignment}, but fit {reference} has {first.assignment}")
    return [align_draws(fit.sites, fit.assignment, first.sites) for fit in fits]


def sites_of_truth(truth: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the truth of a simulation (``Simulation.truth``) as sites.

    They can be the reference of :func:`align_draws`: ``delay`` (region - 1, across_latent), the mean over time where
    delays vary; ``loadings``, ``offset``, and ``noise`` unless values are counts; ``timescale_across`` and
    ``timescale_within`` where the kernel has timescales.
    """
    delay = truth[DELAY.name]
    scales = {name: truth[name].values for name in ("timescale_across", "timescale_within")}
    sites = {site.name: truth[site.name].values for site in (LOADINGS, NOISE, OFFSET) if site.name in truth}
    delay = delay.mean("time") if "time" in delay.dims else delay
    return {**sites, DELAY.name: delay.values[1:], **{name: value for name, value in scales.items() if value.all()}}


def relative_to(delays: xr.DataArray, region: str) -> xr.DataArray:
    """Measure delays from ``region``, whose own delays are then 0.

    ``delays`` have a dimension "region", and those of ``region`` are subtracted from all.

    Raises:
        ValueError: there is no such region.
    """
    known = delays["region"].values.tolist()
    if region not in known:
        raise ValueError(f"{region!r} is no region: choose from {', '.join(map(str, known))}")
    return (delays - delays.sel(region=region, drop=True)).assign_attrs(delays.attrs)


# ---- what belongs to a latent ------------------------------------------------------------------------------------


def _kinds(assignment: LatentLayout) -> Iterator[Kind]:
    """Groups of exchangeable latents, without empty ones."""
    shared, everything = assignment.n_across, slice(None)
    if shared:
        yield Kind("across", shared, everything, everything, slice(0, shared), everything)
    neurons, entries = (np.cumsum([0, *sizes]) for sizes in (assignment.n_neurons, assignment.n_within))
    for r, width in enumerate(assignment.n_within):
        if width:
            rows, own = slice(neurons[r], neurons[r + 1]), slice(entries[r], entries[r + 1])
            yield Kind("within", width, slice(r, r + 1), rows, slice(shared, shared + width), own)


def _is_signed(name: str) -> bool:
    site = site_of(name)
    return site is not None and site.signed


def _places(name: str, kind: Kind) -> list[tuple[int, tuple[Any, ...]]]:
    """Axes of a site along which latents of this kind lie, each with the index of their part."""
    site = site_of(name)
    if site is None:
        return []
    if "column" in site.dims:
        return [(-1, (..., kind.neurons if site.is_of_neurons else kind.regions, kind.columns))]
    if kind.name == "within":
        return [(-1, (..., kind.entries))] if "within_latent" in site.dims else []
    return [(axis, (...,)) for axis in site.axes_of_across()]


def _shape(name: str, assignment: LatentLayout) -> Shape | None:
    """Shape of a site, or None if the site does not belong to latents."""
    site = site_of(name)
    return site.shape(assignment) if site is not None and site.is_of_latents else None


def _leading(draws: Mapping[str, np.ndarray], assignment: LatentLayout) -> tuple[int, ...]:
    """Check that all sites have equal leading axes of draws, and return their lengths."""
    shapes = {name: _shape(name, assignment) for name in draws}
    sizes = [draws[name].shape[: -len(shape)] for name, shape in shapes.items() if shape is not None]
    leading = sizes[0] if sizes else ()
    for name, value in draws.items():
        _check(name, value.shape, leading, shapes[name])
    return leading


def _check(name: str, found: tuple[int, ...], leading: tuple[int, ...], shape: Shape | None) -> None:
    own = found[len(leading) :]
    fits = shape is None or (len(own) == len(shape) and all(b in (a, None) for a, b in zip(own, shape, strict=True)))
    if found[: len(leading)] != leading or not fits:
        site = "" if shape is None else f" and the site's own {tuple('any' if n is None else n for n in shape)}"
        raise ValueError(f"site {name} has shape {found}: it should have the leading axes {leading}{site}")


# ---- which latent is which ---------------------------------------------------------------------------------------


def _view(sites: Mapping[str, np.ndarray], names: Sequence[str], kind: Kind, count: int) -> View:
    """Loadings and traits of one kind of latents, from the sites (draw, ...) that are named.

    Sites that are not named have no rows.
    """
    loadings, traits = np.zeros((count, 0, kind.size)), [np.zeros((count, 0, kind.size))]
    for name in names:
        for _, index in _places(name, kind):
            site, part = site_of(name), np.asarray(sites[name][index], float)
            if site == LOADINGS:
                loadings = part
            elif site is not None and site.trait:
                rows = part.reshape(count, int(np.prod(part.shape[1:-1])), part.shape[-1])
                traits.append(np.log(rows) if site.by_ratio else rows)
    return View(loadings, np.concatenate(traits, 1))


def _pairing(
    drawn: View, reference: View, refine: bool
) -> tuple[Int[np.ndarray, "draw latent"], Float[np.ndarray, "draw latent"]]:
    """Find order and signs of the latents of every draw.

    ``refine`` takes the mean of aligned draws as the next reference.
    """
    each, traits = np.eye(drawn.loadings.shape[2]), drawn.traits
    for _ in range(ROUNDS):
        cosine = _cosines(drawn.loadings, reference.loadings[0])
        distance = _distances(drawn.traits, reference.traits[0], traits)
        informed = drawn.loadings.shape[1] > 0
        order = _least(TIE * distance / (1 + distance) - np.abs(cosine) if informed else distance)
        signs = np.where(np.take_along_axis(cosine, order[:, :, None], 2)[..., 0] < 0, -1.0, 1.0)
        traits = _arranged(drawn.traits, order)
        if refine:
            turn = signs[:, :, None] * each[order]  # (draw, aligned, drawn): far faster than to move all loadings
            mean = np.tensordot(drawn.loadings, turn, ([0, 2], [0, 2])) / len(turn)
            reference = View(mean[None], traits.mean(0, keepdims=True))
    return order, signs


def _cosines(
    drawn: Float[np.ndarray, "draw neuron latent"], reference: Float[np.ndarray, "neuron latent"]
) -> Float[np.ndarray, "draw latent latent"]:
    """Cosines between each column of the reference and each one drawn; 0 if either is 0."""
    inner = np.swapaxes(np.tensordot(drawn, reference, (1, 0)), 1, 2)
    size = np.sqrt(np.einsum("dnk,dnk->dk", drawn, drawn))[:, None] * np.linalg.norm(reference, axis=0)[:, None]
    return inner / np.maximum(size, np.finfo(float).tiny)


def _distances(
    drawn: Float[np.ndarray, "draw trait latent"],
    reference: Float[np.ndarray, "trait latent"],
    paired: Float[np.ndarray, "draw trait latent"],
) -> Float[np.ndarray, "draw latent latent"]:
    """Squared distances between each latent of the reference and each one drawn.

    Each trait is in units of its root mean square distance between pairs.
    """
    usual = ((paired - reference) ** 2).mean((0, 2))
    apart = (drawn[:, :, None] - reference[:, :, None]) ** 2  # (draw, trait, reference, drawn)
    return np.einsum("dtij,t->dij", apart, 1 / np.where(usual > 0, usual, 1.0))


def _least(cost: Float[np.ndarray, "draw latent latent"]) -> Int[np.ndarray, "draw latent"]:
    """Find the order of least total cost for every draw.

    If every latent of the reference has another latent drawn as its cheapest, that is the answer; the others are asked
    for one by one.
    """
    if not np.isfinite(cost).all():
        raise ValueError("draws or the reference hold numbers that are not finite, or timescales that are not positive")
    order = cost.argmin(2)
    contested = (np.sort(order, 1) != np.arange(order.shape[1])).any(1)
    for i in np.flatnonzero(contested):
        order[i] = linear_sum_assignment(cost[i])[1]
    return order


def _arranged(values: np.ndarray, order: np.ndarray, signs: np.ndarray | None = None, axis: int = -1) -> np.ndarray:
    """Reorder the latents of values (draw, ...) along ``axis``, then apply their signs.

    Signs are (draw, latent).
    """
    shape = np.ones(values.ndim, int)
    shape[[0, axis]] = order.shape
    moved = np.take_along_axis(values, order.reshape(shape), axis)
    return moved if signs is None else moved * signs.reshape(shape)
