"""Registry: every kernel, emission, mean, law of delays, loadings, likelihood, method, model, reader and metric.

Each stands here once, as a small instance with what is known of it without its own code. ``contracts/test_every_*.py``
run each through the contract of its family: a new part is tested by its line here, and one without a line fails
``contracts/test_every_part.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from mrgp.models import (
    ADM,
    CTAE,
    DLAG,
    FA,
    GFA,
    GPFA,
    GPVAE,
    LDS,
    LFADS,
    MDLAG,
    MRLFADS,
    PCCA,
    CoupledLDS,
    NeuralODE,
    SwitchingLDS,
)
from scipy import stats
from scipy.special import gamma, gammaln, kv

import mrgp
from mrgp.likelihoods.likelihood import Spectral
from mrgp.likelihoods.statespace.first_state import Learned, Stationary
from mrgp.metrics.few_shot import FewShot
from mrgp.metrics.flow import SignalFlow
from mrgp.metrics.likelihood import Reconstruction, TrialLogLikelihood
from mrgp.metrics.recovery import Recovery
from mrgp.metrics.recovery_of_trials import RecoveryOfTrials
from mrgp.metrics.scores import R2, BitsPerBin, NormalisedError, PsthRmse, TrialRmse
from mrgp.metrics.variance import VarianceExplained
from mrgp.part import Part
from mrgp.parts.networks.cells import Gated, Residual
from mrgp.parts.networks.channels import AttentionChannels, GraphChannels, RateChannels
from mrgp.parts.networks.controllers import Filtering, Smoothing
from mrgp.parts.populations import Known
from mrgp.parts.readout import Readout
from mrgp.recordings.readers import Alf, Matlab, NetCDF, Npy, Npz, Nwb, Phy, Zarr

BIN_WIDTH = 0.02  # seconds

# --- kernels


class Sech(mrgp.Kernel):
    """A kernel of a user's own: only ``cov``. Its spectrum is a sech too, so it is positive definite."""

    def cov(self, tau):
        return 2 * jnp.exp(-jnp.abs(tau)) / (1 + jnp.exp(-2 * jnp.abs(tau)))


@dataclass(frozen=True)
class KernelCase:
    """A kernel and all that is known of it without its own code.

    ``closed(lag, timescale)`` is its correlation in plain numpy; ``own`` has the parameters besides the
    timescale as numbers in bins; ``exact`` says whether its state space is.
    """

    name: str
    kernel: mrgp.Kernel
    closed: Callable[[np.ndarray, float], np.ndarray]
    own: dict[str, float] = field(default_factory=dict)
    exact: bool = False

    def hyper(self, *timescales: float) -> dict[str, jnp.ndarray]:
        """Per-latent parameters of as many latents as timescales."""
        own = {name: jnp.full(len(timescales), value) for name, value in self.own.items()}
        return {"timescale": jnp.array(timescales, float), **own}


def gaussian(u: np.ndarray) -> np.ndarray:
    return np.exp(-(u**2) / 2)


def matern(u: np.ndarray, nu: float) -> np.ndarray:
    """Matern correlation by its Bessel function (Rasmussen & Williams 2006, eq. 4.14)."""
    s = np.sqrt(2 * nu) * np.abs(np.asarray(u, float))
    safe = np.where(s > 0, s, 1.0)
    return np.where(s > 0, 2 ** (1 - nu) / gamma(nu) * safe**nu * kv(nu, safe), 1.0)


