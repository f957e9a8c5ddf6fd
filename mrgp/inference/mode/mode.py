"""Maximum and curvature, from which methods that give a whole posterior begin.

The curvature says how log p(y, parameters) falls off around the maximum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrgp.inference.adaptation import frozen_sites
from mrgp.inference.density import LogJoint, constrain, unconstrain
from mrgp.inference.driver import Driver, drive
from mrgp.inference.map import MAP
from mrgp.inference.mode.anchored import standing
from mrgp.inference.mode.coordinates import Coordinates, Whitened
from mrgp.inference.mode.curvature import MOST_SOLVED, Curvature, profile_curvature, vanished_noise
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.mode.moves import MOST_MOVES
from mrgp.inference.optimise import Objective
from mrgp.inference.run import Model, Run, State
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import shared_variance
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.recording import MultiRegionData

FEW = 400  # parameters that are all drawn unless the user says otherwise
ENOUGH_TO_RANK = 2000  # draws in a calibration, where the prior's bound cuts most of them off

HEAVY_TAILED = 32  # moves, where priors have a peak at 0 and heavy tails, as those of edges

FARTHEST = 8.0  # standard deviations that a delay may move before windows around the maximum lose sight of it


@dataclass
class Mode:
    """A maximum of a NumPyro program's log density, and its curvature.

    Attributes:
        run: The climb.
        data: The recording.
        program: What is to be drawn from, of ``argument``.
        argument: The recording, or what a reduced program knows of it.
        objective: The negative log density around the maximum.
        curvature: Of delays and kernel parameters.
        most_moves: Of each draw, until it has to have settled.
        instead: Setting to take where draws do not settle.
    """

    run: Run[Model]
    data: MultiRegionData
    program: Any
    argument: Any
    objective: Objective
    curvature: Curvature
    most_moves: int = MOST_MOVES
    instead: str = "method='nuts'"

    def reduced(self, progress: bool) -> "Mode":
        """Return the mode with loadings, noise and offsets held at the maximum."""
        sites = self.run.sites
        model = self.run.model.fitting.narrowed(self.data, sites, self.delay_reach())
        names = [name for name in self.objective.origin if name in model.tables.dynamics_sites(self.data.layout)]
        given = Given.of(model, self.data, sites, tuple(names))
        program, few = Reduced(model), {name: sites[name] for name in names}
        objective = Objective(LogJoint(program), given, few, model.fitting.scales(self.data, sites))
        curvature = profile_curvature(objective, names, progress)
        return replace(self, program=program, argument=given, objective=objective, curvature=curvature)

    def delay_reach(self) -> float:
        """Distance in seconds that the least known delay may move from the maximum."""
        if DELAY.name not in self.curvature.names:
            return 0.0
        transform, sites = self.objective.transforms[DELAY.name], self.run.sites
        place = np.concatenate([np.full(np.size(sites[n]), n == DELAY.name) for n in self.curvature.names])
        sd = np.sqrt(np.diag(self.curvature.covariance))[place].reshape(np.shape(sites[DELAY.name]))
        center = transform.inv(sites[DELAY.name])
        ends = np.asarray(transform(center + FARTHEST * np.array([-1.0, 1.0])[:, None, None] * sd))
        return float(np.abs(ends - np.asarray(sites[DELAY.name])).max())

    def unsettled(self, why: str) -> str:
        """Warning about draws that have not settled, in one sentence."""
        return unsettled(self.run.model.assignment(self.data.layout), self.run.sites, why, self.instead)

    def finished(
        self, method: str, program: Whitened, coordinates: Coordinates, x: Mapping[str, Any], **more: Any
    ) -> Run:
        """Finish the run with draws x, (chain, draw, ...) each.

        Sites are the mean of the draws where they are unconstrained, those that were not drawn, or only follow, stay at
        the maximum.
        """
        model, layout = self.run.model, self.data.layout
        samples = program.constrained(self.argument, coordinates, x)
        if program.following:
            samples = {name: value for name, value in samples.items() if name in coordinates.dynamics}
        if LOADINGS.name in samples:
            samples = model.symmetry.aligned(samples, layout, self.run.sites)
        transforms = {name: self.objective.transforms[name] for name in samples}
        means = {name: value.mean((0, 1)) for name, value in unconstrain(transforms, samples).items()}
        center = {name: np.asarray(value) for name, value in constrain(transforms, means).items()}
        found = {"method": method, "sites": {**self.run.sites, **center}, "samples": samples}
        return replace(self.run, **{**found, "saved_curvature": self.curvature, **more})


@dataclass(kw_only=True)
class Posterior(State[Model]):
    """State of a method that draws from the posterior around a maximum.

    Attributes:
        top: The maximum.
        program, coordinates: What the draws are of (see ``mode.coordinates``).
        x: The draws, (chain, draw, ...) each.
    """

    top: Mode
    program: Whitened
    coordinates: Coordinates
    x: dict[str, Any]


def mode_of(driver: Driver) -> Mode:
    """Run method "map", then compute the curvature at its end.

    The run's checkpoint keeps the maximum until the posterior is there.
    """
    data, options = driver.data, driver.options
    run = drive(MAP(), driver.model, data, options, driver.start).raise_if_interrupted()
    driver.has_said(run)
    driver.store.write(run.model, run.sites, "posterior", force=True)
    model, frozen = run.model, frozen_sites(run.model, options)
    stands = standing(model, data.layout, run.sites)
    sites, scales = {**run.sites, **stands.anchors}, model.fitting.scales(data, run.sites)
    objective = Objective(stands.density, data, sites, scales, (*frozen, *stands.anchors))
    asked = stands.names or model.tables.dynamics_sites(data.layout)
    names = [name for name in asked if name in objective.origin]
    most = max(MOST_SOLVED, int(objective.marks(stands.names).sum()))
    still = vanished_noise(run.sites, data)
    curvature = profile_curvature(objective, names, options.progress, still, most_solved=most)
    top = Mode(run, data, stands.program, data, objective, curvature)
    return replace(top, most_moves=HEAVY_TAILED, instead="loadings='profiled'") if stands.names else top


def unsettled(
    assignment: LatentLayout, sites: Mapping[str, Any], why: str, instead: str = "method='nuts'"
) -> str:
    """Warning about draws at ``sites`` that have not settled.

    It says why, which latent may be the reason, and what to do.
    """
    share = shared_variance(assignment, np.asarray(sites[LOADINGS.name]), None)
    across = {("n_across", f"across {k}"): share[:, k].max() for k in range(assignment.n_across)}
    within = {
        ("n_within", f"within {j} of region {r}"): share[r, assignment.n_across + j]
        for r, width in enumerate(assignment.n_within) for j in range(width)
    }  # fmt: skip
    latents = across | within
    argument, name = min(latents, key=lambda latent: latents[latent])
    remedy = "fit one latent fewer"
    if len(latents) > 1:
        remedy += f" ({argument}: latent {name} explains {100 * latents[argument, name]:.1f}% at the most)"
    return (
        f"draws of all parameters have not settled ({why}), and those of loadings, noise and offsets are not kept: "
        f"{remedy}, or take {instead}"
    )
