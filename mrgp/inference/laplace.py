"""Method "laplace": the Gaussian that has the posterior's maximum and curvature there.

Delays come out as by sampling (on the benchmark of methods within 0.02 sd, their sd within 1%). Timescales can be off
where loadings are poorly known, since a maximum does not average over those: there by 0.6 sd, with the sd 3% low.
"""

from dataclasses import dataclass
from typing import Literal

import jax

from mrgp.data import MultiRegionData
from mrgp.inference.recipe import Model
from mrgp.inference.run import Options, Run, Start
from mrgp.inference.summit import summit
from mrgp.inference.whitened import Coordinates, Whitened


@dataclass(frozen=True)
class LaplaceSettings:
    """Settings of method "laplace".

    Attributes:
        n_draws: Draws kept with the fit.
        loadings: What becomes of loadings, noise and offsets. "following": they take their best values given delays
            and timescales, to first order. "included": they have a spread of their own besides; of thousands, all
            directions but the softest take the spread that their neuron's noise gives them.
    """

    n_draws: int = 1000
    loadings: Literal["following", "included"] = "following"

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ValueError("laplace: n_draws counts at least 1")
        if self.loadings not in ("following", "included"):
            raise ValueError(f"laplace: loadings are 'following' or 'included', not {self.loadings!r}")


def fit_laplace(model: Model, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    """The maximum, its curvature, and draws of the Gaussian."""
    settings: LaplaceSettings = options.settings
    top = summit(model, data, options, start)
    program = Whitened(top.program, following=settings.loadings == "following")
    coordinates = Coordinates.at(top.objective, top.curvature, program.following)
    center = program.center(coordinates)
    keys = jax.random.split(jax.random.key(options.seed), len(center))
    x = {
        name: jax.random.normal(key, (1, settings.n_draws, *zero.shape))
        for key, (name, zero) in zip(keys, center.items(), strict=True)
    }
    return top.finished("laplace", program, coordinates, x, sites=top.run.sites)