KERNELS = [
    KernelCase("squared_exponential", mrgp.SquaredExponential(), lambda a, l: gaussian(a / l)),
    KernelCase("matern12", mrgp.Matern12(), lambda a, l: matern(a / l, 0.5), exact=True),
    KernelCase("matern32", mrgp.Matern32(), lambda a, l: matern(a / l, 1.5), exact=True),
    KernelCase("matern52", mrgp.Matern52(), lambda a, l: matern(a / l, 2.5), exact=True),
    KernelCase("rational_quadratic_1", mrgp.RationalQuadratic(), lambda a, l: 1 / (1 + (a / l) ** 2 / 2)),
    KernelCase("rational_quadratic_2", mrgp.RationalQuadratic(2.0), lambda a, l: (1 + (a / l) ** 2 / 4) ** -2.0),
    KernelCase(
        "spectral_fixed",
        mrgp.Spectral(frequency=4.0),
        lambda a, l: gaussian(a / l) * np.cos(2 * np.pi * 4.0 * BIN_WIDTH * a),
        own={"frequency": 4.0 * BIN_WIDTH},
    ),
    KernelCase(
        "spectral_inferred",
        mrgp.Spectral(mrgp.Matern32()),
        lambda a, l: matern(a / l, 1.5) * np.cos(2 * np.pi * 0.13 * a),
        own={"frequency": 0.13},
        exact=True,
    ),
    KernelCase(
        "sum_stretched",
        3 * mrgp.SquaredExponential() + 1.0 * mrgp.Stretched(mrgp.Matern12(), 0.2),
        lambda a, l: 0.75 * gaussian(a / l) + 0.25 * matern(a / (0.2 * l), 0.5),
    ),
    KernelCase(
        "sum_of_three",
        mrgp.Matern52()
        + mrgp.Stretched(mrgp.Spectral(mrgp.Matern12(), frequency=5.0), 4.0)
        + 2 * mrgp.Stretched(mrgp.Matern32(), 10.0),
        lambda a, l: (
            0.25 * matern(a / l, 2.5)
            + 0.25 * matern(a / (4 * l), 0.5) * np.cos(2 * np.pi * 5.0 * BIN_WIDTH * a)
            + 0.5 * matern(a / (10 * l), 1.5)
        ),
        own={"frequency": 5.0 * BIN_WIDTH},
        exact=True,
    ),
    KernelCase("users_own", Sech(), lambda a, l: 1 / np.cosh(np.clip(np.abs(a / l), 0, 700))),
]


# --- emissions

DISPERSION = np.array([0.05, 0.3, 1.0, 0.2, 0.6])
VARIANCE = np.array([0.3, 1.0, 2.5, 0.1, 0.7])


@dataclass(frozen=True)
class EmissionCase:
    """An emission of five neurons with parameters, and its density written out.

    ``written(y, eta)`` is log p(y | eta) without underflow at low rates, ``known(y, eta)`` the same by SciPy; shapes
    end in (neuron,).
    """

    name: str
    emission: mrgp.Emission
    written: Callable[[np.ndarray, np.ndarray], np.ndarray]
    known: Callable[[np.ndarray, np.ndarray], np.ndarray]
    regions: dict[str, slice] = field(default_factory=dict)

    @property
    def readout(self) -> Readout:
        """Its parameters, of latents that no neuron reads."""
        zero = jnp.zeros(5)
        own = {name: Readout(zero[p, None], jnp.asarray(VARIANCE)[p], zero[p]) for name, p in self.regions.items()}
        counts = self.emission if self.emission.is_of_counts else own or None
        return Readout(zero[:, None], jnp.asarray(VARIANCE), zero, counts=counts)


def log_poisson(y: np.ndarray, eta: np.ndarray) -> np.ndarray:
    return y * eta - np.exp(eta) - gammaln(y + 1)


