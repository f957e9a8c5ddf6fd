r"""Information of a recording on its parameters, from its latents' spectra.

At each of a trial's frequencies a latent of spectrum S(f), read with the precision s (that of all its neurons in a bin,
c' R^-1 c), is a complex number known up to a Gaussian. Whittle's likelihood of many such numbers has the Fisher
information

    of a kernel parameter a        1/2 sum_f (dS/da s / (1 + S s))^2,
    of a region's delay            sum_f (2 pi f)^2 u v / (1 + u + v),    u, v = S s in the region, and in all others,

for every trial (the second is that of a phase between two signals, Hannan & Thomson 1973, Biometrika 60, 469-480).
Latents are taken one by one, as if all others were known: enough to say how far a climb may step.

Loadings c, log noise variance and offset of a neuron are told by its values less what all other entries say of them,
which have a variance v(f) of the noise r at least: latents that the recording leaves open cannot tell a loading. With
P(f) the covariance of what its region reads given the whole recording, v = r / (1 - c' P c / r), and

    of a loading    sum_f S / v,        of the log noise    1/2 sum_f (r / v)^2,        of an offset    T / v(0).

Where a neuron is all but a latent itself, r is nearly zero and v is not: such loadings may step thousands of times as
far as their noise says.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from mrgp.parts.emissions.beginning import TellingBins
from mrgp.parts.kernels import Hyperparameters, Kernel, correlations
from mrgp.parts.latents import LatentLayout

OPEN = 1e-12  # of a neuron's noise over its variance given all others: the least that counts
RELATIVE_STEP = 1e-3  # of a kernel parameter, over which its spectrum is differentiated


def spectrum(kernel: Kernel, hyper: Hyperparameters, n_bins: int) -> np.ndarray:
    """Expected periodogram of latents of variance 1, (frequency, latent).

    It has all frequencies of a trial.
    """
    lag = np.arange(n_bins)[:, None]
    share = lag / n_bins
    here, there = (correlations(kernel, lag - back, hyper) for back in (0, n_bins))
    return np.maximum(np.fft.fft((1 - share) * here + share * there, axis=0).real, 0.0)


def heard(precision: np.ndarray, gp_noise: float) -> np.ndarray:
    """Precision with which a latent is read if each region's copy has its own white noise."""
    return precision * (1 - gp_noise) / (1 + gp_noise * precision)


def of_kernel(
    kernel: Kernel, hyper: Hyperparameters, names: Collection[str], precision: np.ndarray, n_bins: int
) -> dict[str, np.ndarray]:
    """Information of a trial on the logarithms of kernel parameters, (latent,) each.

    The parameters are ``names``. ``precision`` s is (latent,).
    """
    S = spectrum(kernel, hyper, n_bins)
    found = {}
    for name in names:
        up, down = (
            spectrum(kernel, {**hyper, name: np.asarray(hyper[name]) * (1 + step)}, n_bins)
            for step in (RELATIVE_STEP, -RELATIVE_STEP)
        )
        slope = (up - down) / (2 * RELATIVE_STEP)
        found[name] = 0.5 * np.square(slope * precision / (1 + S * precision)).sum(0)
    return found


def of_delay(kernel: Kernel, hyper: Hyperparameters, precision: np.ndarray, n_bins: int) -> np.ndarray:
    """Information of a trial on delays in bins, (region, latent).

    ``precision`` is (region, latent).
    """
    S = spectrum(kernel, hyper, n_bins)[:, None]
    own = S * precision
    rest = S * precision.sum(0) - own
    turn = (2 * np.pi * np.fft.fftfreq(n_bins))[:, None, None]
    return (turn**2 * own * rest / (1 + own + rest)).sum(0)


