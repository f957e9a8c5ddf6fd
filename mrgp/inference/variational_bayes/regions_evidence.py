"""Likelihood of edges around the maximum of the bound of variational Bayes.

q takes states, dynamics and readouts for independent, and is too sure of each. The curvature of the bound in the means
of edges, the states integrated out and all other means profiled out, knows how these depend on each other (linear
response; Giordano, Broderick & Jordan 2018, J. Mach. Learn. Res. 19, 51). The log prior of a block in the bound is

    -(a + entries / 2) log(b + (|B|^2 + trace of its covariance) / 2),

that of a rate larger by half of the trace.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mrgp.inference.mode.anchored import Anchored, anchors
from mrgp.inference.mode.curvature import profile_curvature
from mrgp.inference.mode.edge_evidence import Relevance, Told, precision_of
from mrgp.inference.optimise import Objective
from mrgp.inference.run import Model
from mrgp.inference.variational_bayes.regions_bound import RegionsBound, RegionSetting, expectation
from mrgp.inference.variational_bayes.regions_rounds import first_setting
from mrgp.inference.variational_bayes.regions_updates import Known, updated
from mrgp.likelihoods.statespace.coupled import COUPLING
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.recording import MultiRegionData

ROUNDS = 5  # of updates that find the covariances of q from its means, by which they hardly change


def edges_in_bound(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], edges: Sequence[np.ndarray], prior: Relevance,
    progress: bool,
) -> Told:  # fmt: skip
    """Likelihood of the blocks of edges at the sites of a fit.

    Args:
        model: Of regions that drive each other, with a first state that is learned.
        data: The recording.
        sites: At which rounds have ended.
        edges: Entries of each edge, by index.
        prior: Of each block.
        progress: Show a progress bar.
    """
    bound = model.posterior_updates.bound(model, data.layout)
    known, setting = around(bound, data, sites)
    turning = model.symmetry.turning(data.layout).turning
    held = anchors(turning, known.sites, np.asarray(known.sites[NOISE.name]))
    objective = Objective(
        Anchored(bound, turning), setting, {**known.sites, **held}, model.fitting.scales(data, known.sites), tuple(held)
    )
    still = {LOADINGS.name: ~model.assignment(data.layout).used}
    size = sum(map(len, edges))
    curvature = profile_curvature(objective, [COUPLING.name], progress, still, most_solved=size)
    none = jnp.zeros((bound.prior.n_rows, bound.prior.size))
    wider = 0.5 * np.asarray(bound.prior.squares(none, known.covariances.transition))
    priors = [Relevance(prior.shape, prior.rate + more) for more in wider.tolist()]
    return Told.at_maximum(curvature.mean, precision_of(curvature, size), edges, priors)


def around(bound: RegionsBound, data: MultiRegionData, sites: Mapping[str, Any]) -> tuple[Known, RegionSetting]:
    """q and the setting of the bound at the means that a fit has kept."""
    found = {name: jnp.asarray(value) for name, value in sites.items()}
    setting = first_setting(bound, data, found)
    assignment = bound.model.assignment(data.layout)
    known = Known(found, setting.covariances)
    for _ in range(ROUNDS):
        known = updated(bound.prior, assignment, known.sites, setting, expectation(bound, known.sites, setting))
        setting = setting._replace(covariances=known.covariances)
    return known, setting
