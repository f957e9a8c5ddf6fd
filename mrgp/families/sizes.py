"""Size of a model: how many numbers a fit of it has to find."""

import numpy as np
from numpyro.distributions import biject_to

from mrgp.families.model import Model
from mrgp.inference.amortised_parameters import is_of_trials
from mrgp.inference.density import free_sites
from mrgp.parts.populations import COPIED
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import stand_in

SHORTEST = 8  # bins of a trial that a program is traced with; lags and registers fit into it


def groups(model: Model, layout: Layout) -> tuple[str, ...]:
    """Names of the groups of neurons that have latents of their own."""
    pooled = model.pools_regions and layout.n_regions > 1
    return ("all",) if pooled else model.populations.layout(layout).regions


def private_latents(model: Model, layout: Layout) -> tuple[int, ...]:
    """Numbers of private latents of each group of neurons; () where latents are of no region."""
    latents = model.assignment(layout)
    return () if latents is None else latents.n_within


def n_loadings(model: Model, layout: Layout) -> int:
    """Number of loadings: for every neuron the latents that it reads.

    It is 0 where latents are of no region.
    """
    latents = model.assignment(layout)
    return 0 if latents is None else int(latents.used.sum())


def n_parameters(model: Model, layout: Layout, n_bins: int = SHORTEST) -> int:
    """Number of free parameters: coordinates of all sites, and loadings that are used.

    Neither latents of trials nor weights of networks are counted. Courses over a trial have the more coordinates the
    longer it is: ``n_bins`` are those of the longest trial.

    Raises:
        ValueError: the model does not suit the layout.
    """
    data = stand_in(layout, 1, n_bins)
    sites = free_sites(model.prepared(data), data)
    padded = {LOADINGS.name, COPIED[LOADINGS.name].name}  # with columns that some neurons do not use
    others = [site["fn"] for name, site in sites.items() if name not in padded and not is_of_trials(site)]
    free = (np.prod(biject_to(law.support).inverse_shape(law.shape())) for law in others)
    return int(sum(free)) + n_loadings(model, layout)
