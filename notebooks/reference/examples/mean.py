"""A mean: neurons follow a drifting grating."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import mrgp
from mrgp.models import DLAG


GRATING = mrgp.Site("grating", "neuron", "component")   # cosine and sine


@dataclass(frozen=True)
class Grating(mrgp.Mean):
    """Each neuron follows the grating's frequency, by a size and at a phase of its own."""

    frequency: float = 4.0   # Hz

    moves: ClassVar[bool] = True
    own_sites: ClassVar[tuple[str, ...]] = (GRATING.name,)

    def waves(self, data):
        angle = 2 * np.pi * self.frequency * np.asarray(data.times)
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)   # (time, component)

    def sample(self, data, emission, duration):
        size = jnp.tile(emission.usual_spread_of_mean(data)[:, None], 2)
        return (self.waves(data) @ GRATING.sample(dist.Normal(0.0, size).to_event(2)).T)[None]

    def course(self, sites, data, duration):
        return (self.waves(data) @ np.asarray(sites[GRATING.name]).T)[None]

    def first_guess(self, data, emission, duration):
        average = np.asarray(data.values).mean(0) - np.asarray(data.center)
        return {GRATING.name: np.linalg.lstsq(self.waves(data), average, rcond=None)[0].T}

    def scales(self, sites, data, noise, duration):
        return {GRATING.name: np.sqrt(2 * noise / (data.n_trials * data.n_bins))[:, None]}


model = DLAG(1, 0, mean=Grating(), likelihood="dense")
truth = {"delay": 0.02, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
made = mrgp.simulate(model, sites=truth, seed=0, **size)
fit = model.fit(made.data, n_starts=1, seed=0, progress=False)
sizes = [np.linalg.norm(values, axis=1) for values in (fit.sites["grating"], made.truth["grating"])]
assert np.corrcoef(*sizes)[0, 1] > 0.9   # of the neurons' responses
