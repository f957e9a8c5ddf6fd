"""Steps of a fit of Gaussian processes: its start, its climbs, its changes of the model.

Inference knows them as :class:`mrgp.inference.run.Fitting`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.families.latents_in_bins import latents_at
from mrgp.families.scales import scales_of_dynamics, told_by_all, told_by_spectra
from mrgp.families.starts import around_mean, completed, draw_sites, following
from mrgp.inference.mode.curvature import Diagonal
from mrgp.likelihoods.likelihood import Spectral
from mrgp.parts.emissions import Gaussian
from mrgp.parts.emissions.beginning import TellingBins
from mrgp.parts.means import Constant
from mrgp.parts.readout import OFFSET
from mrgp.parts.sites import keeping
from mrgp.recordings.folding import ScatterOfBins, ScatterOfFrequencies, folded
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses

type Sites = dict[str, np.ndarray]


def as_they_are(model: "GaussianProcesses", data: MultiRegionData, sites: dict[str, Any]) -> dict[str, Any]:
    """Return sites of another fit unchanged."""
    return sites


def itself[M: GaussianProcesses](model: M) -> M:
    """Return the model."""
    return model


@dataclass(frozen=True)
class Fitting[M: GaussianProcesses]:
    """Steps of a fit of one model; sites are in seconds.

    Attributes:
        model: The model that is fitted.
        drawing: Draws the sites of a start, as :func:`mrgp.families.starts.draw_sites` does.
        scaling: Scales of the sites that describe latents, as those of
            :func:`mrgp.families.scales.scales_of_dynamics` are.
        telling: Bins of a trial that tell of readouts, as :func:`mrgp.families.scales.told_by_spectra` does.
        admitting: Changes sites of another fit to some that the model admits.
        searching: Changes the model to one that is easier to search, whose sites it admits.
    """

    model: M
    drawing: Callable[[M, np.random.Generator, MultiRegionData, int], Sites] = draw_sites
    scaling: Callable[[M, MultiRegionData, Mapping[str, Any]], Sites] = scales_of_dynamics
    telling: Callable[[M, MultiRegionData, Mapping[str, Any]], TellingBins] = told_by_spectra
    admitting: Callable[[M, MultiRegionData, dict[str, Any]], dict[str, Any]] = as_they_are
    searching: Callable[[M], M] = itself

    # ---- the search for a start ----------------------------------------------------------------------------------

    @property
    def held_in_search(self) -> tuple[str, ...]:
        """Sites that the search for a start does not move."""
        return (OFFSET.name, *self.model.loadings.own_sites)

    def for_search(self) -> M:
        """Model for the search for a start: these latents under a cheap likelihood.

        That is the spectral one, where the model has it. It climbs on what :meth:`around_mean` leaves of the recording.
        """
        model = self.searching(self.model)
        likelihood = model.likelihood.unadapted() if model.is_state_space else Spectral()
        delays = model.delays.for_search()
        return model.replace(likelihood=likelihood, mean=Constant(), emission=Gaussian(), delays=delays)

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> Sites:
        """Draw sites at which a climb on pseudo-neurons of unit noise may begin.

        Every fourth attempt is wholly random.
        """
        return self.drawing(self.model, rng, data, attempt)

    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, Sites]:
        """Transform the recording to nearly Gaussian values around a guess of its mean.

        Returns the values, and that guess with those of the emission's own sites.
        """
        return around_mean(self.model, data)

    def first_guess(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Add the sites that only this model has to those of a search or of a simpler model."""
        return completed(self.model, self.admitting(self.model, data, dict(sites)), data)

    def from_other_fit(
        self, other: "GaussianProcesses", sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[M, dict[str, Any]]:
        """Return this model, with sites at which a fit of ``other`` to such a recording ended."""
        return following(self.model, other, self.admitting(self.model, data, dict(sites)), data)

    # ---- the climb -----------------------------------------------------------------------------------------------

    def folded(self, data: MultiRegionData) -> MultiRegionData:
        """Return few trials with weights, of the same density, where they are enough.

        They are where bins or frequencies are independent; otherwise the recording is returned as it is.
        """
        noise, remembers = self.model.emission, self.model.tables.remember(data.layout)
        if not noise.is_uniform or noise.is_of_counts or noise.is_autocorrelated:
            return data
        if remembers:
            return folded(data, ScatterOfFrequencies()) if self.model.likelihood.is_spectral else data
        return folded(data, ScatterOfBins())

    def scales(self, data: MultiRegionData, sites: Mapping[str, Any], known: bool = False) -> Sites:
        """Approximate posterior sd of each site in its unconstrained coordinate.

        See ``inference.optimise``. Of loadings, noise and offsets it is smaller with ``known`` latents, as those of
        factors nearly are.
        """
        model, assignment = self.model, self.model.assignment(data.layout)
        told = (told_by_all if known else self.telling)(model, data, sites).times(data.n_trials)
        scales = model.emission.beginning.scales(sites, told, assignment)
        scales |= self.scaling(model, data, sites)
        scales |= model.mean.scales(sites, data, np.asarray(model.emission.noise_of(sites)), model.duration)
        return scales | model.loadings.scales(assignment)

    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[M, dict[str, Any]] | None:
        """Improve the held sites after a climb; None if they are good already.

        Returns this model and its sites. ``curvature(site)`` gives the negative log density's second derivative by each
        free coordinate of a site.
        """
        extent = self.model.tables.extent(data.layout, data.n_bins)
        found = self.model.delays.learned(sites, curvature, fixed, extent)
        return None if found is None else (self.model.replace(delays=found[0]), found[1])

    # ---- what it changes in the model ----------------------------------------------------------------------------

    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> M:
        """Choose the registers that ``sites`` need, were timescales ``margin`` times as long."""
        model = self.model
        if not model.likelihood.is_statespace or model.is_state_space:
            return model
        return model.replace(likelihood=model.likelihood.adapted(latents_at(model, data, sites), margin))

    def narrowed(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> M:
        """Choose the fewest registers for delays within ``margin`` seconds of those of ``sites``."""
        model = self.model
        if not model.likelihood.is_statespace:
            return model
        bins = margin / data.bin_width
        return model.replace(likelihood=model.likelihood.narrowed(latents_at(model, data, sites), bins))

    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float:
        """Largest share of a latent's variance that the likelihood misses at ``sites``."""
        return self.model.likelihood.unread_variance(latents_at(self.model, data, sites))

    def keeping(self, sites: Mapping[str, Any], layout: Layout, across: np.ndarray) -> tuple[M, dict[str, Any]]:
        """Keep some of the across latents of the model and its sites, by index."""
        model, n_columns = self.model, self.model.assignment(layout).n_columns
        columns = np.concatenate([across, np.arange(model.n_across, n_columns)])
        fewer = model.replace(n_across=len(across), delays=model.delays.keeping(across))
        return fewer, keeping(sites, across, columns)
