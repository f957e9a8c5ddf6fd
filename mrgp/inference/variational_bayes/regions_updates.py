r"""Closed-form updates of variational Bayes of coupled regions.

Given the optimal q of the states, with their expected sums (see
:mod:`mrgp.inference.expectation_maximization.moments`),

    cov(F_i) = (sum E[s s'] + diag E[lambda_i])^-1,              E[F_i] = cov(F_i) sum E[s s_{i,t+1}],
    E[alpha] = (a + entries / 2) / (b + E|B|^2 / 2),
    cov(c, d)_n = (phi_n sum E[[x; 1] [x; 1]'] + diag(1/s^2, 1/o^2))^-1,   E[c, d]_n = phi_n cov(c, d)_n sum y_n [x; 1],
    S_n = E sum (y_n - c'x - d)^2,

over the bins in which a neuron was observed; S_n is at least N_n times the least noise that the program takes values to
have, below which the bound rises without end where states explain a neuron altogether. Of the points, m0 is the
shrunken mean of first states; S S' + floor I has the directions of their scatter M around it, and variances v of n v +
v^2 / c = mu, mu being an eigenvalue of M and c the prior variance of an entry of S, since trace(S S') is all that the
prior knows of S.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mrgp.inference.expectation_maximization.moments import Moments
from mrgp.inference.expectation_maximization.readouts import sums_of_readouts
from mrgp.inference.variational_bayes.noise_law import noise_law
from mrgp.inference.variational_bayes.regions_bound import Covariances, RegionSetting
from mrgp.inference.variational_bayes.regions_prior import TransitionPrior
from mrgp.likelihoods.statespace.coupled import FIRST_MEAN, FIRST_ROOT
from mrgp.likelihoods.statespace.coupled_coordinates import root_of
from mrgp.likelihoods.statespace.first_state import START_SPREAD
from mrgp.likelihoods.statespace.linear import START_FLOOR
from mrgp.parts.emissions.beginning import least_noise
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET

CYCLES = 5  # of parts of q that depend on each other, for one pass through the states


class Known(NamedTuple):
    """q: sites as the bound has them, and covariances."""

    sites: dict[str, Any]
    covariances: Covariances


def updated(
    prior: TransitionPrior, assignment: LatentLayout, sites: Mapping[str, Any], setting: RegionSetting, moments: Moments
) -> Known:
    """Update every part of q but that of the states, and m0 and S."""
    F, spread = _transition(prior, sites, setting, moments)
    found, readout = _readouts(assignment, sites, setting, moments)
    mean, root = first_state(np.asarray(sites[FIRST_ROOT.name]), setting.data.n_trials, moments)
    found |= {**prior.sites(F), FIRST_MEAN.name: mean, FIRST_ROOT.name: root}
    return Known(found, Covariances(jnp.asarray(spread), jnp.asarray(readout)))


def _transition(
    prior: TransitionPrior, sites: Mapping[str, Any], setting: RegionSetting, moments: Moments
) -> tuple[np.ndarray, np.ndarray]:
    F, spread = np.array(prior.mean(sites)), np.array(setting.covariances.transition)
    used, present, lagged = prior.used, np.asarray(moments.present), np.asarray(moments.lagged)
    for _ in range(CYCLES):
        precisions = prior.precisions(np.asarray(prior.squares(F, spread)))
        for row, own in enumerate(used):
            square = present[np.ix_(own, own)] + np.diag(precisions[row, own])
            inverse = np.linalg.inv(square)
            spread[row][np.ix_(own, own)] = 0.5 * (inverse + inverse.T)
            F[row, own] = inverse @ lagged[row, own]
    return F, spread


def _readouts(
    assignment: LatentLayout, sites: Mapping[str, Any], setting: RegionSetting, moments: Moments
) -> tuple[dict[str, Any], np.ndarray]:
    power, square, product, used = sums_of_readouts(moments, assignment)
    scales, bins = setting.scales, np.asarray(setting.bins)
    eye = np.eye(used.shape[1])
    weights = np.where(used, 1 / np.square(scales.loadings)[:, None], 1.0)  # precisions; 1 where there is no state
    weights[:, -1] = 1 / np.square(scales.offset)
    left = np.asarray(setting.left(sites))
    least = bins * least_noise(setting.data)
    for _ in range(CYCLES):
        phi = np.asarray(noise_law(left, bins, scales.noise).precision)
        covariance = np.linalg.inv(phi[:, None, None] * square + weights[:, :, None] * eye)
        means = np.einsum("nij,nj->ni", covariance, phi[:, None] * product)
        second = covariance * (used[:, :, None] & used[:, None]) + means[:, :, None] * means[:, None]
        left = np.maximum(power - 2 * (means * product).sum(1) + np.einsum("nij,nij->n", second, square), least)
    found = {LOADINGS.name: means[:, :-1], OFFSET.name: means[:, -1] + setting.data.center, NOISE.name: left / bins}
    return found, covariance


def first_state(root: np.ndarray, n_trials: int, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Points m0 and S that maximise the expected log density, S lower triangular."""
    total, square = np.asarray(moments.start), np.asarray(moments.start_square)
    eye = np.eye(len(total))
    for _ in range(CYCLES):
        precision = np.linalg.inv(root @ root.T + START_FLOOR * eye)
        mean = np.linalg.solve(n_trials * precision + eye / START_SPREAD**2, precision @ total)
        cross = np.outer(mean, total)
        scatter = square - cross - cross.T + n_trials * np.outer(mean, mean)
        values, vectors = np.linalg.eigh(0.5 * (scatter + scatter.T))
        values = np.maximum(values, 0.0)
        variances = 2 * values / (n_trials + np.sqrt(n_trials**2 + 4 * values / START_SPREAD**2))
        root = root_of(vectors * variances @ vectors.T)
    return mean, root
