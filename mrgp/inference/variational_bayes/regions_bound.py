r"""Bound of variational Bayes for coupled regions whose first state is learned.

The posterior over states s, the transition F (A_r, B_rs, D_r, G) with the precisions alpha of its edges, loadings c and
offset d of each neuron, and noise R is approximated by

    q(s) q(F) q(alpha) q(c, d) q(R),        rows of F and each (c_n, d_n) Gaussian, alpha Gamma,

q(R) being free (see ``noise_law``), with the priors of the program: alpha, which that has integrated out, is Gamma(a,
b). The mean m0 and the root S of the first state are points, whose log prior is added, as delays are in mDLAG. q(s) is
optimal and integrated out. Its contribution is the normalizer of a Kalman filter that moves by E[F], and to which bins
say, beside what neurons do,

    - s_t' V s_t / 2,        V = sum of the covariances of the rows of F,

wherever another bin follows within the trial. With phi = E[1/R], what neurons say of s_t is

    b_t = sum_n phi_n (E[c_n] (y_nt - E[d_n]) - cov(c_n, d_n)),    Lambda_t = sum_n phi_n (E[c_n] E[c_n]' + cov(c_n)).

All together, with N_n the observed bins of a neuron and S_n the coordinate of its q(R), q(R) ~ p(R) R^(-N/2)
exp(-S / 2R) / Z(S),

    F = log Z_states - 1/2 sum_n phi_n sum_t [(y_nt - E[d_n])^2 + var(d_n)] + sum_n [log Z(S_n) + S_n phi_n / 2]
        - sum_n N_n log(2 pi) / 2 - KL(q(F), q(alpha)) - KL(q(c, d)) + log p(m0, S).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln

from mrgp.inference.density import Density, Sites, transforms_of
from mrgp.inference.expectation_maximization.moments import Moments, moments_of
from mrgp.inference.expectation_maximization.readouts import Scales
from mrgp.inference.run import Model
from mrgp.inference.variational_bayes.noise_law import noise_law
from mrgp.inference.variational_bayes.regions_prior import TransitionPrior
from mrgp.inference.variational_bayes.updates import columns_from_readouts
from mrgp.likelihoods.recursions.filter import (
    Dynamics,
    Gains,
    StateReadout,
    filter_gains,
    filter_means,
    log_normalizer_terms,
)
from mrgp.likelihoods.recursions.smoother import smooth_covariances, smooth_means
from mrgp.likelihoods.statespace.coupled import FIRST_MEAN, FIRST_ROOT, first_covariance
from mrgp.likelihoods.statespace.first_state import START_SPREAD
from mrgp.parts.emissions.beginning import least_noise
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.missing import Missing
from mrgp.recordings.recording import MultiRegionData


class Covariances(NamedTuple):
    """Covariances of q.

    Attributes:
        transition: Of each row of F, (row, state, state); 0 where there is no entry.
        readout: Of the loadings and the offset of each neuron, (neuron, column + 1, column + 1); the identity in
            columns that no state has.
    """

    transition: Array
    readout: Array


class RegionSetting(NamedTuple):
    """Arguments of the bound beside the sites.

    Attributes:
        data: The recording.
        exact: Its missing data with every trial's end in its pattern.
        bins: Observed bins of each neuron, (neuron,).
        scales: Of the priors of neurons.
        covariances: Of q.
    """

    data: MultiRegionData
    exact: Missing
    bins: Array
    scales: Scales
    covariances: Covariances

    def left(self, sites: Mapping[str, Any]) -> Array:
        """S of each neuron, no less than where the program takes noise for the least, (neuron,)."""
        return jnp.maximum(jnp.asarray(sites[NOISE.name]), least_noise(self.data)) * self.bins


class States(NamedTuple):
    """Optimal q of the states, as a filter has it.

    Attributes:
        dynamics, readout, gains: Of the filter; its readouts are the whole state.
        means: Predicted, (time, trial, state).
        vectors: b, (time, trial, state).
        constant: log p of what neurons say where all states are 0, but for what is said of R; nats.
    """

    dynamics: Dynamics
    readout: StateReadout
    gains: Gains
    means: Array
    vectors: Array
    constant: Array


@dataclass(frozen=True)
class RegionsBound(Density):
    """Evidence lower bound of coupled regions, a function of the means of q and of m0 and S.

    Sites are those of the model: means of the transition's blocks, of ``loadings`` and of ``offset``; ``noise`` is
    S_n / N_n, the coordinate of q(R). q(s) and q(alpha) are at their optimum given the rest.

    Attributes:
        model: A model of coupled regions whose first state is learned.
        prior: Of its transition.
    """

    model: Model
    prior: TransitionPrior

    def transforms(self, data: RegionSetting, frozen: Collection[str]) -> dict[str, Any]:
        return transforms_of(self.model, data.data, frozen)

    def __call__(self, sites: Sites, data: RegionSetting) -> Array:
        states, pattern = self.states(sites, data), data.exact.pattern
        terms = log_normalizer_terms(states.gains, states.readout, states.means, states.vectors, pattern)
        return terms.sum() + states.constant + self._of_neurons(sites, data) + self._of_dynamics(sites, data)

    def states(self, sites: Sites, data: RegionSetting) -> States:
        """Filter the states under the means and covariances of q."""
        phi = noise_law(data.left(sites), data.bins, data.scales.noise).precision
        covariance, exact = data.covariances, data.exact
        distribution = self.model.likelihood_at(data.data, {**sites, NOISE.name: 1 / phi}).with_missing(exact)
        information = distribution.with_spread(covariance.readout[:, :-1, :-1]).information(data.data.values)
        n_bins, n = information.vectors.shape[0], information.vectors.shape[-1]
        beyond = (0, self.prior.size - n)

        # Cov(c, d), by which the mean of d does not say all.
        place = columns_from_readouts(distribution.prior.assignment, phi.dtype)
        shared = jnp.einsum("nc,nci->ni", phi[:, None] * covariance.readout[:, :-1, -1], place)
        if exact.observed is None:
            shift, more = shared.sum(0), jnp.arange(n_bins)[:, None] < n_bins - 1  # (time, 1)
        else:
            seen = exact.observed.astype(phi.dtype)  # (pattern, time, neuron)
            shift = jnp.swapaxes(seen @ shared, 0, 1)[:, exact.pattern]
            left = jnp.cumsum(seen.any(-1)[:, ::-1], 1)[:, ::-1] - seen.any(-1)
            more = left.T > 0  # (time, pattern)
        V = covariance.transition.sum(0)
        vectors = jnp.pad(information.vectors - shift, [(0, 0), (0, 0), beyond])
        precision = jnp.pad(information.precision, [(0, 0), (0, 0), beyond, beyond]) + more[..., None, None] * V

        plain, _ = distribution.space.assemble(distribution.latents)
        F = self.prior.mean(sites)
        A = plain.transition.at[: len(F)].set(F)
        root = jnp.asarray(sites[FIRST_ROOT.name])
        dynamics = Dynamics(A, plain.process_noise, first_covariance(root), jnp.asarray(sites[FIRST_MEAN.name]))
        eye = jnp.eye(self.prior.size, dtype=A.dtype)
        readout = StateReadout(eye[None], jnp.zeros((1, len(eye)), A.dtype))
        gains = filter_gains(dynamics, readout, precision, n_bins)
        means = filter_means(dynamics, readout, gains, vectors, information.pattern)
        known = data.bins * (jnp.log(phi) + covariance.readout[:, -1, -1] * phi)
        return States(dynamics, readout, gains, means, vectors, information.constant.sum() - 0.5 * known.sum())

    def _of_neurons(self, sites: Sites, data: RegionSetting) -> Array:
        """Terms of q(R), and -KL of q(c, d)."""
        left, scales, covariance = data.left(sites), data.scales, data.covariances.readout
        law = noise_law(left, data.bins, scales.noise)
        value = (law.log_normalizer + 0.5 * left * law.precision).sum()
        used = jnp.asarray(self.model.assignment(data.data.layout).used)
        offset = jnp.asarray(sites[OFFSET.name]) - jnp.asarray(data.data.center)
        means = jnp.concatenate([jnp.where(used, sites[LOADINGS.name], 0.0), offset[:, None]], 1)
        used = jnp.concatenate([used, jnp.ones((len(used), 1), bool)], 1)
        offsets = jnp.arange(used.shape[1]) == used.shape[1] - 1
        sd = jnp.where(offsets, scales.offset[:, None], scales.loadings[:, None])
        square = (means**2 + jnp.diagonal(covariance, axis1=1, axis2=2)) / sd**2
        value -= 0.5 * jnp.where(used, square - 1 + 2 * jnp.log(sd), 0.0).sum()
        return value + 0.5 * jnp.linalg.slogdet(covariance)[1].sum()

    def _of_dynamics(self, sites: Sites, data: RegionSetting) -> Array:
        """-KL of q(F) and q(alpha), and the log prior of the first state."""
        F, covariance, prior = self.prior.mean(sites), data.covariances.transition, self.prior
        own, used = prior.own_precision, prior.used
        square = F**2 + jnp.diagonal(covariance, axis1=1, axis2=2)
        weak = np.where(own > 0, np.log(np.where(own > 0, own, 1.0) / (2 * np.pi)), 0.0).sum()
        value = 0.5 * (weak - (own * square).sum())
        (a, b), half = prior.edges, 0.5 * prior.regions.entries_of_edge
        evidence = gammaln(a + half) - gammaln(a) + a * np.log(b) - half * np.log(2 * np.pi)
        value += (evidence - (a + half) * jnp.log(b + 0.5 * prior.squares(F, covariance))).sum()
        padded = covariance + jnp.asarray(~used[:, :, None] * np.eye(prior.size))
        value += 0.5 * (jnp.linalg.slogdet(padded)[1].sum() + used.sum() * (1 + np.log(2 * np.pi)))
        first = jnp.concatenate([sites[FIRST_MEAN.name], sites[FIRST_ROOT.name][np.tril_indices(prior.size)]])
        return value - 0.5 * (first**2).sum() / START_SPREAD**2 - len(first) * np.log(START_SPREAD * np.sqrt(2 * np.pi))


@partial(jax.jit, static_argnums=0)
def value_of(bound: RegionsBound, sites: Sites, setting: RegionSetting) -> Array:
    """Bound at ``sites``, nats."""
    return bound(sites, setting)


@partial(jax.jit, static_argnums=0)
def expectation(bound: RegionsBound, sites: Sites, setting: RegionSetting) -> Moments:
    """Expected sums over the optimal q of the states; the bound stands for the log-likelihood."""
    states = bound.states(sites, setting)
    gains, readout, means, pattern = states.gains, states.readout, states.means, setting.exact.pattern
    mean = smooth_means(gains, readout, means, states.vectors, pattern).states
    spread = smooth_covariances(gains, readout)
    return moments_of(mean, spread.states, spread.lagged, setting.data, setting.exact, bound(sites, setting))
