"""Sites: the parameters of models, with axes, units, and the latents that they belong to.

A part declares the sites that it samples, once, beside the code that samples them::

    DELAY = Site("delay", "later_region", "across_latent", unit="s")
    delay = DELAY.sample(dist.Uniform(-bound, bound).expand((n_regions - 1, n_across)).to_event(2))

All else that is asked about a parameter follows from that: names of axes, which entries move where latents change
places, whether they change sign with them, and which leave with a latent.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist  # as an attribute: ArviZ may have left a numpyro that loads lazily

from mrgp.parts.latents import LatentLayout

ACROSS = ("across_latent", "latent_after")  # axes of across latents; the second is the same latents a bin later
KINDS = ("across", "within")
UNITS = {"timescale": "s", "frequency": "Hz"}  # of parameters of kernels
LONG = 3.0  # stride of the few numbers of a latent: all trials tell them, and they have farther to go than a weight

SITES: dict[str, "Site"] = {}
"""Every site that was declared, by its name."""
HOMES: dict[str, str] = {}
"""Modules that declared them: a cell of a notebook that is run again may declare its site anew."""


@dataclass(frozen=True, init=False)
class Site:
    """One parameter of a model.

    Attributes:
        name: Of the sample site.
        dims: Names of its axes.
        unit: "s", "Hz", or "" for one of the recording's own, or none.
        signed: Whether it changes its sign with its latent.
        trait: Whether a latent is recognised by it where its loadings are not known.
        by_ratio: Whether two values of it are compared by their ratio, not by their difference.
        bounded_by: The choice of a model that widens the bounds of its prior; "" where none does.
        stride: How many times longer than a network's are its steps in a training by stochastic gradients, in
            unconstrained coordinates.
    """

    name: str
    dims: tuple[str, ...]
    unit: str
    signed: bool
    trait: bool
    by_ratio: bool
    bounded_by: str
    stride: float

    def __init__(
        self,
        name: str,
        *dims: str,
        unit: str = "",
        signed: bool = False,
        trait: bool = False,
        by_ratio: bool = False,
        bounded_by: str = "",
        stride: float = 1.0,
        declared: bool = True,
    ) -> None:
        given = {
            "name": name, "dims": dims, "unit": unit, "signed": signed, "trait": trait, "by_ratio": by_ratio,
            "bounded_by": bounded_by, "stride": stride,
        }  # fmt: skip
        for field, value in given.items():
            object.__setattr__(self, field, value)
        home, known = str(sys._getframe(1).f_globals.get("__name__")), SITES.get(name)
        if known == self or not declared:
            return
        if known is not None and HOMES[name] != home:
            raise ValueError(f"site {name!r} was declared with axes {SITES[name].dims}: declare {dims} by another name")
        SITES[name], HOMES[name] = self, home

    def sample(self, prior: dist.Distribution) -> Array:
        """Sample the site; to be called inside a NumPyro program."""
        return numpyro.sample(self.name, prior, infer={"dims": self.dims, "unit": self.unit})

    @property
    def is_of_neurons(self) -> bool:
        """True if every neuron has a value of its own."""
        return "neuron" in self.dims

    @property
    def is_of_latents(self) -> bool:
        """True if every latent has a value of its own."""
        return bool({*ACROSS, "within_latent", "column"} & {*self.dims})

    def axes_of_across(self) -> tuple[int, ...]:
        """Axes with across latents only, counted from the last axis."""
        return tuple(axis - len(self.dims) for axis, name in enumerate(self.dims) if name in ACROSS)

    def shape(self, assignment: LatentLayout) -> tuple[int | None, ...]:
        """Shape of the site, with None for an axis of any length."""
        sizes = {
            "neuron": sum(assignment.n_neurons),
            "region": assignment.n_regions,
            "later_region": assignment.n_regions - 1,
            "column": assignment.n_columns,
            "within_latent": sum(assignment.n_within),
            **dict.fromkeys(ACROSS, assignment.n_across),
        }
        return tuple(sizes.get(name) for name in self.dims)

    def keeping(self, value: Any, across: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Keep some across latents and some columns of loadings of a value, by index."""
        kept = np.asarray(value)
        for axis, name in enumerate(self.dims):
            if name in ACROSS or name == "column":
                kept = np.take(kept, columns if name == "column" else across, axis)
        return kept


def kernel_site(parameter: str, kind: str) -> Site:
    """Site of a kernel parameter, with one value for each latent of a kind.

    The kind is ``across`` or ``within``. Such sites are known by their names, and declared nowhere.
    """
    timed = parameter == "timescale"
    name, unit = f"{parameter}_{kind}", UNITS.get(parameter, "")
    bounds = "timescale_bounds" if timed else ""
    what: dict[str, Any] = {"trait": True, "by_ratio": timed, "bounded_by": bounds, "stride": LONG}
    return Site(name, f"{kind}_latent", unit=unit, **what, declared=False)


def site_of(name: str) -> Site | None:
    """Find the site of a name, declared or of a kernel parameter; None if there is none."""
    parameter, _, kind = name.rpartition("_")
    if name not in SITES and kind in KINDS:
        return kernel_site(parameter, kind)
    return SITES.get(name)


def of_neurons(names: Iterable[str]) -> set[str]:
    """Select the names of sites that have a value for every neuron."""
    return {name for name in names if name in SITES and SITES[name].is_of_neurons}


def keeping(sites: Mapping[str, Any], across: np.ndarray, columns: np.ndarray) -> dict[str, Any]:
    """Keep some across latents and some columns of loadings of all sites, by index."""
    known = {name: site_of(name) for name in sites}
    return {name: value if (site := known[name]) is None else site.keeping(value, across, columns)
            for name, value in sites.items()}  # fmt: skip
