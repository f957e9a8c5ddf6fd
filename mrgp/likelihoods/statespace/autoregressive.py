r"""Vector autoregressive lift: all delayed copies of a latent are in the state.

ADM introduced this lift (Li et al. 2025, ICML).

A latent read by R regions is the joint process x(t) = [g(t - delay_1), .., g(t - delay_R)], represented by its best
linear prediction from ``order`` past bins (Yule-Walker),

    x(t+1) = Phi [x(t), .., x(t - order + 1)] + q,      Phi = Gamma G^-1,      Q = k(0) - Phi Gamma',

with the true stationary start and noise-free shifts. It needs only k(tau), so any kernel has it, at the price of a
state that grows with the number of regions; it is here to be compared with the readout lift, which is the default.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.assemble import Latents, Prior, SignalReader, join_diagonal, laid_out
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.kernels import Hyperparameters
from mrgp.runtime.sentences import READOUT, Refusal

MEMORY_NOISE = 1e-7  # variance added to remembered copies where the prediction inverts them: equal delays are copies


@dataclass(frozen=True)
class AutoregressiveSpace:
    """State space of a prior as a vector autoregression over ``order`` bins; static."""

    prior: Prior
    order: int

    is_stationary: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    kinds: ClassVar[tuple[Alike, ...]] = ()
    is_standard: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"an autoregressive lift remembers at least 1 bin, not {self.order}")

    @property
    def window(self) -> Window:
        """One bin per step, no registers."""
        return Window(0)

    @property
    def n_states(self) -> int:
        assignment = self.prior.assignment
        return self.order * (assignment.n_across * assignment.n_regions + sum(assignment.n_within))

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics and the readout of the model.

        See :meth:`mrgp.likelihoods.statespace.assemble.StateSpace.assemble`.
        """
        if latents.delay.shape[0] != 1:
            raise Refusal("the autoregressive lift needs delays that are constant in time: use ", READOUT)
        assignment, order, eps = self.prior.assignment, self.order, self.prior.gp_noise
        regions, across, within = assignment.n_regions, assignment.n_across, sum(assignment.n_within)
        blocks_across = self._blocks(latents.across, latents.delay[0])
        blocks_within = self._blocks(latents.within, jnp.zeros((1, within)))
        transition, noise, stationary = map(laid_out, blocks_across, blocks_within)
        dynamics = Dynamics(transition, noise, stationary)
        now_across = np.einsum("rn,kl->rkln", np.eye(regions, order * regions), np.eye(across))
        now_within = np.einsum("n,jl->jln", np.eye(1, order)[0], np.eye(within))
        weights = join_diagonal(
            jnp.asarray(now_across.reshape(regions * across, across * order * regions)),
            jnp.asarray(now_within.reshape(within, within * order)),
        )
        missed = jnp.full(assignment.n_readouts, eps)
        return dynamics, StateReadout(np.sqrt(1 - eps) * weights[None], missed[None])

    def for_reading(self) -> "AutoregressiveSpace":
        """Refuse: the state knows only one side of a point between bins."""
        raise Refusal("the autoregressive lift gives latents at the bins only: use refine=1, or ", READOUT)

    def _covariance(self, hyper: Hyperparameters, clock: Array, other: Array) -> Array:
        """k between two sets of times, (latent, point, other_point).

        These are ``clock`` (point, latent) and ``other`` (other_point, latent).
        """
        return jnp.moveaxis(self.prior.kernel.correlation(clock[:, None] - other, hyper), -1, 0)

    def _clock(self, delay: Array) -> Array:
        """Latent times of the state's entries, newest bin first, (order * region, latent)."""
        past = -jnp.arange(self.order, dtype=delay.dtype)[:, None, None] - delay
        return past.reshape(self.order * delay.shape[0], delay.shape[1])

    def _blocks(self, hyper: Hyperparameters, delay: Array) -> tuple[Array, Array, Array]:
        regions, latents = delay.shape
        clock = self._clock(delay)
        stationary = self._covariance(hyper, clock, clock)
        ahead = self._covariance(hyper, 1 - delay, clock)  # cov(x(t+1), state)
        size = clock.shape[0]
        ridge = MEMORY_NOISE * jnp.eye(size, dtype=delay.dtype)
        predict = jnp.swapaxes(cho_solve(cho_factor(stationary + ridge), jnp.swapaxes(ahead, -1, -2)), -1, -2)
        innovation = stationary[:, :regions, :regions] - predict @ jnp.swapaxes(ahead, -1, -2)
        shift = jnp.broadcast_to(jnp.eye(size - regions, size, dtype=delay.dtype), (latents, size - regions, size))
        pad = size - regions
        process = jnp.pad(0.5 * (innovation + jnp.swapaxes(innovation, -1, -2)), [(0, 0), (0, pad), (0, pad)])
        return jnp.concatenate([predict, shift], axis=1), process, stationary

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the latents of one kind from the state, ``refine`` points per bin."""
        assignment = self.prior.assignment
        across = assignment.n_regions * self.order
        if kind == "across":
            hyper, delay, first = latents.across, latents.delay[0], 0
        else:
            hyper, first = latents.within, across * assignment.n_across
            delay = jnp.zeros((1, sum(assignment.n_within)))
        clock = self._clock(delay)
        after = jnp.broadcast_to((jnp.arange(refine) / refine)[:, None], (refine, delay.shape[1]))
        k = self._covariance(hyper, after, clock)  # (latent, point, state)
        G = self._covariance(hyper, clock, clock)
        factor = cho_factor(G + MEMORY_NOISE * jnp.eye(G.shape[-1], dtype=G.dtype))
        weights = jnp.swapaxes(cho_solve(factor, jnp.swapaxes(k, -1, -2)), -1, -2)
        missed = 1 - jnp.einsum("kpi,kpi->kp", weights, 2 * k - weights @ G)
        return SignalReader(jnp.swapaxes(weights, 0, 1), jnp.maximum(missed.T, 0.0), first)
