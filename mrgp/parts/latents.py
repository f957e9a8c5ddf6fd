"""Layout of latents: which neuron reads which latent."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln


@dataclass(frozen=True)
class LatentLayout:
    """Layout of latents: which neurons read which; static.

    Attributes:
        n_neurons: Neurons per region.
        n_across: Latents shared by all regions.
        n_within: Private latents per region; 0 is allowed.
    """

    n_neurons: tuple[int, ...]
    n_across: int
    n_within: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.n_neurons) != len(self.n_within):
            raise ValueError(f"{len(self.n_neurons)} regions but n_within for {len(self.n_within)}")
        if self.n_across < 0 or min(self.n_within) < 0:
            raise ValueError("numbers of latents cannot be negative")
        if self.n_across + max(self.n_within) == 0:
            raise ValueError("a model needs at least one latent: n_across and n_within are all 0")

    @property
    def n_regions(self) -> int:
        return len(self.n_neurons)

    @property
    def n_readouts(self) -> int:
        return self.n_regions * self.n_across + sum(self.n_within)

    @property
    def n_columns(self) -> int:
        """Number of columns of the loadings.

        They are the across latents, then as many as the region with most within latents has.
        """
        return self.n_across + max(self.n_within)

    @property
    def log_symmetries(self) -> float:
        """Log of the number of sign changes and orders of latents that leave the model the same."""
        kinds = (self.n_across, *self.n_within)
        return float(sum(count * np.log(2) + gammaln(count + 1) for count in kinds))

    @property
    def region_of_neuron(self) -> np.ndarray:
        return np.repeat(np.arange(self.n_regions), self.n_neurons)

    @property
    def member(self) -> np.ndarray:
        """Membership of neurons in regions, 0 or 1, (region, neuron)."""
        return 1.0 * (self.region_of_neuron == np.arange(self.n_regions)[:, None])

    @property
    def region_of_within(self) -> np.ndarray:
        """Index of the region that owns each within latent, (within_latent,)."""
        return np.repeat(np.arange(self.n_regions), self.n_within)

    @property
    def region_of_readout(self) -> np.ndarray:
        return np.concatenate([np.repeat(np.arange(self.n_regions), self.n_across), self.region_of_within])

    @property
    def column_of_readout(self) -> np.ndarray:
        """Column of the loadings that each readout uses, (readout,)."""
        within = [self.n_across + np.arange(width) for width in self.n_within]
        return np.concatenate([np.tile(np.arange(self.n_across), self.n_regions), *within]).astype(int)

    @property
    def readout_of_column(self) -> np.ndarray:
        """Index of the readout of each column of loadings, (region, column); 0 for unused ones."""
        table = np.zeros((self.n_regions, self.n_columns), int)
        table[self.region_of_readout, self.column_of_readout] = np.arange(self.n_readouts)
        return table

    @property
    def used(self) -> np.ndarray:
        """True for the columns of loadings that a neuron uses, (neuron, column).

        A region with fewer within latents leaves its last columns unused.
        """
        width = np.asarray(self.n_within)[self.region_of_neuron] + self.n_across
        return np.arange(self.n_columns) < width[:, None]
