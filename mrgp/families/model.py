"""Base of all models: a frozen description that is itself the NumPyro program.

A model holds choices in the user's units (seconds), and has ``.fit``. Called with a recording inside NumPyro it runs
the generative program; the members of a family (``families/gaussian_process.py``) in ``models/`` write that program.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import xarray as xr

from mrgp.families.earlier_settings import translated
from mrgp.families.parameters import Parametrised
from mrgp.inference.density import free_sites
from mrgp.inference.driver import drive
from mrgp.inference.expectation_maximization.moments import Updates
from mrgp.inference.method import Method
from mrgp.inference.run import Options
from mrgp.part import Part, chosen
from mrgp.parts.dynamics import Dynamics
from mrgp.parts.emissions import Emission
from mrgp.parts.latents import LatentLayout
from mrgp.parts.populations import Known, Populations
from mrgp.parts.sites import site_of
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import require_regular
from mrgp.recordings.units import seconds
from mrgp.results.amortised_conditional import why_no_density
from mrgp.results.conditional import Conditional
from mrgp.results.fit import CHOSEN, Fit
from mrgp.runtime.display import Card
from mrgp.runtime.sentences import Argument, Refusal, Sentence
from mrgp.runtime.workers import TRACING


class Model(Parametrised, Part, family="model", tag="model"):
    """Base class of models; subclasses write the generative program in ``__call__``.

    For the arguments of models with Gaussian-process latents see
    :class:`mrgp.families.gaussian_process.GaussianProcesses`.
    """

    emission: Emission

    fit_class: ClassVar[type[Fit]] = Fit
    regions_needed: ClassVar[int] = 1
    sends_messages: ClassVar[bool] = False  # from region to region, of which its fits then tell
    is_simulated: ClassVar[bool] = False  # by mrgp.simulate, which designs neurons and draws trials exactly
    pools_regions: ClassVar[bool] = False  # all neurons are one population
    knows_times: ClassVar[bool] = False  # bins may be at irregular times
    has_dynamics: ClassVar[bool] = False  # of latents, learned
    is_autoencoder: ClassVar[bool] = False  # latents are read from the values: there is no log p(y), and no new trial
    found_by_fit: ClassVar[tuple[str, ...]] = ()  # choices that a fit may change for good
    sizes: ClassVar[tuple[str, ...]] = ()  # choices that count latents or states, which cross-validation compares
    methods: ClassVar[tuple[str, ...]] = ("map", "laplace", "svi", "nuts")
    """Ways to fit it, the default first."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):  # else a dataclass writes one, with every default
            cls.__repr__ = Model.__repr__  # type: ignore[method-assign]

    @classmethod
    def written_name(cls) -> str:
        return cls.__name__.lower()

    @classmethod
    def translated(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return translated(settings, cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in chosen(self, CHOSEN).items())})"

    def _repr_html_(self) -> str:
        return Card(type(self).__name__, chosen(self, CHOSEN)).html()

    def __call__(self, data: MultiRegionData) -> None:
        """Run the generative program: sample sites, and observe the recording as site ``y``.

        Sites are in seconds.
        """
        raise NotImplementedError

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Conditional:
        """Return the model with its parameters, given a recording."""
        raise NotImplementedError

    def learned_dynamics(self, layout: Layout, sites: Mapping[str, Any]) -> Dynamics:
        """Return the dynamics of latents that parameters stand for.

        Raises:
            ValueError: the model has learned none.
        """
        raise ValueError(f"{type(self).__name__} has no learned dynamics: use a model such as NeuralODE")

    def assignment(self, layout: Layout) -> LatentLayout | None:
        """Layout of latents among the neurons of a recording; None if they are of no region.

        Raises:
            ValueError: the numbers of latents are for other regions.
        """
        return None

    @property
    def populations(self) -> Populations:
        """Groups of neurons that have latents of their own: the regions, unless it says more."""
        return Known()

    @property
    def is_bound(self) -> bool:
        """True if ``log_likelihood`` is a lower bound of log p(y)."""
        return self.emission.is_of_counts

    @property
    def knows_conditions(self) -> bool:
        """True if something is different in trials of each condition."""
        return False

    @property
    def usual_settings(self) -> Mapping[str, Any]:
        """Settings of methods that suit the model better than their defaults."""
        return {}

    @property
    def updates(self) -> Updates:
        """M-step of it, where method "em" is one of its methods."""
        raise NotImplementedError(f"{type(self).__name__} has no updates of expectation-maximization")

    @property
    def asked(self) -> Self:
        """The model as a user described it, without what a fit has found for it."""
        return self

    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        """Put parameters into the order that a fit shows, where no recording can decide it."""
        return {name: np.asarray(value) for name, value in sites.items()}

    def why_no_maximum(self, data: MultiRegionData) -> Sentence | None:
        """Reason why log p(y, parameters) has no maximum that says anything, or None."""
        return None

    @property
    def held(self) -> tuple[str, ...]:
        """Sites that climbs leave alone: the start of a fit sets them, or the fit between climbs."""
        return ()

    @property
    def has_course(self) -> bool:
        """True if something changes over a trial in the same way in all of them: a mean, or a delay."""
        return False

    @property
    def lacks_duration(self) -> bool:
        """True if it has courses over a trial, and nobody has said how long trials are."""
        return False

    def prepared(self, data: MultiRegionData) -> Self:
        """Complete the model with settings that it takes from the recording to be fitted."""
        return self.replace(duration=data.n_bins * data.bin_width) if self.lacks_duration else self

    # ---- the likelihood ------------------------------------------------------------------------------------------

    def log_likelihood(self, data: MultiRegionData, params: Mapping[str, Any]) -> xr.DataArray:
        """Compute log p(y_trial | params) in nats, (trial,).

        ``params`` come from ``fit.sites``, or of another program from ``model.params_from``. Of counts it is a lower
        bound, in which the trials given share the covariances of latents.

        Raises:
            DataError: the model is an autoencoder, which has no log p(y).
        """
        if self.is_autoencoder:
            raise DataError(why_no_density(type(self).__name__))
        self._check_times(data)
        self.emission.check_values(data)
        with TRACING:
            scores = self.conditional(data, params).log_likelihood()
        coords = {"trial": np.arange(data.n_trials)}
        return xr.DataArray(scores, coords, ("trial",), "log_likelihood", {"units": "nats"})

    # ---- inference -----------------------------------------------------------------------------------------------

    def fit(
        self,
        data: MultiRegionData,
        method: Method | str | None = None,
        *,
        seed: int = 0,
        start: Fit | None = None,
        fixed: Mapping[str, Any] | None = None,
        n_starts: int = Options.n_starts,
        tolerance: float = Options.tolerance,
        max_iterations: int = Options.max_iterations,
        checkpoint: str | Path | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> Fit:
        """Infer the parameters from a recording.

        Fits in threads of one process take turns.

        Args:
            data: The recording; neurons and regions as the model expects.
            method: A :class:`mrgp.Method` or its name. "map": the maximum of log p(y, parameters), latents integrated
                out. "em", for models that have it: the maximum of log p(y | parameters) by expectation-maximization
                (of CoupledLDS that of log p(y, parameters)).
                "vb": variational Bayes, for models with automatic relevance determination. From the maximum on, where
                latents have timescales: "laplace", the Gaussian that fits there; "svi", a variational guide; "nuts",
                draws by Hamiltonian Monte Carlo. None for the model's own default.
            seed: Of the random part of the start; the same seed gives the same fit.
            start: A fit to go on from instead of a search for a start: of this model or one with the same sites, such
                as one with another likelihood, or DLAG for ADM. A model of counts also starts from a Gaussian fit of
                the same counts or of their roots.
            fixed: Sites held at a value in seconds or data units, a number or an array of the site's shape, such as
                ``{"delay": 0}``.
            n_starts: Climbs on the recording's factors, under the spectral likelihood where the model has one; the best
                is polished.
            tolerance: Converged when the last few iterations together gained less than this, in nats.
            max_iterations: Upper bound on iterations.
            checkpoint: A file that keeps the parameters as the fit goes on; a fit that finds it resumes from it, and
                removes it when done.
            progress: Show a progress bar.
            settings: Of the method: see :class:`mrgp.Laplace`, :class:`mrgp.SVI`, :class:`mrgp.NUTS` and
                :class:`mrgp.AmortisedSVI`.

        Raises:
            DataError: the recording does not suit the model, or the fit ended below the model in which every neuron has
                its own mean, and its variance or rate, from three starts; the message names the neuron to look at.
            ValueError: unknown method or setting, an option that the method has no use for, or a ``start`` of another
                shape, of values that are no known function of these counts, or with delays beyond a ``max_delay`` that
                is held.
        """
        self.check(data)
        method = Method.chosen(self.methods[0] if method is None else method, settings, self)
        if (objection := self.objection(method, data)) is not None:
            raise Refusal(f"{type(self).__name__}: ", *objection)
        if start is not None and not start.layout.same_neurons(data.layout):
            raise ValueError(f"start is a fit of {start.layout}, but the recording has {data.layout}")
        place = None if checkpoint is None else Path(checkpoint)
        held = held_at(self, fixed or {}, data)
        options = Options(seed, n_starts, tolerance, max_iterations, place, progress, held)
        began = time.perf_counter()
        with TRACING:
            run = drive(method, self, data, options, start)
        return self.fit_class(
            **vars(run),
            layout=data.layout,
            n_bins=data.n_bins,
            wall_s=time.perf_counter() - began,
            seed=seed,
            fixed=options.fixed_names,
            data=data,
            neurons=data.neurons,
        )

    def objection(self, method: Method | str, data: MultiRegionData) -> Sentence | None:
        """Reason why a method cannot fit this model to a recording, or None."""
        return Method.named(method).objection(self, data) or self.emission.unsuited(data)

    def check(self, data: MultiRegionData) -> None:
        """Raise DataError if nothing can be inferred from a recording.

        Everything that a user is told about the recording is told here. Whatever is made of it inside, such as
        pseudo-neurons or fewer trials, has no names that a user would know.
        """
        data.require(self.regions_needed, type(self).__name__)
        self._check_times(data)
        self.emission.check(data)

    def _check_times(self, data: MultiRegionData) -> None:
        if not self.knows_times:
            require_regular(data.layout, type(self).__name__)


def held_at(model: Model, fixed: Mapping[str, Any], data: MultiRegionData) -> dict[str, np.ndarray]:
    """Check values for some of the sites, and return them as arrays of the sites' shapes.

    Raises:
        ValueError: there is no such site, or it cannot have this value.
    """
    free = free_sites(model.prepared(data), data) if fixed else {}
    held = {}
    for name, value in fixed.items():
        if name not in free:
            known = f": {type(model).__name__} has no site {name!r} to fix; it has {', '.join(free)}"
            raise Refusal(Argument("fixed"), known)
        shape, declared = np.shape(free[name]["value"]), site_of(name)
        if declared is not None and declared.unit == "s":
            value = seconds(f"fixed[{name!r}]", value)
        named = Argument("fixed", name, python=f"fixed[{name!r}]")
        try:
            held[name] = np.broadcast_to(np.asarray(value, float), shape).copy()
        except (TypeError, ValueError) as error:
            raise Refusal(named, f" must be a number or of shape {shape}") from error
        support = free[name]["fn"].support
        if not np.all(support(jnp.asarray(held[name]))):
            bounded_by = "" if declared is None else declared.bounded_by
            raise Refusal(named, " has values that the site cannot take: ", *_allowed(support, bounded_by))
    return held


def _allowed(support: Any, bounded_by: str) -> Sentence:
    """Describe the values that a site's support admits.

    The sentence names the choice that makes it wider, if there is one.
    """
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    bounds: list[Any] = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    low, high = bounds
    if low is None or np.ndim(low) + np.ndim(high) > 0:  # no interval, or one for each entry
        return (f"it is {support}",)
    if high is None:
        return (f"it is above {low:g}",)
    between = f"it is between {low:g} and {high:g}"
    return (between, ", or widen ", Argument(bounded_by)) if bounded_by else (between,)
