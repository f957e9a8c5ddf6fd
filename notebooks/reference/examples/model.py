"""A model with a guide: trials that turn."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import mrgp


@dataclass(frozen=True)
class Turning(mrgp.Amortised):
    """Latents that turn around the origin, (trial, time, 2)."""

    def __call__(self, data):
        readout = self.emission_sites(data)
        speed = numpyro.param("speed", jnp.array(8.0))   # rad / s
        weights = numpyro.param("weights", lambda key: 0.3 * jax.random.normal(key, (2, data.layout.total_neurons)))
        with self.trials(data) as some:
            start = numpyro.sample("start", dist.Normal(jnp.zeros(2)).to_event(1))
            a, b, angle = start[:, :1], start[:, 1:], speed * jnp.asarray(data.times)
            x = jnp.stack([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], axis=-1)
            self.observe(some, x @ weights, readout, latents=x)

    def guide(self, data):
        n_inputs = data.n_bins * data.layout.total_neurons
        map_ = numpyro.param("map", lambda key: 0.01 * jax.random.normal(key, (n_inputs, 2)))
        sd = numpyro.param("sd", 0.5 * jnp.ones(2), constraint=dist.constraints.positive)
        with self.trials(data) as some:
            seen = self.shown(some)[0].reshape(-1, n_inputs)
            numpyro.sample("start", dist.Normal(seen @ map_, sd).to_event(1))


rng, times = np.random.default_rng(0), 0.02 * np.arange(25)
angle = rng.uniform(0, 2 * np.pi, (40, 1)) + 12 * times
circles = rng.uniform(0.7, 1.5, (40, 1, 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
values = circles @ rng.normal(size=(2, 16)) + rng.normal(size=(40, 25, 16))
data = mrgp.MultiRegionData({"V1": values[..., :8], "V2": values[..., 8:]}, bin_width=0.02)
settings = {"hidden_share": 0.0, "learning_rate": 0.02, "warm_up": 50, "max_iterations": 400}
fit = Turning().fit(data, seed=0, progress=False, **settings)
assert abs(float(fit.sites["speed"]) - 12) < 1   # rad / s
