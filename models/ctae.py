r"""CTAE: a coupled transformer autoencoder, of what regions share and what each has alone.

"Coupled Transformer Autoencoder for Disentangling Multi-Region Neural Latent Dynamics" (2026, ICLR; arXiv:2510.20068),
with raw counts besides rates, recordings with holes, and blocks of latents that only some of the regions share.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array

from mrgp.families.amortised import Amortised
from mrgp.families.checks import private_counts
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Poisson
from mrgp.parts.latents import LatentLayout
from mrgp.parts.networks import Perceptron, quiet
from mrgp.parts.networks.of_regions import Places, each, network_of_each
from mrgp.parts.networks.transformer import CausalTransformer, normalised
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import inside
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import LatentsShown
from mrgp.results.encoded_latents import READINGS, EncodedLatents

type Shared = int | tuple[tuple[tuple[str, ...], int], ...]

SPARE = 2  # numbers of an encoder that nobody reads: they leave the norm of the others free, however few these are
LEAST_NORM = 1e-6  # squared, of a latent: one that is nought is orthogonal to all, and aligned


@dataclass(frozen=True)
class CTAE(Amortised):
    r"""Autoencoder whose latents are shared by regions, or private to one, in orthogonal blocks.

    .. math::
        Z_r = \mathrm{norm}(\mathrm{encoder}_r(y_r)), \qquad Z = \frac{\sum_r w_r Z_r}{\sum_r w_r}, \qquad
        \eta_r = u_r\, \mathrm{decoder}_r(w_r Z) + d_r, \qquad y_r \sim p(y \mid \eta_r)

    w_r is 1 for the latents of region r, shared ones and its own, and 0 for others. Encoders and decoders are causal
    transformers, each with a linear map beside it, so that few trials are enough for what is linear: latents of a bin
    follow from this bin and those before. Trained is, per observed value,

    .. math::
        \log p(y \mid Z) + a \log p(y \mid Z_\mathrm{shared})
        - b \frac{\langle (Z_{r,k} - Z_k)^2 \rangle}{\langle (Z_{r,k} - \bar Z_k)^2 \rangle}
        - c \langle \cos^2(Z_k, Z_l) \rangle_{k \ne l}

    where the third term is the share of what regions read of shared latents that others do not, the fourth has the
    cosines between the courses of two latents in a trial, and a, b, c = ``shared_only``, ``alignment``,
    ``orthogonality``; 0 leaves a term out. A region of which nothing was seen so far has no say in Z.

    **There is no log p(y).** Latents are what encoders read of the values, not random: the log-likelihood of a
    recording would be that of a copy. So ``fit.log_likelihood`` is refused; compare by neurons that are hidden from the
    encoders (:func:`mrgp.evaluate`, :func:`mrgp.metrics.hidden_log_likelihood`, by which :func:`mrgp.tune` chooses).
    No new trials can be drawn either. With few trials fit with ``hidden_share=0``: no entry is then hidden in training,
    latents are found in fewer epochs, and hidden neurons are predicted less well.

    Sample sites are those of the emission. ``fit.latents()`` has ``across_mean``, ``within_mean``, and
    ``across_of_region``, as each region reads the shared ones; they have no sd.

    Args:
        n_across: Latents shared by all regions; or a mapping from the names of regions to how many only these share,
            such as ``{("V1", "V2"): 3, ("V1", "V2", "V3"): 1}``.
        n_within: Private latents, one number for all regions or one per region; 0 is allowed.
        shared_only: Weight of the reconstruction by shared latents alone.
        alignment: Weight of how far the readings of regions are from each other, as a share of their variance over
            the trials that are looked at.
        orthogonality: Weight of the cosines between latents.
        width: Numbers of a bin inside each transformer, a multiple of ``heads``.
        depth: Blocks of each transformer.
        heads: Of the attention of each block.
        emission: An :class:`mrgp.Emission` or its name.
    """

    n_across: Shared = 4
    n_within: int | tuple[int, ...] = 4
    _: KW_ONLY
    shared_only: float = 1.0
    alignment: float = 0.3
    orthogonality: float = 0.1
    width: int = 64
    depth: int = 2
    heads: int = 2
    emission: Emission = Poisson()  # noqa: RUF009  a frozen part
    refinement: int = pinned(0)  # latents follow from the values: there is no posterior to better

    regions_needed: ClassVar[int] = 2
    is_autoencoder: ClassVar[bool] = True
    has_own_posteriors: ClassVar[bool] = False
    latents_shown: ClassVar[LatentsShown] = EncodedLatents()
    sizes: ClassVar[tuple[str, ...]] = ("n_across", "n_within")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "n_across", _counts(self.n_across))
        single = isinstance(self.n_within, Integral)
        within: Any = int(self.n_within) if single else tuple(map(int, self.n_within))  # type: ignore
        object.__setattr__(self, "n_within", within)
        if self.n_shared < 1 or np.min(within) < 0:
            raise ValueError("CTAE: n_across counts at least 1 latent, and n_within at least 0")
        for name in ("width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"CTAE: {name} counts at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"CTAE: width = {self.width} cannot be shared out to {self.heads} heads: take a multiple")
        for name in ("shared_only", "alignment", "orthogonality"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"CTAE: {name} is a weight from 0 on, not {getattr(self, name)}")

    def __call__(self, data: MultiRegionData) -> None:
        layout, places, w = data.layout, Places.of(data.layout), self.readers(data.layout)  # (region, latent)
        readout, unit = self.emission_sites(data), self.unit(data)  # d, u
        n_latents, n_places, shape = w.shape[1], places.there.shape[1], (self.width, self.depth, self.heads)
        own = partial(network_of_each, layout)
        encoder = own("encoder", partial(CausalTransformer.of, 2 * n_places, *shape))
        reading = own("reading", partial(Perceptron.of, (self.width + 2 * n_places, n_latents + SPARE)))
        decoder = own("decoder", partial(CausalTransformer.of, n_latents, *shape))
        neurons = own("neurons", partial(quiet, self.width + n_latents, n_places))

        def eta_of(latents: Array) -> Array:
            """Signals of neurons (trial, time, neuron), each region reading what is its own of latents."""
            read = latents[:, :, None] * w
            features = jnp.concatenate([each(decoder, read, axis=2), read], -1)
            return unit * places.back(each(neurons, features, axis=2, by=lambda net, x: x @ net.weight.T))

        with self.trials(data) as some:
            told, known = self._told(some, places)
            features = jnp.concatenate([each(encoder, told, axis=2), told], -1)
            Z_r = normalised(each(reading, features, axis=2))[..., :n_latents]
            share = known[..., None] * w
            weight = jnp.where(share.sum(2, keepdims=True) > 0, share, w)
            Z = (weight * Z_r).sum(2) / weight.sum(2)
            numpyro.deterministic(READINGS, Z_r)
            scored = self.observe(some, eta_of(Z), readout, latents=Z)

            alive = inside(some.length, *told.shape[:2]).astype(jnp.float32)
            n_values = self.observed(some).sum((1, 2))
            if self.shared_only:
                eta = eta_of(Z * _is_shared(self.n_shared, n_latents)) + readout.offset
                density = jnp.where(scored, self.emission.given(readout, eta).log_prob(some.floats), 0.0)
                mean = density.sum((1, 2)) / jnp.maximum(scored.sum((1, 2)), 1)
                numpyro.factor("shared_only", self.shared_only * n_values * mean)
            if self.alignment:
                far = _distance(Z_r, Z, (share * alive[..., None, None])[..., : self.n_shared])
                numpyro.factor("alignment", -self.alignment * n_values * far)
            if self.orthogonality:
                numpyro.factor("orthogonality", -self.orthogonality * n_values * _cosines(Z * alive[..., None]))

    def guide(self, data: MultiRegionData) -> None:
        """Sample nothing: latents follow from the values, in the program."""

    def first_guess(self, data: MultiRegionData) -> Mapping[str, Any]:
        if self.emission.is_of_counts:
            return {}
        unread = np.zeros((data.layout.total_neurons, 1))  # noise and offsets of neurons that read nothing yet
        return self.emission.sites_of(np.asarray(data.scale) ** 2, np.asarray(data.center), unread)

    # ---- which region reads what ---------------------------------------------------------------------------------

    @property
    def n_shared(self) -> int:
        """Number of latents that regions share."""
        return self.n_across if isinstance(self.n_across, int) else sum(count for _, count in self.n_across)

    def assignment(self, layout: Layout) -> LatentLayout:
        """Layout of latents among the neurons of a recording."""
        return LatentLayout(layout.n_neurons, self.n_shared, private_counts("CTAE", self.n_within, layout))

    def readers(self, layout: Layout) -> np.ndarray:
        """Masks w of the regions, (region, latent): shared latents first, then private ones.

        Raises:
            DataError: latents are shared by a region that is not there, or a region has none.
        """
        blocks = ((layout.regions, self.n_across),) if isinstance(self.n_across, int) else self.n_across
        for names, _ in blocks:
            if unknown := sorted(set(names) - set(layout.regions)):
                raise DataError(f"CTAE: n_across names {', '.join(unknown)}, but there are {', '.join(layout.regions)}")
        shared = [np.isin(layout.regions, names) for names, count in blocks for _ in range(count)]
        owner = self.assignment(layout).region_of_within
        private = owner == np.arange(layout.n_regions)[:, None]
        table = np.concatenate([np.stack(shared, 1), private], 1)
        for name, reads in zip(layout.regions, table.any(1), strict=True):
            if not reads:
                raise DataError(f"CTAE: region {name} has no latent: let it share some by n_across, or raise n_within")
        return table.astype(np.float32)

    def check(self, data: MultiRegionData) -> None:
        super().check(data)
        self.readers(data.layout)

    def _told(self, data: MultiRegionData, places: Places) -> tuple[Array, Array]:
        """Return what encoders see, and where a region has been seen so far.

        They are (trial, time, region, 2 x place) and 1 or 0, (trial, time, region). Values of a bin are the larger the
        fewer are seen, so that their sum stays what it was.
        """
        values, seen = (places(part) for part in self.shown(data))
        size = places.there.sum(1)[:, None]
        share = jnp.maximum(seen.sum(-1, keepdims=True), 1.0) / size
        known = jax.lax.cummax(seen.max(-1), axis=1)
        return jnp.concatenate([values / share, seen], -1), known


def _counts(shared: Any) -> Shared:
    """Numbers of shared latents, whether they came as a mapping, or as lists from JSON."""
    if isinstance(shared, Integral):
        return int(shared)
    pairs = shared.items() if isinstance(shared, Mapping) else shared
    found = tuple((tuple(names), int(count)) for names, count in pairs)
    for names, count in found:
        if len(set(names)) < 2 or count < 1:
            raise ValueError(f"CTAE: n_across has {count} latents of {', '.join(names)}: two regions share 1 or more")
    return found


def _is_shared(n_shared: int, n_latents: int) -> np.ndarray:
    """1 for latents that regions share, 0 for others, (latent,)."""
    return (np.arange(n_latents) < n_shared).astype(np.float32)


def _distance(readings: Array, latents: Array, share: Array) -> Array:
    """Mean square by which readings of shared latents are from what they are fused to, (trial,).

    It is in units of the variance of the readings over all trials. ``readings`` (trial, time, region, latent),
    ``latents`` (trial, time, latent), and ``share`` (trial, time, region, shared latent), 1 for those that count.
    """
    own, fused = readings[..., : share.shape[-1]], latents[:, :, None, : share.shape[-1]]
    count = jnp.maximum(share.sum((0, 1, 2)), 1.0)
    center = (share * own).sum((0, 1, 2)) / count
    variance = (share * (own - center) ** 2).sum((0, 1, 2)) / count
    squares = share * (own - fused) ** 2 / (variance + LEAST_NORM)
    return squares.sum((1, 2, 3)) / jnp.maximum(share.sum((1, 2, 3)), 1.0)


def _cosines(latents: Array) -> Array:
    """Mean squared cosine between the courses of two latents (trial, time, latent), (trial,)."""
    products = jnp.einsum("btk,btl->bkl", latents, latents)
    squares = jnp.einsum("bkk->bk", products)
    cosines = products**2 / (squares[:, :, None] * squares[:, None] + LEAST_NORM)
    n_latents = latents.shape[-1]
    others = 1.0 - np.eye(n_latents, dtype=np.float32)
    return (cosines * others).sum((1, 2)) / max(n_latents * (n_latents - 1), 1)
