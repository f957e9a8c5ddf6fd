"""Delays: neighbours are close."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpyro.distributions as dist

import mrgp
from mrgp.models import DLAG
from mrgp.parts.delays.constant import DELAY, BoundedDelays


@dataclass(frozen=True)
class Neighbours(BoundedDelays):
    """Delays are normal around 0, within a bound."""

    longest: float | None = None
    hold: bool = False
    typical: float = 0.01   # s

    def sample(self, extent):
        bound = self.bound(extent.bin_width)
        prior = dist.TruncatedNormal(0.0, self.typical, low=-bound, high=bound)
        seconds = DELAY.sample(prior.expand(extent.lagging).to_event(2))
        return jnp.concatenate([jnp.zeros((1, extent.n_across)), seconds / extent.bin_width])[None]

    def dynamics(self, extent):
        return (DELAY.name,)

    def table(self, sites, extent):
        return self.level(sites)

    def scales(self, sites, extent, information):
        return {DELAY.name: self.scale_of_level(sites, extent, information)}


usual = DLAG(1, 0, likelihood="dense")
truth = {"delay": 0.01, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 8, "V2": 8}, "n_trials": 8, "n_bins": 25}
made = mrgp.simulate(usual, sites=truth, snr=0.2, seed=0, **size)
sd = {}
for name, model in {"uniform": usual, "neighbours": usual.replace(delays=Neighbours())}.items():
    fit = model.fit(made.data, n_starts=1, seed=0, progress=False)
    sd[name] = float(fit.delay_intervals(0.9)["sd"].sel(region="V2")[0])
assert sd["neighbours"] < sd["uniform"]   # what is known beforehand makes it surer