def of_readouts(
    assignment: LatentLayout, loadings: np.ndarray, noise: np.ndarray, delay: np.ndarray, across: np.ndarray,
    within: np.ndarray, gp_noise: float,
) -> TellingBins:  # fmt: skip
    """Bins of a trial that tell of loadings, noise and offsets, with latents integrated out.

    Args:
        assignment: Of latents to regions and neurons.
        loadings: (neuron, column).
        noise: Variances, (neuron,).
        delay: Bins, (region, across_latent).
        across, within: Spectra of latents at all frequencies of a trial, (frequency, latent).
        gp_noise: Share of white noise in each region's copy of a latent.
    """
    n_bins, n_across = across.shape
    half = n_bins // 2 + 1  # the other frequencies are their mirror images
    frequency = np.arange(half) / n_bins
    each = np.where((frequency == 0) | (frequency == 0.5), 1.0, 2.0)
    turn = np.exp(-2j * np.pi * frequency[:, None, None] * delay)  # (frequency, region, across_latent)
    S, own = across[:half], within[:half]
    regions = [_Region.of(assignment, region, loadings, noise) for region in range(assignment.n_regions)]
    told = np.stack([
        np.conj(turn[:, [r]].swapaxes(1, 2)) * region.told(own, gp_noise) * turn[:, [r]]
        for r, region in enumerate(regions)
    ])  # fmt: skip
    found = TellingBins.by_all(n_bins, assignment)
    of_loadings, of_noise, of_offset = (np.array(bins) for bins in found[1:])
    for r, region in enumerate(regions):
        c, member, n_columns = region.loadings, region.member, region.loadings.shape[1]
        power = (1 - gp_noise) * np.concatenate([S, own[:, region.within]], axis=1)
        # What the region reads, given all others: (S^-1 + what they tell)^-1, with its own white noise.
        given = power[:, :, None] * np.eye(n_columns) + 0j
        others = np.delete(told, r, axis=0).sum(0)
        turned = _shrunk(power[:, :n_across], others)
        given[:, :n_across, :n_across] = turn[:, r, :, None] * turned * np.conj(turn[:, r, None, :])
        given += gp_noise * np.eye(n_columns)
        left = np.linalg.solve(np.eye(n_columns) + given @ region.precision, given)
        known = np.einsum("nk,fkl,nl->fn", c, left, c, optimize=True).real / noise[member]
        share = np.clip(1 - known, OPEN, 1.0)  # r / v
        of_loadings[member, :n_columns] = np.einsum("f,fn,fk->nk", each, share, power + gp_noise)
        of_noise[member] = each @ share**2
        of_offset[member] = n_bins * share[0]
    return found._replace(loadings=of_loadings, noise=of_noise, offset=of_offset)


class _Region(NamedTuple):
    """One region's readouts.

    Attributes:
        member: Its neurons, (neuron,) bool.
        within: Its within latents, among all.
        loadings: Of its neurons on the across latents and its own.
        precision: C' R^-1 C.
        n_across: Number of across latents.
    """

    member: np.ndarray
    within: np.ndarray
    loadings: np.ndarray
    precision: np.ndarray
    n_across: int

    @classmethod
    def of(cls, assignment: LatentLayout, region: int, loadings: np.ndarray, noise: np.ndarray) -> "_Region":
        member = assignment.region_of_neuron == region
        within = np.flatnonzero(assignment.region_of_within == region)
        c = loadings[member, : assignment.n_across + len(within)]
        return cls(member, within, c, (c / noise[member, None]).T @ c, assignment.n_across)

    def told(self, own: np.ndarray, gp_noise: float) -> np.ndarray:
        """Precision of what the region says of across latents.

        It is (frequency, across_latent, across_latent). ``own`` are spectra of within latents, which it does not know;
        each copy has its own white noise.
        """
        G, K = self.precision, self.n_across
        power = (1 - gp_noise) * own[:, self.within] + gp_noise
        said = G[:K, :K] - G[:K, K:] @ _shrunk(power, G[K:, K:]) @ G[K:, :K]
        return np.linalg.solve(np.eye(K) + gp_noise * said, said)


def _shrunk(power: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(S^-1 + P)^-1 for a diagonal S, (frequency, latent), some of which may be 0."""
    root = np.sqrt(power)
    inner = np.eye(power.shape[1]) + root[:, :, None] * precision * root[:, None, :]
    return root[:, :, None] * np.linalg.inv(inner) * root[:, None, :]
