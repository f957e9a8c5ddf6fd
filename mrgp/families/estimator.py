"""Estimator of scikit-learn, for its pipelines and searches, made of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrgp.families.model import Model
from mrgp.families.parameters import parameters_of, with_parameters
from mrgp.inference.method import Method
from mrgp.part import Part
from mrgp.recordings.checks import DataError, need
from mrgp.recordings.joining import join_trials
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError:  # without the extra [sklearn]: an Estimator then says so as it is made

    class BaseEstimator:  # type: ignore[no-redef]
        """Stand-in for scikit-learn's base class."""

        def __new__(cls, *_: Any, **__: Any) -> Any:
            return need("sklearn", f"mrgp.{cls.__name__}", "sklearn", "scikit-learn")

    class TransformerMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn's base class."""


ONE_REGION = "region1"  # as a file without names has it


class Estimator(TransformerMixin, BaseEstimator):
    """Model with the manners of scikit-learn: ``fit``, ``transform``, ``score``.

    Needs scikit-learn, which the extra ``mrgp[sklearn]`` installs. A sample is a trial, and the first axis of
    everything that is given divides trials, which cross-validation deals out. What may be given:

    - a :class:`mrgp.MultiRegionData`, or a list of those, whose trials are joined;
    - an array (trials, bins, neurons), NaN where missing;
    - a list of arrays (bins, neurons), one for each trial, which may differ in length;
    - an array (samples, neurons), or a table of pandas: each row is a trial of one bin, as scikit-learn's
      ``FactorAnalysis`` has it. A single trial of many bins is a list of one array: ``[y]``.

    Settings of the model are ``model__NAME``, those of its parts ``model__PART__NAME``::

        search = GridSearchCV(mrgp.Estimator(GPFA(), bin_width=0.02), {"model__n_across": range(1, 6)}, cv=4)
        search.fit(data).best_estimator_.fit_

    Args:
        model: The model, as it is or with other settings by ``set_params(model__n_across=3)``.
        bin_width: Seconds per bin of arrays; recordings have their own.
        regions: Name of each region -> its number of neurons, in the order of the columns of arrays; None for one
            region.
        method: As ``model.fit`` has it.
        seed: Of the fit.
        settings: Other keywords of ``model.fit``, such as ``{"max_iterations": 100}``; without a progress bar unless
            ``{"progress": True}``.

    Attributes:
        fit_: The :class:`mrgp.Fit`, with all that it can do besides.
        n_features_in_: Neurons of the recording it was fitted to.
    """

    def __init__(
        self,
        model: Model,
        *,
        bin_width: float | None = None,
        regions: Mapping[str, int] | None = None,
        method: Method | str | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.bin_width = bin_width
        self.regions = regions
        self.method = method
        self.seed = seed
        self.settings = settings

    # ---- settings ------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name; ``deep`` adds those of model and method."""
        own: dict[str, Any] = super().get_params(deep=False)
        parts = {name: value for name, value in own.items() if deep and isinstance(value, Part)}
        return own | {
            f"{name}__{inside}": value for name, part in parts.items()
            for inside, value in parameters_of(part, True).items()
        }  # fmt: skip

    def set_params(self, **params: Any) -> "Estimator":
        """Change settings, and return the estimator.

        Raises:
            ValueError: there is no such setting.
        """
        nested: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            head, divided, rest = name.partition("__")
            if not divided:
                super().set_params(**{name: value})
            else:
                nested.setdefault(head, {})[rest] = value
        for head, changes in nested.items():
            part = self.get_params(deep=False).get(head)
            if not isinstance(part, Part):
                first = f"{head}__{next(iter(changes))}"
                raise DataError(f"there is no setting {first!r}: choose from {', '.join(self.get_params())}")
            setattr(self, head, with_parameters(part, changes))
        return self

    # ---- fit, and what it says -----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> "Estimator":
        """Fit the model to trials.

        Args:
            X: Trials, in any of the forms above.
            y: Ignored.

        Raises:
            DataError: trials cannot be used, or do not suit the model.
        """
        data = self._recording(X, first=True)
        settings = {"progress": False, "seed": self.seed, **(self.settings or {})}
        self.fit_ = self.model.fit(data, self.method, **settings)
        self.n_features_in_ = data.layout.total_neurons
        return self

    def transform(self, X: Any) -> Any:
        """Return the posterior mean of the latents of trials.

        Those across regions stand before those within.

        Returns:
            (samples, latent) for an array (samples, neurons); a list of (bins, latent) for a list of arrays;
            (trials, bins, latent) for recordings and other arrays.
        """
        shown = self._fitted().latents(self._recording(X))
        means = [shown[f"{kind}_mean"] for kind in ("across", "within") if f"{kind}_mean" in shown]
        latents = np.concatenate([np.asarray(mean) for mean in means], axis=2)
        if _is_list_of_trials(X):
            return [trial[: len(given)] for trial, given in zip(latents, X, strict=True)]
        return latents[:, 0] if _is_table(X) else latents

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log p(y | parameters) of each trial in nats, (trial,); of counts a lower bound."""
        return np.asarray(self._fitted().log_likelihood(self._recording(X)))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log likelihood per trial, in nats; ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the latents in the order of ``transform``: across0, within_V1:0."""
        fit = self._fitted()
        shown = fit.latents(fit.data.select_trials([0]))
        kinds = [kind for kind in ("across", "within") if f"{kind}_mean" in shown]
        names = {kind: shown[f"{kind}_mean"].coords[f"{kind}_latent"].values for kind in kinds}
        start = {"across": "across", "within": "within_"}
        return np.array([f"{start[kind]}{name}" for kind in kinds for name in names[kind]], object)

    # ---- how trials are read -------------------------------------------------------------------------------------

    def _fitted(self) -> Any:
        """Return the fit.

        Raises:
            NotFittedError: there is none yet.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "fit_")
        return self.fit_

    def _recording(self, X: Any, *, first: bool = False) -> MultiRegionData:
        """Make a recording of trials; ``first`` are those that the model is fitted to."""
        if isinstance(X, MultiRegionData):
            return X
        if _is_recordings(X):
            return join_trials(X)
        trials = list(X) if _is_list_of_trials(X) else self._table(X, first) if _is_table(X) else np.asarray(X)
        counts = {np.shape(trial)[-1] for trial in trials}
        width = next(iter(counts), 0)
        regions = {ONE_REGION: width} if self.regions is None else dict(self.regions)
        if sum(regions.values()) != width or len(counts) > 1:
            listed = " + ".join(map(str, regions.values()))
            found = " or ".join(map(str, sorted(counts)))
            raise DataError(f"trials have {found} neurons, but regions have {listed}: give regions= as the columns are")
        if self.bin_width is None:
            raise DataError("arrays have no bin width: make the estimator with ", Argument("bin_width", 0.02))
        ends = np.cumsum(list(regions.values()))
        columns = {name: slice(end - n, end) for (name, n), end in zip(regions.items(), ends, strict=True)}
        arrays: dict[str, Any] = {
            name: trials[..., part] if isinstance(trials, np.ndarray) else [np.asarray(one)[:, part] for one in trials]
            for name, part in columns.items()
        }
        return MultiRegionData(arrays, self.bin_width, drop_dead=False if first else None)

    def _table(self, X: Any, first: bool) -> np.ndarray:
        """Check an array (samples, neurons) as scikit-learn does, and make trials of one bin of it."""
        from sklearn.utils.validation import validate_data

        least = 2 if first else 1
        table = validate_data(self, X, reset=first, ensure_all_finite="allow-nan", ensure_min_samples=least)
        return np.asarray(table)[:, None]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _is_recordings(X: Any) -> bool:
    """True for a list of recordings."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(isinstance(part, MultiRegionData) for part in X)


def _is_list_of_trials(X: Any) -> bool:
    """True for a list of arrays (bins, neurons)."""
    of_many = isinstance(X, list | tuple) and len(X) > 0 and not _is_recordings(X)
    return of_many and all(np.asarray(trial).ndim == 2 for trial in X)


def _is_table(X: Any) -> bool:
    """True for an array (samples, neurons), and for what is refused because it is none."""
    forms = isinstance(X, MultiRegionData) or _is_recordings(X) or _is_list_of_trials(X)
    return not forms and np.asarray(X).ndim != 3
