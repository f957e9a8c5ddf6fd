"""Fitted models: parameters with names and units, and their predictions for a recording."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import numpy as np
import xarray as xr

from mrgp.inference.method import Method
from mrgp.inference.quantity import Quantity
from mrgp.inference.run import Run
from mrgp.part import chosen
from mrgp.recordings.checks import DataError
from mrgp.recordings.known_neurons import known_neurons
from mrgp.recordings.layout import Layout
from mrgp.recordings.neurons import Neurons
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import require_regular
from mrgp.results import arviz_of_latents
from mrgp.results import file as fit_file
from mrgp.results.account import account_of, lights_of_any, titled
from mrgp.results.conditional import Conditional
from mrgp.results.fitted import FittedModel
from mrgp.results.frames import filled, frame_of
from mrgp.results.summary import of_any
from mrgp.runtime.account import Account, Light
from mrgp.runtime.display import Card, Rows, Shown
from mrgp.runtime.versions import versions
from mrgp.runtime.workers import TRACING

if TYPE_CHECKING:
    from mrgp.results.gaussian_process_fit import GaussianProcessFit

CHOSEN = ("n_across",)  # is said of every model that has it
FOUND = ("duration",)  # choices that a fit makes, and nobody has to read


@dataclass(kw_only=True, eq=False, repr=False)
class Fit(Shown, Run[FittedModel]):
    """Parameters of one model inferred from one recording; times are in seconds throughout.

    Here is what fits of all models have; those of models with Gaussian processes have more
    (:class:`mrgp.results.gaussian_process_fit.GaussianProcessFit`). Two fits are equal where they are the same object;
    ``summary()`` and ``sites`` tell others apart.

    Attributes:
        layout: Regions, neurons per region and bin width of the recording.
        n_bins: Bins of its longest trial.
        wall_s, seed: Of the run.
        fixed: Sites that were not inferred.
        data: The recording, while it is in memory; not saved.
        trained_on: Digests of its trials, once the fit is saved (see :meth:`has_seen`).
        preprocessing: What was done to the recording before, as :func:`mrgp.preprocess` takes it; None where nobody has
            said so. The command line does to other recordings what it did to this one.
        versions: Of what the result depends on.
        neurons: Who the neurons of each region are, by which they are known in other recordings.

    Parameters and how they were found are the attributes of :class:`mrgp.inference.run.Run`.
    """

    layout: Layout
    n_bins: int
    wall_s: float
    seed: int
    fixed: tuple[str, ...] = ()
    data: MultiRegionData | None = None
    trained_on: tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=versions)
    neurons: dict[str, Neurons] = field(default_factory=dict)

    def __new__(cls, *, model: FittedModel | None = None, **_: Any) -> "Fit":
        """Make a fit of the class that fits of its model have."""
        return object.__new__(cls if cls is not Fit or model is None else model.fit_class)

    @property
    def has_loadings(self) -> bool:
        """True if neurons read latents by loadings."""
        return False

    @property
    def has_states(self) -> bool:
        """True if dynamics switch with a hidden state."""
        return False

    @property
    def latent_axis(self) -> str:
        """Name of the axis of latents in draws of them."""
        return "across_latent"

    @property
    def has_delays(self) -> bool:
        """True if regions share a latent, each with a delay of its own."""
        return False

    @property
    def is_coupled(self) -> bool:
        """True if regions have linear dynamics of their own that may drive each other."""
        return False

    @property
    def delays_vary(self) -> bool:
        """True if delays change during a trial."""
        return False

    @property
    def uncertain_sites(self) -> tuple[str, ...]:
        """Sites of which the maximum has a posterior around it; none, unless the family says so."""
        return ()

    @property
    def has_relevance(self) -> bool:
        """True if the model infers which region reads which latent."""
        return False

    @property
    def n_samples(self) -> int:
        """Number of draws of the posterior in all chains together; 0 if the method gives none."""
        return 0 if self.samples is None else int(np.prod(next(iter(self.samples.values())).shape[:2]))

    @property
    def method_class(self) -> type[Method]:
        """Class of the method; :class:`mrgp.Method` itself where that is not defined here."""
        return Method.known(self.method)

    @property
    def climbs(self) -> Quantity:
        """Quantity that is in ``trace``."""
        return self.method_class.climbs_of(self.model)

    @property
    def climbed(self) -> str:
        """Name of the quantity in ``trace``, in symbols."""
        return self.climbs.symbols

    @property
    def populations(self) -> tuple[str, ...]:
        """Regions of the model: those of the recording, or one where the model pools them."""
        pooled = self.model.pools_regions and self.layout.n_regions > 1
        return ("all",) if pooled else self.layout.regions

    @property
    def time_coords(self) -> dict[str, Any]:
        """Start of every bin in seconds."""
        return {"time": self.layout.starts(self.n_bins)}

    @property
    def n_parameters(self) -> int:
        """Count of the numbers that were inferred, with loadings that a region does not use."""
        return sum(np.size(value) for name, value in self.sites.items() if name not in (*self.fixed, *self.model.held))

    # ---- what it says of a recording -----------------------------------------------------------------------------

    def recording(self, data: MultiRegionData | None = None) -> MultiRegionData:
        """Return ``data`` as far as the fit knows its neurons, or else the fit's own recording.

        Raises:
            DataError: there is none, or it has not all that the fit knows (see :meth:`known`).
        """
        if data is None and self.data is None:
            raise DataError("this fit was loaded from a file and holds no recording: pass data=, as it was fitted to")
        if not isinstance(data, MultiRegionData | None):
            raise TypeError(f"data is a recording, not {data!r}: give other arguments by name, such as trial=2")
        data = self.data if data is None else self.known(data)
        assert data is not None
        if data.layout != self.layout and self.model.knows_conditions:
            data = data.among(self.layout.conditions)
        if not data.layout.same_neurons(self.layout):
            raise DataError(f"the recording has {data.layout}, but the fit is of {self.layout}")
        if not self.model.knows_times:
            require_regular(data.layout, type(self.model).__name__)
        if (why := self.model.emission.unsuited(data)) is not None:
            raise DataError(f"{type(self.model).__name__}: ", *why)
        return data

    @property
    def for_scoring(self) -> "Fit":
        """The fit, under a likelihood that knows missing entries."""
        return self

    def known(self, data: MultiRegionData) -> MultiRegionData:
        """Leave out regions and neurons that the fit does not know; a warning names them.

        A neuron is known by its label, where the fit's recording and this one have labels; else by its position, where
        both were made from arrays of as many neurons, of which some were left out.

        Raises:
            DataError: a region or a neuron that the fit knows is not there.
        """
        return known_neurons(self.layout, self.neurons, data)

    @property
    def training_trials(self) -> tuple[str, ...]:
        """Digests of the trials that the parameters were inferred from.

        There are none for a fit whose file does not name its trials.
        """
        return self.trained_on if self.data is None else tuple(self.data.trial_fingerprints)

    def has_seen(self, data: MultiRegionData) -> np.ndarray | None:
        """True for trials that the fit was made from, (trial,); None if its file names none."""
        known = self.training_trials
        if not known:
            return None
        digests = self.known(data).digests
        return np.isin(digests.of_trials, known) | np.isin(digests.whole, known)

    def conditional(self, data: MultiRegionData | None = None) -> Conditional:
        """Return the model with the fit's parameters, given a recording."""
        return self.model.conditional(self.recording(data), self.sites)

    def log_likelihood(self, data: MultiRegionData | None = None) -> xr.DataArray:
        """log p(y_trial | parameters) in nats, (trial,); a lower bound for counts and guides.

        Raises:
            DataError: the model is an autoencoder, which has no log p(y).
        """
        return self.model.log_likelihood(self.recording(data), self.sites)

    def latents(self, data: MultiRegionData | None = None, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents, on region 1's clock and ``refine`` points per bin.

        Returns:
            ``across_mean``, ``across_sd`` (trial, time, across_latent) and ``within_mean``, ``within_sd``
            (trial, time, within_latent); time in seconds; a priori every latent has mean 0 and sd 1.
        """
        if refine < 1:
            raise ValueError(f"refine is the number of points per bin, at least 1, not {refine}")
        return self.conditional(data).latents(refine)

    def predict(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Reconstruct every region from the whole recording: mean, and sd of a new observation.

        Returns:
            ``<region>_mean`` and ``<region>_sd``, (trial, time, neuron_<region>); missing entries are filled in.
            Of counts they are of a new count, as q (see :mod:`mrgp.likelihoods.bound`) has its log-rate.
        """
        data = self.recording(data)
        mean, sd = self.conditional(data).predictive()
        arrays: dict[str, Any] = {}
        for region, part in data.layout.region_slices.items():
            dims = ("trial", "time", f"neuron_{region}")
            arrays |= {f"{region}_mean": (dims, mean[..., part]), f"{region}_sd": (dims, sd[..., part])}
        return xr.Dataset(arrays, {"trial": np.arange(data.n_trials), "time": data.times})

    def sample(
        self, n_trials: int, n_bins: int, seed: int = 0, conditions: Sequence[str] | None = None
    ) -> MultiRegionData:
        """Draw a new recording from the fitted model.

        ``conditions`` are those of its trials; None for all conditions in turn.
        """
        frame = frame_of(self, n_trials, n_bins, conditions)
        drawn = np.asarray(self.conditional(frame).sample(jax.random.key(seed)))
        return filled(frame, drawn)

    def to_arviz(
        self,
        data: MultiRegionData | None = None,
        n_draws: int | None = None,
        seed: int = 0,
        latents: bool = False,
    ) -> xr.DataTree:
        """Convert to an ArviZ DataTree.

        Groups: ``posterior``, draws of the latents of each trial given the recording, (chain, draw, trial, time,
        latent), ``n_draws`` of them (None: 100); ``posterior_predictive`` and ``observed_data``, each neuron's mean
        over the observed bins of each trial; ``constant_data``, the parameters. With ``latents`` also :meth:`latents`.
        The bounds of log p(y) of the trials are no likelihoods of draws: there is no group ``log_likelihood``.
        """
        with TRACING:
            return arviz_of_latents.build(self, self.recording(data), n_draws, seed, latents)

    # ---- saving --------------------------------------------------------------------------------------------------

    def tables(self, bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None) -> list[Rows]:
        """Tables of the parameters that the model has names for, as rows of text; none here."""
        return []

    @property
    def choices(self) -> dict[str, str]:
        """Settings of the model that a user has chosen, as text."""
        return {name: value for name, value in chosen(self.model.asked, CHOSEN).items() if name not in FOUND}

    def _card(self) -> Card:
        facts = {
            "recording": f"{self.layout}",
            "settings": ", ".join(f"{name}={value}" for name, value in self.choices.items()),
            "ended": f"{self.reason}, after {self.iterations} iterations and {self.wall_s:.1f} s",
        }
        if len(self.trace) and self.climbs.rises:
            facts[self.climbed] = f"{self.trace[-1]:.2f} nats{self.climbs.remark}"
        if self.n_samples:
            facts["draws"] = str(self.n_samples)
        if self.fixed:
            facts["fixed"] = ", ".join(self.fixed)
        state = "converged" if self.converged else "NOT converged"
        headline = f"Fit of {type(self.model).__name__} by method {self.method!r}, {state}"
        tables, advice = self._shown()
        return Card(headline, facts, tables, self.notes, advice)

    def _account(self) -> Account:
        summary, bounds = self.summary(), self._bounds_at_hand()
        lights, sentences = self._judged(bounds)
        return account_of(self, summary, lights_of_any(self, summary) + lights, sentences, titled(self, bounds))

    def _judged(self, bounds: xr.Dataset | None) -> tuple[list[Light], Sequence[str]]:
        """Diagnostics and answers of the family's own, for a report."""
        return [], ()

    def _bounds_at_hand(self) -> xr.Dataset | None:
        """Intervals of delays if they are quick to give; None of models without delays."""
        return None

    def _shown(self) -> tuple[list[Rows], str]:
        """Tables that a card shows, and what to ask for besides."""
        return self.tables(), ""

    def summary(self) -> dict[str, Any]:
        """Summary that the command line writes, ready for JSON, in seconds and nats.

        It holds only entries that exist for the model.
        """
        return of_any(self, {})

    def save(self, path: str | Path) -> None:
        """Write the fit as NetCDF; an existing file is replaced once the new one is complete."""
        fit_file.write(self, Path(path))


def of_processes(fit: Fit) -> "TypeGuard[GaussianProcessFit]":
    """True for fits of Gaussian processes, which have loadings, timescales and delays."""
    return fit.has_loadings


def load_fit(path: str | Path) -> Fit:
    """Load a fit that ``fit.save`` wrote.

    The file holds parameters, not the recording: what needs it takes ``data=``, as ``fit.latents(data=data)`` and
    ``mrgp.plots.plot_latents(fit, data)`` do. Intervals of delays are there if they were computed before ``fit.save``.

    Raises:
        DataError: the file is missing, damaged or not a fit.
    """
    fields = fit_file.read(Path(path))
    return fields["model"].fit_class(**fields)
