"""Stationary covariance functions of the latent signals, with k(0) = 1.

The scale of a latent is in the loadings. A kernel is a correlation function of the lag in units of its timescale. A
kernel of one's own is a class with one method::

    class Exponential(mrgp.Kernel):
        def cov(self, tau):
            return jnp.exp(-jnp.abs(tau))

and runs in every model: how it becomes a state space is decided in :mod:`mrgp.likelihoods.statespace.lift`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist  # as an attribute: ArviZ may have left a numpyro that loads lazily

from mrgp.part import Part
from mrgp.parts.sites import kernel_site

TYPICAL_TIMESCALE = 0.1  # s, prior median; the factor of 4.5 either way (one sd) spans 20 ms to half a second
TIMESCALE_SPREAD = 1.5
TIMELESS = 1.0  # bins: what stands for the timescale of a kernel that has none, so that every latent has its entry

Hyperparameters = Mapping[str, Array | np.ndarray]
"""Per-latent values, latents first. Of a kernel each is (latent,): ``timescale`` (bins) and what it declares."""

type Parameter = dist.Distribution | float


class Kernel(Part, family="kernel"):
    """A stationary correlation function k(tau / timescale), k(0) = 1.

    Subclasses give ``cov``; those with further parameters also ``parameters`` and ``correlation``.
    """

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({own})"

    @property
    def has_timescale(self) -> bool:
        """True if the correlation depends on a timescale.

        If not, the number in the place of a timescale has no effect.
        """
        return True

    def cov(self, tau: Array) -> Array:
        """Correlation at the dimensionless lag ``tau`` (lag / timescale), of any shape.

        It is an even function, and 1 at 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define cov(self, tau)")

    def parameters(self) -> dict[str, Parameter]:
        """Parameters of each latent other than the timescale, in s or Hz.

        A prior infers a parameter, a number fixes it.
        """
        return {}

    def correlation(self, lag: Array, hyper: Hyperparameters) -> Array:
        """Correlation at ``lag`` (bins, shape (..., latent)) for per-latent parameters ``hyper``."""
        return self.cov(lag / hyper["timescale"])

    # ---- parameters as sites -------------------------------------------------------------------------------------

    def sites(self, kind: str) -> list[str]:
        """Names of the sites of latents of a kind, "across" or "within", the timescale first."""
        own = self.parameters()
        names = ["timescale"] * self.has_timescale + [name for name in own if not isinstance(own[name], float)]
        return [kernel_site(name, kind).name for name in names]

    def sample(
        self, kind: str, n_latents: int, bin_width: float, timescale_bounds: tuple[float, float] | None = None
    ) -> dict[str, Array]:
        """Sample the parameters of latents of a kind, and return them in bins, (latent,).

        There are ``n_latents``. Timescales, of kernels that have one, are log-normal around 0.1 s, or log-uniform
        between ``timescale_bounds``; a kernel declares the priors of whatever else it has. Called inside a NumPyro
        program.
        """
        if n_latents == 0:
            return {name: jnp.zeros(0) for name in ("timescale", *self.parameters())}
        hyper: dict[str, Array] = {}
        with numpyro.plate(f"{kind}_latent", n_latents):
            if self.has_timescale:
                free = dist.LogNormal(np.log(TYPICAL_TIMESCALE), TIMESCALE_SPREAD)
                bounded = timescale_bounds and dist.LogUniform(*timescale_bounds)
                hyper["timescale"] = kernel_site("timescale", kind).sample(bounded or free)
            else:
                hyper["timescale"] = jnp.full(n_latents, TIMELESS * bin_width)
            for name, prior in self.parameters().items():
                inferred = not isinstance(prior, float)
                hyper[name] = kernel_site(name, kind).sample(prior) if inferred else jnp.full(n_latents, prior)
        return in_bins(hyper, bin_width)

    def at(self, sites: Mapping[str, Any], kind: str, n_latents: int, bin_width: float) -> dict[str, np.ndarray]:
        """Parameters of the latents of a kind in bins, (latent,), from sites in seconds."""
        hyper = {"timescale": np.full(n_latents, TIMELESS * bin_width)}
        if n_latents and self.has_timescale:
            hyper["timescale"] = np.asarray(sites[f"timescale_{kind}"])
        for name, prior in self.parameters().items():
            if n_latents and not isinstance(prior, float):
                hyper[name] = np.asarray(sites[f"{name}_{kind}"])
            else:
                hyper[name] = np.full(n_latents, prior if isinstance(prior, float) else 0.0)
        return in_bins(hyper, bin_width)

    def __mul__(self, weight: float) -> "Weighted":
        return Weighted(self, float(weight))

    __rmul__ = __mul__

    def __add__(self, other: "Kernel") -> "Sum":
        return Sum(_terms(self) + _terms(other))