def log_negative_binomial(y: np.ndarray, eta: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    size = 1 / np.asarray(dispersion)
    ways = gammaln(y + size) - gammaln(size) - gammaln(y + 1)
    return ways + size * np.log(size) + y * eta - (y + size) * np.logaddexp(np.log(size), eta)


EMISSIONS = [
    EmissionCase(
        "gaussian",
        mrgp.Gaussian(),
        lambda y, eta: -0.5 * ((y - eta) ** 2 / VARIANCE + np.log(2 * np.pi * VARIANCE)),
        lambda y, eta: stats.norm.logpdf(y, eta, np.sqrt(VARIANCE)),
    ),
    EmissionCase("poisson", mrgp.Poisson(), log_poisson, lambda y, eta: stats.poisson.logpmf(y, np.exp(eta))),
    EmissionCase(
        "negative_binomial",
        mrgp.NegativeBinomial(jnp.asarray(DISPERSION)),
        lambda y, eta: log_negative_binomial(y, eta, DISPERSION),
        lambda y, eta: stats.nbinom.logpmf(y, 1 / DISPERSION, 1 / (1 + DISPERSION * np.exp(eta))),
    ),
    EmissionCase(
        "by_region",
        mrgp.ByRegion(("V1", "V2"), (mrgp.Gaussian(), mrgp.Gaussian())),
        lambda y, eta: -0.5 * ((y - eta) ** 2 / VARIANCE + np.log(2 * np.pi * VARIANCE)),
        lambda y, eta: stats.norm.logpdf(y, eta, np.sqrt(VARIANCE)),
        {"V1": slice(0, 2), "V2": slice(2, 5)},
    ),
]
"""Those whose entries are independent given eta."""

# --- models, of few bins: what is exact compiles fastest there

MODELS = [
    GPFA(1, kernel=mrgp.Matern32(), likelihood="dense"),
    DLAG(1, 1, max_delay=3 * BIN_WIDTH, likelihood="dense"),
    ADM(1, 0, max_delay=3 * BIN_WIDTH, delay_timescale=0.1, typical_spread=0.01, likelihood="dense"),
    MDLAG(1, max_delay=3 * BIN_WIDTH, likelihood="dense"),
    LDS(1),
    CoupledLDS((2, 1), lag=BIN_WIDTH),
    FA(1),
    PCCA(1, 1),
    GFA(1),
]

"""Those with Gaussian latents, of which everything is known in closed form."""

WITH_GUIDE = [
    LFADS(n_factors=2, n_states=3, n_initial=2, width=4),
    NeuralODE(n_latents=2, width=8, depth=1, reader=8, drift=mrgp.SlowDrift(2)),
    GPVAE(1, 1, hidden=(8,), encoder=(8,)),
    MRLFADS(2, 3, 1, 1, 2, width=4),
]
"""Those whose latents are inferred by a guide, and which draw with what they have learned."""

SWITCHING = [SwitchingLDS(2, 1), SwitchingLDS(2, (2, 1), recurrent=False, emission="poisson")]
"""Those whose dynamics switch with a hidden state."""
AUTOENCODERS = [CTAE(2, 1, width=8, depth=1), CTAE({("V1", "V2"): 2}, (1, 0), alignment=1.0, emission="gaussian")]
"""Those whose latents are read from the values."""

# --- every member of every family

PARTS: dict[str, list[Part]] = {
    "kernel": [
        *(case.kernel for case in KERNELS if case.name != "users_own"), mrgp.White(), 2.0 * mrgp.Matern32(),
        mrgp.Stretched(mrgp.Matern12(), 2.0),
    ],
    "emission": [mrgp.Gaussian(), mrgp.AutocorrelatedGaussian(), mrgp.Poisson(), mrgp.NegativeBinomial(),
                 mrgp.ByRegion(("V1", "V2"), (mrgp.Gaussian(), mrgp.NegativeBinomial()))],
    "mean": [mrgp.Constant(), mrgp.PSTH(timescale=0.04)],
    "loadings": [mrgp.Weak(), mrgp.Weak(signal_spread=0.5), mrgp.Relevance(shape=1.0, rate=0.5)],
    "delays": [
        mrgp.NoDelay(),
        mrgp.ConstantDelay(longest=0.05),
        mrgp.VaryingDelay(longest=0.05, timescale=0.1, spread=0.01),
    ],
    "populations": [Known(), mrgp.Unknown(most=3)],
    "drift": [mrgp.NoDrift(), mrgp.SlowDrift(n_factors=2)],
    "likelihood": [mrgp.Kalman(order=4), mrgp.Dense(), Spectral()],
    "cell": [Residual(width=8), Gated()],
    "controller": [Filtering(), Smoothing()],
    "channels": [RateChannels(), RateChannels(by_regression=True), GraphChannels(width=8), AttentionChannels(heads=2)],
    "window": [mrgp.Window(6)],
    "start": [Stationary(), Learned()],
    "method": [
        mrgp.MAP(), mrgp.EM(), mrgp.VB(), mrgp.Laplace(), mrgp.SVI(), mrgp.NUTS(), mrgp.AmortisedSVI(),
        mrgp.VariationalEM(),
    ],
    "model": [*MODELS, *WITH_GUIDE, *SWITCHING, *AUTOENCODERS],
    "reader": [reader(bin_width=BIN_WIDTH) for reader in (Npz, Npy, NetCDF, Zarr, Matlab, Nwb, Phy, Alf)],
    "metric": [
        PsthRmse(), TrialRmse(), R2(), NormalisedError(), BitsPerBin(), TrialLogLikelihood(), Reconstruction(),
        VarianceExplained(), SignalFlow(), Recovery(), FewShot(), RecoveryOfTrials(),
    ],
}  # fmt: skip
"""Instances of every family, by the word for the family."""
