"""Loadings: few neurons read a signal."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpyro
import numpyro.distributions as dist

import mrgp
from mrgp.models import DLAG
from mrgp.parts.readout import LOADINGS


@dataclass(frozen=True)
class Sparse(mrgp.Loadings):
    """Most loadings are near zero, a few are large."""

    share: float = 0.1   # of the sd of the usual prior

    is_rotatable: ClassVar[bool] = False

    def sample(self, data, assignment, emission):
        scale = self.share * emission.loadings_scale(data)[:, None]
        with numpyro.plate("neuron", len(scale)):
            prior = dist.Laplace(0.0, scale).expand((len(scale), assignment.n_columns))
            loadings = LOADINGS.sample(prior.to_event(1))
        return emission.sample(data, assignment, loadings)


weights = np.tile([[1.0], [0.0]], (6, 1))   # every second neuron reads nothing
truth = {"delay": 0.02, "timescale_across": 0.1, "loadings": weights}
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
model = DLAG(1, 0, loadings=Sparse(), likelihood="dense")
made = mrgp.simulate(model, sites=truth, seed=0, **size)
read = np.abs(model.fit(made.data, n_starts=1, seed=0, progress=False).sites["loadings"])
assert np.median(read[1::2]) < 0.1 * np.median(read[::2])
