r"""M-step of loadings, offsets and noise, each neuron by itself.

With the sums over the bins in which a neuron was observed, and the priors c ~ N(0, s^2), d ~ N(center, o^2) and R ~
half-normal of scale h,

    [c d]_n = (sum y_n [x; 1]') (sum [x; 1] [x; 1]' + R_n diag(1/s^2, 1/o^2))^-1,        N R + 2 R^3 / h^2 = S,

where S = E sum (y_n - c'x - d)^2 and N is the number of bins: the slope by R of N log R + S / R + R^2 / h^2 is 0 there,
once. Coefficients and noise take turns. Without priors neither depends on the other's value but R on c and d.
"""

from typing import NamedTuple

import numpy as np

from mrgp.inference.expectation_maximization.moments import Moments
from mrgp.parts.emissions import Emission
from mrgp.parts.emissions.beginning import least_noise
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData

TURNS = 3  # of coefficients and noise; priors that are worth far less than a trial move neither far


class Scales(NamedTuple):
    """Scales of the priors of each neuron, (neuron,).

    Attributes:
        loadings, offset: Standard deviations s and o.
        noise: Scale h of the half-normal prior of variances.
    """

    loadings: np.ndarray
    offset: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, emission: Emission, data: MultiRegionData) -> "Scales":
        """Scales of values with Gaussian noise and weak priors."""
        sd = np.asarray(data.scale)
        loadings = np.asarray(emission.loadings_scale(data))
        return cls(loadings, emission.offset_spread * sd, emission.noise_spread * sd**2)


def readouts_update(
    moments: Moments, data: MultiRegionData, assignment: LatentLayout, noise: np.ndarray, scales: Scales | None
) -> dict[str, np.ndarray]:
    """Loadings, offsets and noise variances that maximise the expected log-density.

    Args:
        moments: Of states that begin with the readouts.
        data: The recording.
        assignment: Which neuron reads which of them.
        noise: Variances from which the turns begin, (neuron,).
        scales: Of priors; None for none.
    """
    power, square, product, used = sums_of_readouts(moments, assignment)
    least = least_noise(data)
    bins = square[:, -1, -1]
    weights = np.zeros_like(product)  # precisions of priors
    if scales is not None:
        weights[:, :-1], weights[:, -1] = used[:, :-1] / scales.loadings[:, None] ** 2, 1 / scales.offset**2
    blank = ~used[:, :, None] * np.eye(used.shape[1])  # columns of no state have coefficients of 0
    for _ in range(1 if scales is None else TURNS):
        held = square + blank + noise[:, None, None] * weights[:, :, None] * np.eye(used.shape[1])
        coefficients = np.linalg.solve(held, product[..., None])[..., 0]
        left = power - 2 * (coefficients * product).sum(-1)
        left = left + np.einsum("ni,nij,nj->n", coefficients, square, coefficients)
        noise = np.maximum(left / bins if scales is None else _root(bins, left, scales.noise), least)
    return {LOADINGS.name: coefficients[:, :-1], OFFSET.name: coefficients[:, -1] + data.center, NOISE.name: noise}


def sums_of_readouts(moments: Moments, assignment: LatentLayout) -> tuple[np.ndarray, ...]:
    """Sums of each neuron over the states that it reads and 1, and which of them there are.

    The last is (neuron, column + 1).
    """
    columns = assignment.readout_of_column[assignment.region_of_neuron]
    columns = np.append(columns, np.full((len(columns), 1), -1), 1)
    used = np.append(assignment.used, np.ones((len(columns), 1), bool), 1)
    whole = np.broadcast_to(moments.square, (len(columns), *np.shape(moments.square)[1:]))
    both = used[:, :, None] & used[:, None]
    square = np.where(both, whole[np.arange(len(columns))[:, None, None], columns[:, :, None], columns[:, None]], 0.0)
    product = np.where(used, np.take_along_axis(np.asarray(moments.product), columns, 1), 0.0)
    return np.asarray(moments.power), square, product, used


def _root(bins: np.ndarray, left: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The one R of R^3 + p R = q with p = N h^2 / 2 and q = S h^2 / 2, by a hyperbolic sine."""
    p, q = 0.5 * bins * scale**2, 0.5 * left * scale**2
    return 2 * np.sqrt(p / 3) * np.sinh(np.arcsinh(1.5 * q / p * np.sqrt(3 / p)) / 3)