@dataclass(frozen=True)
class SquaredExponential(Kernel):
    """k(tau) = exp(-tau^2 / 2); the timescale is the lengthscale (Yu et al. 2009, eq. 3)."""

    def cov(self, tau: Array) -> Array:
        return jnp.exp(-0.5 * tau**2)


@dataclass(frozen=True)
class Matern12(Kernel):
    """k(tau) = exp(-|tau|): the Ornstein-Uhlenbeck process."""

    def cov(self, tau: Array) -> Array:
        return jnp.exp(-jnp.abs(tau))


@dataclass(frozen=True)
class Matern32(Kernel):
    """k(tau) = (1 + s) exp(-s), s = sqrt(3) |tau| (Rasmussen & Williams 2006, eq. 4.17)."""

    def cov(self, tau: Array) -> Array:
        s = jnp.sqrt(3.0) * jnp.abs(tau)
        return (1 + s) * jnp.exp(-s)


@dataclass(frozen=True)
class Matern52(Kernel):
    """k(tau) = (1 + s + s^2 / 3) exp(-s), s = sqrt(5) |tau|.

    Rasmussen & Williams 2006, eq. 4.17.
    """

    def cov(self, tau: Array) -> Array:
        s = jnp.sqrt(5.0) * jnp.abs(tau)
        return (1 + s + s**2 / 3) * jnp.exp(-s)


@dataclass(frozen=True)
class White(Kernel):
    """k(0) = 1, and 0 elsewhere: bins are independent, as in factor analysis.

    It has no timescale. Two copies of a white latent are one where their delays are equal to the last bit, and
    independent else.
    """

    @property
    def has_timescale(self) -> bool:
        return False

    def cov(self, tau: Array) -> Array:
        return jnp.where(tau == 0, 1.0, 0.0)


