r"""Relevances of loadings whose likelihood is taken as quadratic, and their part of a bound.

Loadings of a region on a latent have a prior N(0, 1 / alpha), alpha ~ Gamma, and a q(c_n) = N(m_n, S_n) per neuron.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
from scipy.special import gammaln
from scipy.stats import gamma, norm

from mrgp.inference.density import known_sites
from mrgp.inference.run import Model
from mrgp.inference.variational_bayes.bound import base_of
from mrgp.likelihoods.of_loadings import OfLoadings
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import RELEVANCE
from mrgp.recordings.recording import MultiRegionData

NOWHERE = 1e8  # relevance of loadings that are held at zero
MOST = 0.9 * NOWHERE  # of loadings that are not held
CYCLES = 10  # of relevances for one curvature
GRID = np.logspace(-4, 4, 41)  # relevances from which the best is sought, in units of a block's mean curvature
POLISH = 20  # steps from the best of the grid to the best of all


class Known(NamedTuple):
    """Knowledge of loadings beside their means.

    Attributes:
        covariance: S, (neuron, column, column).
        alpha: E[alpha], (region, column); NOWHERE of loadings that are held at zero.
    """

    covariance: np.ndarray
    alpha: np.ndarray

    @property
    def living(self) -> np.ndarray:
        """False where loadings are held at zero, (region, column)."""
        return self.alpha < NOWHERE


@dataclass(frozen=True)
class Relevances:
    """Relevances of loadings whose bound is quadratic.

    Attributes:
        assignment: Layout of latents.
        shape, rate: Of the Gamma prior of alpha.
    """

    assignment: LatentLayout
    shape: float
    rate: float

    @classmethod
    def of(cls, model: Model, data: MultiRegionData) -> "Relevances":
        """Read the prior from the program of a model."""
        prior = base_of(known_sites(model, data), RELEVANCE.name, dist.Gamma)
        shape, rate = (float(np.ravel(value)[0]) for value in (prior.concentration, prior.rate))
        return cls(model.assignment(data.layout), shape, rate)

    def first(self, loadings: np.ndarray) -> Known:
        """Guess from means alone; zeros stay."""
        square = self._per_region(loadings**2)
        alpha = (2 * self.shape + self._size) / np.maximum(2 * self.rate + square, 1e-300)
        alpha = np.where(square > 0, np.minimum(alpha, NOWHERE), NOWHERE)
        wide = 1 / np.where(self.assignment.used, alpha[self.assignment.region_of_neuron], 1.0)
        return Known(wide[:, :, None] * np.eye(loadings.shape[1]), alpha)

    def covariance(self, told: OfLoadings, alpha: np.ndarray) -> np.ndarray:
        """Covariances S of loadings, (neuron, column, column); the identity where they are not used."""
        used, diagonal = self.assignment.used, np.arange(self.assignment.n_columns)
        precision = np.array(told.curvature)
        precision[:, diagonal, diagonal] += np.where(used, alpha[self.assignment.region_of_neuron], 1.0)
        return np.linalg.inv(precision)

    def best(
        self, told: OfLoadings, loadings: np.ndarray, alpha: np.ndarray, least: float, *, steady: bool = False
    ) -> np.ndarray:
        """Best relevances for derivatives ``told`` at ``loadings``, (region, column).

        With Sigma the covariance of a neuron's loadings and mu their mean, s = 1 / Sigma_kk - alpha and q = mu_k /
        Sigma_kk are what its counts say of one, and relevance a gains 1/2 sum_n [log(a / (a + s)) + q^2 / (a + s)]
        over none (Tipping & Faul 2003, AISTATS, eqs. 17-18, summed over the neurons that share it). Loadings that are
        at zero are let go where that is more than ``least`` nats; others go to zero where nothing is gained. One latent
        of a region comes or goes at a time, for others may then have more or less to explain; none if ``steady``.
        """
        used, region = self.assignment.used, self.assignment.region_of_neuron
        vector = told.slope + np.einsum("ncd,nd->nc", told.curvature, loadings)
        for _ in range(CYCLES):
            covariance = self.covariance(told, alpha)
            variance = np.diagonal(covariance, axis1=1, axis2=2)
            mean = np.einsum("ncd,nd->nc", covariance, vector)
            s = np.where(used, np.maximum(1 / variance - alpha[region], 0.0), 0.0)
            q = np.where(used, mean / variance, 0.0)
            unit = np.maximum(self._per_region(s) / np.maximum(self._size, 1), 1e-300)
            tried = unit * GRID[:, None, None]
            gain = np.array([self._gain(s, q, a) for a in tried])
            place = gain.argmax(0)[None]
            found = np.take_along_axis(tried, place, 0)[0]
            living = alpha < NOWHERE
            found = np.where(living, alpha, found) if steady else found
            for _ in range(POLISH):
                square = self._per_region(used * ((q / (found[region] + s)) ** 2 + 1 / (found[region] + s)))
                found = (2 * self.shape + self._size) / np.maximum(2 * self.rate + square, 1e-300)
            beyond = np.take_along_axis(gain, place, 0)[0] - np.where(living, 0.0, least)
            changing = ((beyond > 0) != living) & (self._size > 0) & (not steady)
            most = np.where(changing, np.abs(beyond), -1.0)
            chosen = changing & (np.arange(most.shape[1]) == most.argmax(1)[:, None])
            alpha = np.where(living ^ chosen, np.minimum(found, MOST), NOWHERE)
        return alpha

    def score(self, told: OfLoadings, loadings: np.ndarray, known: Known) -> float:
        """Terms of F beyond the bound and the priors of points, nats."""
        used = self.assignment.used
        square = self._per_region(used * (loadings**2 + np.diagonal(known.covariance, axis1=1, axis2=2)))
        shape, rate = self.shape + self._size / 2, self.rate + square / 2
        evidence = gammaln(shape) - gammaln(self.shape) + self.shape * np.log(self.rate)
        evidence = evidence - shape * np.log(np.maximum(rate, 1e-300)) - 0.5 * self._size * np.log(2 * np.pi)
        entropy = 0.5 * (np.linalg.slogdet(known.covariance)[1].sum() + used.sum() * (1 + np.log(2 * np.pi)))
        spread = 0.5 * np.einsum("ncd,ndc->", known.covariance, told.curvature)
        return float(np.where(self._size > 0, evidence, 0.0).sum() + entropy - spread)

    def prior(self, loadings: np.ndarray, alpha: np.ndarray) -> float:
        """log p(C | alpha) p(alpha), which the climbed density has in their place, nats."""
        scale = alpha[self.assignment.region_of_neuron] ** -0.5
        table = norm.logpdf(loadings, scale=scale).sum()  # unused columns have a prior too
        return float(table + gamma.logpdf(alpha, self.shape, scale=1 / self.rate).sum())

    @property
    def _size(self) -> np.ndarray:
        """Number of neurons that use a column, (region, column)."""
        return self._per_region(1.0 * self.assignment.used)

    def _per_region(self, table: np.ndarray) -> np.ndarray:
        return self.assignment.member @ table

    def _gain(self, s: np.ndarray, q: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        own = alpha[self.assignment.region_of_neuron]
        return 0.5 * self._per_region(self.assignment.used * (np.log(own / (own + s)) + q**2 / (own + s)))
