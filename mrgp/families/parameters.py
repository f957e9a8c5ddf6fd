"""Settings of parts by name, nested with two underscores, as scikit-learn has them.

``delays__longest`` is the setting ``longest`` of the part in ``delays``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Self

from mrgp.part import SAMPLED, Part, short_names
from mrgp.recordings.checks import DataError


class Parametrised:
    """Parts whose settings are read and changed by name."""

    def get_params(self: Any, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name; with ``deep`` also those of its parts, ``delays__longest``.

        Made again from those of ``deep=False``, the part is the same.
        """
        return parameters_of(self, deep)

    def set_params(self, **params: Any) -> Self:
        """Return a copy with some settings changed; the part itself is frozen and stays as it is.

        Names are those of :meth:`get_params`, and short forms such as ``max_delay``.

        Raises:
            DataError: there is no such setting.
        """
        return with_parameters(self, params)  # type: ignore[type-var]

    def __sklearn_clone__(self) -> Self:
        """Return the part itself, as scikit-learn's clone of it: nobody can change it."""
        return self


def parameters_of(part: Part, deep: bool) -> dict[str, Any]:
    """Settings of a part by name, with ``deep`` also those of parts in it."""
    own = {name: getattr(part, name) for name in _names(part)}
    inner = _inner(own) if deep else ()
    return own | dict(inner)


def with_parameters[P: Part](part: P, params: Mapping[str, Any]) -> P:
    """Copy a part with settings changed, those of its parts after its own.

    Raises:
        DataError: there is no such setting.
    """
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    known = {*_names(part), *short_names(type(part))}  # type: ignore[arg-type]
    for name, value in params.items():
        head, divided, rest = name.partition("__")
        if head not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise DataError(f"{type(part).__name__} has no setting {head!r}: choose from {listed}")
        if divided:
            nested.setdefault(head, {})[rest] = value
        else:
            own[name] = value
    changed = part.replace(**own) if own else part
    for head, changes in nested.items():
        inside = getattr(changed, head)
        if not isinstance(inside, Part):
            first = next(iter(changes))
            holds = f"{head} of {type(part).__name__} is {inside!r}, which has no setting {first!r}"
            raise DataError(f"{holds}: give {head} anew, with that setting")
        changed = changed.replace(**{head: with_parameters(inside, changes)})
    return changed


def _names(part: Part) -> list[str]:
    """Names of the settings that a part is made from."""
    pinned = type(part).pinned_fields()
    return [one.name for one in fields(part) if one.name not in pinned and SAMPLED not in one.metadata]  # type: ignore[arg-type]


def _inner(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Part):
            for below, inside in parameters_of(value, True).items():
                yield f"{name}__{below}", inside