@dataclass(frozen=True)
class RationalQuadratic(Kernel):
    """k(tau) = (1 + tau^2 / (2 alpha))^-alpha: a mixture of squared exponentials.

    The mixture has many timescales. ``alpha`` > 0 is fixed: small for heavy tails, infinity for the squared
    exponential.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"RationalQuadratic needs alpha > 0, not {self.alpha}")

    def cov(self, tau: Array) -> Array:
        return (1 + tau**2 / (2 * self.alpha)) ** (-self.alpha)


@dataclass(frozen=True)
class Spectral(Kernel):
    """k(lag) = base(lag / timescale) cos(2 pi frequency lag): a rhythm that loses its phase.

    ``frequency`` in Hz fixes the rhythm; None infers one per latent, with prior median ``typical`` Hz.
    """

    base: Kernel = field(default_factory=SquaredExponential)
    frequency: float | None = None
    typical: float = 5.0

    def __post_init__(self) -> None:
        if self.frequency is not None and not self.frequency > 0:
            raise ValueError(f"Spectral needs frequency > 0 Hz, not {self.frequency}; None infers it")
        if isinstance(self.base, Spectral | Sum):
            raise TypeError("Spectral's base must be a kernel without a rhythm of its own")

    @property
    def has_timescale(self) -> bool:
        return self.base.has_timescale

    def parameters(self) -> dict[str, Parameter]:
        if self.frequency is None:
            return {"frequency": dist.LogNormal(math.log(self.typical), 1.0)}
        return {"frequency": float(self.frequency)}

    def correlation(self, lag: Array, hyper: Hyperparameters) -> Array:
        return self.base.correlation(lag, hyper) * jnp.cos(2 * jnp.pi * hyper["frequency"] * lag)


@dataclass(frozen=True)
class Weighted(Kernel):
    """One term of a sum: ``weight`` times ``kernel`` (weights are normalised by the sum)."""

    kernel: Kernel
    weight: float

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"a kernel's weight in a sum must be positive, not {self.weight}")

    def __mul__(self, weight: float) -> "Weighted":
        return Weighted(self.kernel, self.weight * float(weight))

    __rmul__ = __mul__

    @property
    def has_timescale(self) -> bool:
        return self.kernel.has_timescale

    def parameters(self) -> dict[str, Parameter]:
        return self.kernel.parameters()

    def correlation(self, lag: Array, hyper: Hyperparameters) -> Array:
        return self.kernel.correlation(lag, hyper)


@dataclass(frozen=True)
class Stretched(Kernel):
    """Kernel with ``factor`` times the timescale of the latent.

    With it a sum can mix slow and fast terms.
    """

    kernel: Kernel
    factor: float

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"Stretched needs a positive factor, not {self.factor}")

    @property
    def has_timescale(self) -> bool:
        return self.kernel.has_timescale

    def parameters(self) -> dict[str, Parameter]:
        return self.kernel.parameters()

    def correlation(self, lag: Array, hyper: Hyperparameters) -> Array:
        return self.kernel.correlation(lag, stretched(self, hyper))


@dataclass(frozen=True)
class Sum(Kernel):
    """Weighted mean of kernels, k = sum_i weight_i k_i / sum_i weight_i.

    It is written ``0.7 * SquaredExponential() + 0.3 * Matern12()``.
    """

    terms: tuple[Weighted, ...]

    @property
    def has_timescale(self) -> bool:
        return any(term.has_timescale for term in self.terms)

    def parameters(self) -> dict[str, Parameter]:
        merged: dict[str, Parameter] = {}
        for term in self.terms:
            own = term.parameters()
            if shared := merged.keys() & own.keys():
                name = sorted(shared)[0]
                raise ValueError(f"only one term of a kernel sum can have a {name} of its own: leave one out")
            merged |= own
        return merged

    @property
    def weights(self) -> tuple[float, ...]:
        """The normalised weights, summing to 1 so that k(0) = 1."""
        total = sum(term.weight for term in self.terms)
        return tuple(term.weight / total for term in self.terms)

    def correlation(self, lag: Array, hyper: Hyperparameters) -> Array:
        parts = [w * t.correlation(lag, hyper) for w, t in zip(self.weights, self.terms, strict=True)]
        return sum(parts[1:], parts[0])


def correlations(kernel: Kernel, lag: np.ndarray, hyper: Hyperparameters) -> np.ndarray:
    """Numbers of :meth:`Kernel.correlation`, computed as one program."""
    return np.asarray(_correlations(kernel, np.asarray(lag, float), dict(hyper)))


@partial(jax.jit, static_argnums=0)
def _correlations(kernel: Kernel, lag: Array, hyper: dict[str, Array]) -> Array:
    return kernel.correlation(lag, hyper)


def in_bins(hyper: Hyperparameters, bin_width: float) -> dict[str, Any]:
    """Convert kernel parameters from seconds and Hz to units of bins.

    Parameters of neither unit are left alone.
    """
    factor = {"timescale": 1 / bin_width, "frequency": bin_width}
    return {name: value * factor.get(name, 1.0) for name, value in hyper.items()}


def stretched(kernel: Stretched, hyper: Hyperparameters) -> Hyperparameters:
    """Parameters ``hyper`` with the timescale of the kernel inside ``kernel``."""
    return {**hyper, "timescale": hyper["timescale"] * kernel.factor}


def _terms(kernel: Kernel) -> tuple[Weighted, ...]:
    if isinstance(kernel, Sum):
        return kernel.terms
    return (kernel if isinstance(kernel, Weighted) else Weighted(kernel, 1.0),)
