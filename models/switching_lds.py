r"""Recurrent switching linear dynamics of several populations.

.. math::
    p(z_t = j \mid z_{t-1} = i, x_{t-1}) \propto
        \exp(T_{ij} + [j \ne i] \sum_r R_{j,r}' x_{r,t-1} + [j = i] \sum_r S_{i,r}' x_{r,t-1}) \\
    x_{r,t} = \sum_s A_{z_t,rs}\, x_{s,t-1} + b_{z_t,r} + q_{r,t}, \qquad q_{r,t} \sim N(0, I) \\
    \eta_{r,t} = C_r x_{r,t} + d_r, \qquad y_{r,t} \sim p(y \mid \eta_{r,t})

Every population has latents of its own; while the state is z, population s drives r by the block A_{z,rs}. States are
sticky; R_{j,r} says how population r calls state j, S_{i,r} how it holds state i (Glaser, Whiteway, Cunningham,
Paninski & Linderman 2020, NeurIPS; Linderman et al. 2017, AISTATS). Latents are measured by their process noise.
"""

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.families.switching import Switching
from mrgp.parts.loadings import Weak
from mrgp.parts.switching import (
    DRIFT,
    ENTER,
    FIRST_MEAN,
    FIRST_STATE,
    FIRST_VARIANCE,
    LOGITS,
    MATRIX,
    STAY,
    SwitchingDynamics,
)
from mrgp.recordings.recording import MultiRegionData

MEMORY = 0.9  # from one bin to the next, a priori: latents of a bin's process noise last some ten bins
WITHIN, BETWEEN = 0.5, 0.2  # prior sd of entries of A: of a population's own, and of those by which others drive it
PUSHED = 1.0  # prior sd of drifts b, in sds of process noise
STICKY, UNSURE = 4.0, 2.0  # prior mean of logits on the diagonal, and their sd: dwell times of some 50 bins
LOUD, CALLS = 3.0, 2.0  # latents of sd 3, all together, move the logit of a switch by an sd of 2, a priori
FAR = 10.0  # prior sd of where latents begin, and scale of their variance there (squared), in sds of process noise
SEEN = 2.0  # concentration of p(z_1): as if every state had begun one trial


@final
@dataclass(frozen=True)
class SwitchingLDS(Switching):
    """Latents of several populations, whose linear dynamics switch with a hidden state.

    Fitted by variational expectation-maximization (:class:`mrgp.inference.variational_em.method.VariationalEM`) from
    ``n_starts`` starts, which often end far apart: see ``fit.start_heights``.

    Sample sites: ``state_matrix`` A, ``state_drift`` b, ``switch_logits`` T, ``enter_weights`` R, ``stay_weights`` S,
    ``first_state``, ``first_mean``, ``first_variance``, ``loadings`` C, and those of the emission. Of unknown
    populations ``membership``, ``population_sticks``, and ``copied_loadings`` and so on in the place of ``loadings``.

    Args:
        n_states: States.
        n_within: Latents of each region, one number for all or one per region.
        recurrent: Whether latents tell which state comes next; else R and S are 0, and switches are a sticky Markov
            chain.
        emission: An :class:`mrgp.Emission` or its name: "gaussian", or counts of one kind.
        populations: Groups of neurons that read latents of their own: the regions ("known"), or
            :class:`mrgp.parts.populations.Unknown` ("unknown"), where the fit finds them together with the states.
        most_populations: Short for ``most`` of unknown populations.
    """

    def __call__(self, data: MultiRegionData) -> None:
        K, latents = self.n_states, self.assignment(data.layout)
        D = sum(latents.n_within)
        own = latents.region_of_within[:, None] == latents.region_of_within
        typical = dist.Normal(MEMORY * jnp.eye(D), np.where(own, WITHIN, BETWEEN))
        A = MATRIX.sample(typical.expand((K, D, D)).to_event(3))
        b = DRIFT.sample(dist.Normal(0.0, PUSHED).expand((K, D)).to_event(2))
        T = LOGITS.sample(dist.Normal(self.typical_logits, UNSURE).to_event(2))
        R = S = jnp.zeros((K, D))
        if self.recurrent:
            weak = dist.Normal(0.0, CALLS / (LOUD * np.sqrt(D))).expand((K, D)).to_event(2)
            R, S = ENTER.sample(weak), STAY.sample(weak)
        first_state = FIRST_STATE.sample(dist.Dirichlet(jnp.full(K, SEEN)))
        first_mean = FIRST_MEAN.sample(dist.Normal(0.0, FAR).expand((D,)).to_event(1))
        first_variance = FIRST_VARIANCE.sample(dist.HalfNormal(FAR**2).expand((D,)).to_event(1))
        dynamics = SwitchingDynamics(A, b, T, R, S, first_state, first_mean, first_variance)
        membership = self.populations.membership(data)  # c, where it is not known
        with self.populations.of_copies(membership):
            readout = Weak().sample(self.populations.copies(data), latents, self.emission)  # C, d, the emission's own
        self.observe(data, dynamics, readout, membership)

    @property
    def typical_logits(self) -> Array:
        return jnp.asarray(STICKY * np.eye(self.n_states))
