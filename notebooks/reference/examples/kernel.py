"""A kernel: signals with a rhythm."""

from dataclasses import dataclass

import jax.numpy as jnp

import mrgp
from mrgp.models import DLAG


@dataclass(frozen=True)
class Rhythm(mrgp.Kernel):
    """A band of frequencies: half a cycle per timescale, remembered for two."""

    def cov(self, tau):
        return jnp.exp(-(tau**2) / 8) * jnp.cos(jnp.pi * tau)


model = DLAG(1, 0, kernel=Rhythm(), likelihood="dense")   # or kernel="rhythm"
truth = {"delay": 0.02, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
made = mrgp.simulate(model, sites=truth, seed=0, **size)
fit = model.fit(made.data, n_starts=1, seed=0, progress=False)
assert abs(float(fit.delays[1, 0]) - 0.02) < 0.005   # seconds
assert abs(float(fit.timescales["across"][0]) - 0.1) < 0.02
