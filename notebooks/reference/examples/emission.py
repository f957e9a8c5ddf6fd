"""An emission: sizes of events, such as deconvolved calcium signals."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import mrgp
from mrgp.models import DLAG
from mrgp.parts.emissions.base import Expected


@dataclass(frozen=True)
class Events(mrgp.Counts):
    """y ~ Gamma of mean exp(eta) and variance exp(2 eta) / shape."""

    shape: float = 4.0

    support: ClassVar = dist.constraints.nonnegative

    def check(self, data):
        if (np.asarray(data.values)[data.mask] <= 0).any():
            raise mrgp.DataError("events have positive sizes: leave out neurons with other values")

    check_values = check

    def expected(self, y, mean, variance):
        ratio = y * jnp.exp(variance / 2 - mean)
        return Expected(-self.shape * (mean + ratio), self.shape * (ratio - 1), self.shape * ratio)

    def normalizer(self, y):
        log_y = jnp.log(jnp.where(y > 0, y, 1.0))   # 0 stands where an entry is missing
        return self.shape * np.log(self.shape) + (self.shape - 1) * log_y - jax.scipy.special.gammaln(self.shape)

    def draw(self, key, eta):
        return jnp.exp(eta) * jax.random.gamma(key, self.shape, eta.shape) / self.shape

    def variance(self, rate, square):   # E exp(eta), E exp(2 eta)
        return square / self.shape


model = DLAG(1, 0, emission=Events(), likelihood="dense")
truth = {"delay": 0.02, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
made = mrgp.simulate(model, sites=truth, noise=0.5, seed=0, **size)
fit = model.fit(made.data, n_starts=1, seed=0, progress=False)
assert abs(float(fit.delays[1, 0]) - 0.02) < 0.01   # seconds
