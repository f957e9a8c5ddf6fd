"""Method "laplace": a Gaussian at the posterior's maximum, then draws of the posterior.

The Gaussian has the posterior's maximum and its curvature there. Of few or short trials a posterior is skewed, and the
Gaussian too narrow: on 15 trials of 15 bins the sds of loadings are 0.8 times those of NUTS, of timescales 0.9 times,
and means are off by half an sd. So draws only begin as those of the Gaussian: Hamiltonian moves carry them to the
posterior (see ``mode.moves``).
"""

from dataclasses import dataclass, replace
from typing import Literal

import jax

from mrgp.inference.method import Model, Options, Run, Start
from mrgp.inference.mode.coordinates import DYNAMICS, Coordinates, Whitened
from mrgp.inference.mode.mode import FEW, summit
from mrgp.inference.mode.moves import carried
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class LaplaceSettings:
    """Settings of method "laplace".

    Attributes:
        n_draws: Draws kept with the fit.
        loadings: What becomes of loadings, noise and offsets. "included": they are drawn together with delays and
            timescales, the full posterior. "following": delays and timescales are drawn from their own Gaussian, that
            of :meth:`mrgp.Fit.delay_intervals`, and the rest from its posterior given each of them. "profiled": they
            are not drawn but stay at the maximum, and only delays and timescales have draws, of that Gaussian; done in
            no time. In both, timescales miss what loadings leave room for: on 20 trials of 25 bins they were 0.3 to 0.6
            sds too short, and had 0.87 to 0.99 times the sd of NUTS, delays 0.96 to 1.03 times. None: included
            up to 400 parameters in all, then profiled; of counts, whose likelihood costs tens of times as much,
            profiled.
    """

    n_draws: int = 1000
    loadings: Literal["included", "following", "profiled"] | None = None

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ValueError("laplace: n_draws counts at least 1")
        if self.loadings not in (None, "included", "following", "profiled"):
            raise ValueError(
                f"laplace: loadings are 'included', 'following' or 'profiled', not {self.loadings!r}"
            )


def fit_laplace(model: Model, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    """Find the maximum and its curvature, and make draws."""
    settings: LaplaceSettings = options.settings
    top = summit(model, data, options, start)
    costly = top.objective.size > FEW or top.run.model.emission.is_of_counts
    loadings = settings.loadings or ("profiled" if costly else "included")
    program = Whitened(top.program, following=loadings == "profiled")
    coordinates = Coordinates.at(top.objective, top.curvature, program.following)
    center = program.center(coordinates)
    *keys, last = jax.random.split(jax.random.key(options.seed), len(center) + 1)
    x = {
        name: jax.random.normal(key, (1, settings.n_draws, *zero.shape))
        for key, (name, zero) in zip(keys, center.items(), strict=True)
    }
    if loadings == "profiled":
        return top.finished("laplace", program, coordinates, x, sites=top.run.sites)
    held = DYNAMICS if loadings == "following" else None
    drawn = carried(program, top.argument, coordinates, x, last, held=held, progress=options.progress)
    if drawn.settled:
        return top.finished("laplace", program, coordinates, drawn.x, sites=top.run.sites)
    doubt = top.unsettled(drawn.reason)
    warn(doubt)
    if DYNAMICS not in x:
        raise FloatingPointError(doubt)
    lean = replace(program, following=True)
    notes = (*top.run.notes, doubt)
    return top.finished("laplace", lean, coordinates, {DYNAMICS: x[DYNAMICS]}, sites=top.run.sites, notes=notes)
