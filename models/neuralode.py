r"""Neural ordinary differential equation: latents follow a flow that is learned.

.. math::
    z_b(0) \sim N(0, I), \qquad \tau \, \frac{dz_b}{dt} = f(z_b), \qquad \eta_b(t) = C z_b(t) + d, \qquad
    y_b(t) \sim p(y \mid \eta_b(t))

f is a network, the same in all trials; nothing but its start tells one trial from another. A guide reads the trial
forwards and backwards and infers the start. Bins may be at irregular times: the flow is integrated over the gaps that
there are (Chen et al. 2018, NeurIPS; Kim et al. 2021, ICML, with Poisson neurons).

Assumed are dynamics without inputs and without noise: a trial that is perturbed on its way is no trajectory of a flow.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from mrgp.families.amortised import Amortised
from mrgp.inference.amortised_parameters import unpacked
from mrgp.parts.drift import Drift, NoDrift
from mrgp.parts.dynamics import Dynamics, Velocity, integrated, steps_of
from mrgp.parts.emissions import Emission, Poisson
from mrgp.parts.networks import BothWays, gaussian, layers, network, single
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData, stand_in
from mrgp.recordings.units import positive_seconds

SHARE = 0.1  # of a trial, the timescale from which training begins: a field of size 1 then moves a state ten units


@final
@dataclass(frozen=True)
class NeuralODE(Amortised):
    """Latents that follow a learned flow from a start that is inferred.

    Args:
        n_latents: Latents, of all regions together.
        width: Units of each hidden layer of the field f.
        depth: Hidden layers of the field f.
        n_substeps: Runge-Kutta steps of a bin's width; more where the flow turns by a radian or more in a bin.
        timescale: tau in seconds, in which a state moves by f; None to learn it, from a tenth of a trial on.
        reader: States of each of the two recurrent networks of the guide.
        drift: "none", "slow" or a :class:`mrgp.SlowDrift`: what changes slowly from trial to trial of a session, and
            is in no trial's latents.
        emission: An :class:`mrgp.Emission` or its name.
    """

    n_latents: int = 3
    width: int = 64
    depth: int = 2
    n_substeps: int = 1
    timescale: float | None = None
    reader: int = 64
    _: KW_ONLY
    drift: Drift = NoDrift()  # noqa: RUF009  a frozen part
    emission: Emission = Poisson()  # noqa: RUF009  a frozen part

    knows_times: ClassVar[bool] = True
    has_dynamics: ClassVar[bool] = True
    first_horizon: ClassVar[float] = 0.2  # a long trajectory of a field that is still wrong leads nowhere

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_latents", "width", "depth", "n_substeps", "reader"):
            if getattr(self, name) < 1:
                raise ValueError(f"NeuralODE: {name} counts at least 1, not {getattr(self, name)}")
        if self.timescale is not None:
            object.__setattr__(self, "timescale", positive_seconds("NeuralODE: timescale", self.timescale))

    def __call__(self, data: MultiRegionData) -> None:
        readout, velocity = self.emission_sites(data), self._velocity(data)
        n_neurons, size = data.layout.total_neurons, self.n_latents
        C = network("readout", lambda key: layers().Linear(size, n_neurons, use_bias=False, key=key)).weight
        unit = self.unit(data)
        C, drift = C * unit.astype(C.dtype)[:, None], self.drift.sample(data, unit)
        with self.trials(data) as some:
            start = single(numpyro.sample("initial", dist.Normal(jnp.zeros(size), 1.0).to_event(1)))
            gaps = np.diff(data.times)
            z = integrated(velocity, start, gaps, steps_of(gaps, data.bin_width, self.n_substeps))
            self.observe(some, drift.added(z @ C.T, some), readout, latents=z)

    def guide(self, data: MultiRegionData) -> None:
        nn, size = layers(), self.reader
        n_read = 2 * data.layout.total_neurons + 1 + self.drift.n_told
        mixed = network("mixed", lambda key: nn.Linear(n_read, size, key=key))
        reader = network("reader", lambda key: BothWays.of(size, size, key))
        head = network("start", lambda key: nn.Linear(2 * size, 2 * self.n_latents, key=key))
        drift = self.drift.sample(data, self.unit(data))
        since = np.diff(data.times, prepend=data.times[0] - data.bin_width) / data.bin_width - 1.0  # 0 if regular
        with self.trials(data) as some:
            told = self.inputs(some)
            gaps = jnp.broadcast_to(jnp.asarray(since, told.dtype)[:, None], (*told.shape[:2], 1))
            read = jax.vmap(jax.vmap(mixed))(drift.beside(jnp.concatenate([told, gaps], -1), some))
            numpyro.sample("initial", gaussian(jax.vmap(head)(reader(read)[0])).to_event(1))

    def learned_dynamics(self, layout: Layout, sites: Mapping[str, Any]) -> Dynamics:
        frame = stand_in(layout)
        values = unpacked(self, frame, sites)
        with handlers.seed(rng_seed=0), handlers.substitute(data=values.all):
            velocity = self._velocity(frame)
        return Dynamics(velocity, self.n_latents)

    def _velocity(self, data: MultiRegionData) -> Velocity:
        """Change of states (point, latent) per second."""
        size = self.n_latents
        f = network("field", lambda key: layers().MLP(size, size, self.width, self.depth, jnp.tanh, key=key))
        if self.timescale is None:
            lasts = np.ptp(data.times) + data.bin_width
            rate = jnp.exp(-numpyro.param("log_timescale", jnp.log(jnp.float32(SHARE * lasts))))
        else:
            rate = jnp.float32(1 / self.timescale)
        return lambda z: rate * jax.vmap(f)(z)
