"""Candidates of a cross-validation: settings of a model that are tried together."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

from mrgp.families.model import Model
from mrgp.families.sizes import n_parameters, private_latents
from mrgp.part import Part, short_names
from mrgp.recordings.layout import Layout

LATENTS = ("n_across", "n_within")  # latents that regions share, and private ones of each
KINDS = {LATENTS[0]: "shared latents", LATENTS[1]: "private latents", "n_states": "states", "n_global": "global states"}
"""Sizes of models, and words for what they count."""

COLUMNS = {"mean": "mean_of_model"}
"""Names in tables of settings whose own name is that of a score there."""

type Tried = Mapping[str, Iterable[Any]]


@dataclass(frozen=True, init=False, repr=False)
class Candidate:
    """Settings of a model that are tried together, such as numbers of latents or states.

    ``Candidate(3, (17, 1))`` is ``Candidate(n_across=3, n_within=(17, 1))``; another is
    ``Candidate(n_states=2, n_within=(3, 3))``. Settings are read as attributes: ``candidate.n_states``. What is one
    number for all regions or one per region, stands here region by region.

    Attributes:
        settings: Names and values.
    """

    settings: tuple[tuple[str, Any], ...]

    def __init__(self, *latents: Any, **settings: Any) -> None:
        if len(latents) > len(LATENTS):
            raise TypeError(f"a candidate has {' and '.join(LATENTS)} by position: give other settings by name")
        own = dict(zip(LATENTS, latents, strict=False)) | settings
        object.__setattr__(self, "settings", tuple(own.items()))

    def __getattr__(self, name: str) -> Any:
        known = dict(vars(self).get("settings", ()))
        if name not in known:
            raise AttributeError(f"the candidate has no setting {name!r}: it has {', '.join(known)}")
        return known[name]

    def __str__(self) -> str:
        """Name such as ``3+17/1``: 3 across latents, 17 within region 1, 1 within region 2.

        ``3`` if none is private. Other settings stand by their names: ``n_states=2, n_within=3/3``.
        """
        own = dict(self.settings)
        first = []
        if set(LATENTS) <= own.keys():
            across, within = (own.pop(name) for name in LATENTS)
            first = [f"{across}+{in_words(within)}" if any(within) else str(across)]
        return ", ".join([*first, *(f"{name}={in_words(value)}" for name, value in own.items())])

    def __repr__(self) -> str:
        return f"Candidate({', '.join(f'{name}={value!r}' for name, value in self.settings)})"

    def of[M: Model](self, model: M) -> M:
        """Return ``model`` with these settings."""
        # Models that pool regions have no private latents, and take no tuple of them.
        none = {name: 0 for name, value in self.settings if isinstance(value, tuple) and value and not any(value)}
        return model.replace(**dict(self.settings) | none)

    def written(self) -> dict[str, Any]:
        """Return the settings by name, as JSON has them."""
        return {name: v.to_settings() if isinstance(v, Part) else v for name, v in self.settings}


def in_words(value: Any) -> str:
    """Write a setting in few letters: ``17/1`` of numbers, ``V1/V2+V2/V1`` of pairs."""
    if not isinstance(value, tuple):
        return str(value.as_written() if isinstance(value, Part) else value)
    nested = any(isinstance(part, tuple) for part in value)
    return ("+" if nested else "/").join(map(in_words, value)) or "none"


def candidate_of(record: Mapping[str, Any], model: Model, names: Iterable[str]) -> Candidate:
    """Find the candidate of a record, which may come from a file."""
    return Candidate(**{name: _read(record[name], name, model) for name in names})


def _read(value: Any, name: str, model: Model) -> Any:
    if isinstance(value, Mapping):
        return getattr(model.with_settings({name: value}), name)
    return tuple(_read(part, name, model) for part in value) if isinstance(value, list | tuple) else value


def names_of(model: Model, tried: Iterable[str]) -> tuple[str, ...]:
    """Names of the settings that candidates have: sizes of the model, and what else is tried.

    Raises:
        ValueError: the model has no such setting.
    """
    known = [field.name for field in fields(model)] + list(short_names(type(model)))  # type: ignore[arg-type]
    names = tuple(dict.fromkeys([*model.sizes, *tried]))
    if not names:
        raise ValueError(f"{type(model).__name__} has no sizes of its own: give tried={{name: values}}")
    if unknown := [name for name in names if name not in known]:
        own = ", ".join(name for name in known if name not in model.pinned_fields())
        raise ValueError(f"{type(model).__name__} has no setting {unknown[0]!r} to try: it has {own}")
    return names


def grid(model: Model, layout: Layout, tried: Tried) -> list[Candidate]:
    """List all combinations of values, each once, in the order given.

    Sizes that are not tried stay as they are.

    Raises:
        ValueError: there is none, the model does not suit one, or their scores would not compare.
    """
    names = names_of(model, tried)
    values = [_listed(tried[name]) if name in tried else [getattr(model, name)] for name in names]
    found: dict[Candidate, bool] = {}
    for combination in itertools.product(*values):
        own = {name: _plain(value) for name, value in zip(names, combination, strict=True)}
        if set(LATENTS) <= own.keys() and not np.any(own["n_across"]) and not np.any(own["n_within"]):
            continue
        changed = model.replace(**own)
        n_parameters(changed, layout)  # raises where it does not suit the recording, before hours of work
        own = {name: getattr(changed, name) for name in names}
        private = {name: private_latents(changed, layout) for name in own if name == LATENTS[1]}
        found[Candidate(**own | private)] = changed.emission.is_of_counts
    if not found:
        raise ValueError("there is no candidate: give numbers of latents that are not all 0")
    if len(set(found.values())) > 1:
        raise ValueError("log p of counts and of values with Gaussian noise do not compare: try one kind of emission")
    return list(found)


def _listed(values: Any) -> list[Any]:
    """Return the values to try as a list; a single number or name becomes a list of one."""
    return [values] if isinstance(values, Real | str) else list(values)


def _plain(value: Any) -> Any:
    """Return a value as models hold it: numbers of Python, and tuples."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple | np.ndarray) else value
