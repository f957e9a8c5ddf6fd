"""Parts of models: choices with names, written as JSON and changed by ``replace``.

A family is a kind of part, such as :class:`mrgp.Kernel`; a class that inherits from a family is one of its members from
then on, by its name. A part is a frozen dataclass whose fields are numbers, text, or parts of other families::

    @dataclass(frozen=True)
    class Exponential(mrgp.Kernel):
        def cov(self, tau):
            return jnp.exp(-jnp.abs(tau))

This is the one place where a name becomes an object.
"""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self, get_args

ZOO = "mrgp.models"  # its members enter themselves as it is imported, which takes seconds: not before one is asked for
SAMPLED = "sampled"  # marks a field that a program fills: no setting
PINNED = "pinned"  # marks a field that a class has no use for: it keeps its default
FAMILIES: dict[str, type["Part"]] = {}


def pinned(value: Any, instead: str = "") -> Any:
    """Field of a part whose value cannot be chosen, such as the kernel of white latents.

    A class that inherits from the part may declare the field anew, and then it can. ``instead`` is what to do for
    another value.
    """
    return dataclasses.field(default=value, metadata={PINNED: instead})


class Part:
    """Choice in a model, with a name and settings of its own.

    A family says so as it is defined, ``class Kernel(Part, family="kernel")``.

    Attributes:
        family: The word for the kind of part.
        tag: Under which the name stands in JSON; "" for a family of one class, which needs no name there.
        short: Whether users write its names in text, such as "negative_binomial".
        known_as: Of a member, its name where that is not the one of its class.
        short_forms: Settings by the names that they have in calls of what the part is in, such as ``max_delay``.
    """

    family: ClassVar[str] = ""
    tag: ClassVar[str] = "class"
    short: ClassVar[bool] = False
    known_as: ClassVar[str]
    short_forms: ClassVar[Mapping[str, str]] = {}
    _members: ClassVar[dict[str, type["Part"]]]

    def __init_subclass__(
        cls,
        *,
        family: str | None = None,
        tag: str = "class",
        short: bool = False,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family, cls.tag, cls.short, cls._members = family, tag, short, {}
            FAMILIES[family] = cls
        elif cls.family and not abstract:
            known = cls._members.get(_plain(cls.written_name()))
            if known is not None and known.__module__.startswith("mrgp.") and known.__module__ != cls.__module__:
                raise ValueError(f"{cls.family} {cls.written_name()!r} is built in: give the class another name")
            cls._members[_plain(cls.written_name())] = cls

    @classmethod
    def members(cls) -> Mapping[str, type[Self]]:
        """Members of the family by name, in lower case and in one word."""
        return cls._members  # type: ignore[return-value]

    @classmethod
    def member(cls, name: str) -> type[Self]:
        """Find the member of the family with this name.

        Raises:
            ValueError: there is none.
        """
        if _plain(name) not in cls._members:
            raise ValueError(f"{cls.family} {name!r} is not defined here: define its class, then load the file again")
        return cls.members()[_plain(name)]

    @classmethod
    def named(cls, value: Self | str) -> Self:
        """Return a part as it is, or the member of a name with its default settings.

        Raises:
            ValueError: there is no such member.
        """
        if isinstance(value, str) and _plain(value) in cls._members:
            member = cls.members()[_plain(value)]
            if any(field.default is dataclasses.MISSING for field in _settings_of(member)):
                raise ValueError(f"{cls.family} {value!r} has settings: give {member.__name__}(...) with them")
            return member()
        if not isinstance(value, cls) and not cls.short:
            first = next(iter(cls.members().values())).__name__
            raise TypeError(f"{cls.family} must be an mrgp.{cls.__name__} such as mrgp.{first}(), not {value!r}")
        if not isinstance(value, cls):
            *others, last = (repr(member.written_name()) for member in cls.members().values())
            raise ValueError(f"{cls.family} is {', '.join(others)} or {last}, not {value!r}")
        return value

    def resolve(self, **short: Any) -> None:
        """Replace names in fields by the parts that they name, and hand short forms on to them.

        A part that has parts calls it as it is made, with the values of its ``InitVar`` fields. Each is a short form
        (``short_forms``) of a setting of one of its parts; None leaves the setting as it is.

        Raises:
            ValueError: a name is unknown, no part has that setting, or a field was given that the class has no use for.
        """
        own = type(self)
        for field, family in _families_of(own).items():  # type: ignore[arg-type]
            try:
                object.__setattr__(self, field, family.named(getattr(self, field)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{own.__name__}: {error}") from error
        for setting in dataclasses.fields(self):  # type: ignore[arg-type]
            if PINNED in setting.metadata and getattr(self, setting.name) != setting.default:
                instead = setting.metadata[PINNED] and f", or {setting.metadata[PINNED]}"
                raise ValueError(f"{own.__name__} has no use for {setting.name}: leave it out{instead}")
        for setting in dataclasses.fields(self):  # type: ignore[arg-type]
            if taken := [f for f in _families_of(own) if setting.name in getattr(self, f).short_forms]:  # type: ignore[arg-type]
                raise TypeError(f"{own.__name__}: {setting.name} is short for a setting of {taken[0]}: declare that")
        for name, value in short.items():
            self._set_short(name, value)

    @classmethod
    def pinned_fields(cls) -> set[str]:
        """Names of the fields that the class has no use for."""
        return {field.name for field in dataclasses.fields(cls) if PINNED in field.metadata}  # type: ignore[arg-type]

    def _set_short(self, name: str, value: Any) -> None:
        """Set a setting that has a short form; afterwards the short form reads as it."""
        parts = ((field, getattr(self, field)) for field in _families_of(type(self)))  # type: ignore[arg-type]
        field, part = next(((f, part) for f, part in parts if name in part.short_forms), ("", None))
        if part is None:
            if value is not None and value is not False:
                raise ValueError(f"{type(self).__name__}{self._owner_of(name)}")
            return
        setting = part.short_forms[name]
        if value is not None:
            if getattr(part, setting) not in (_usual(part, setting), value):
                both = f"{name}={value!r} contradicts {field}={part.as_written()}"
                raise ValueError(f"{type(self).__name__}: {both}: give one")
            try:
                part = part.replace(**{setting: value})
            except (TypeError, ValueError) as error:
                said = re.sub(rf"\b{setting}\b", name, str(error), count=1)
                raise type(error)(f"{type(self).__name__}: {said}") from error
            object.__setattr__(self, field, part)
        object.__setattr__(self, name, getattr(part, setting))

    def _owner_of(self, name: str) -> str:
        """Say of which part a short form is, as the end of a sentence about a model that has it not."""
        for field, family in _families_of(type(self)).items():  # type: ignore[arg-type]
            for member in family.members().values():
                if name in member.short_forms and field not in self.pinned_fields():
                    return f": {name} is of {field}={member.written_name()!r}"
        return f" has no use for {name}: leave it out"

    def replace(self, **changes: Any) -> Self:
        """Return a copy of the part with some settings changed.

        A part given anew brings its own settings. A short form that is None takes a setting back to a default of None.
        """
        unsaid: dict[str, Any] = dict.fromkeys(short_names(type(self)))  # type: ignore[arg-type]
        back = self._taken_back({name: changes[name] for name in unsaid.keys() & changes.keys()})
        named = [name for name, value in changes.items() if isinstance(value, str)]
        here = {name: back.get(name, getattr(self, name)) for name in named}
        # The name of a part that is there already leaves it, with its settings.
        same = {n: p for n, p in here.items() if isinstance(p, Part) and _plain(p.written_name()) == _plain(changes[n])}
        return dataclasses.replace(self, **{**unsaid, **back, **changes, **same})  # type: ignore[type-var]

    def _taken_back(self, short: Mapping[str, Any]) -> dict[str, "Part"]:
        """Parts by field, with the settings of short forms at their defaults."""
        back: dict[str, Part] = {}
        for field in _families_of(type(self)):  # type: ignore[arg-type]
            part = getattr(self, field)
            own = {name: part.short_forms[name] for name in short.keys() & part.short_forms.keys()}
            told = {own[name] for name in own if short[name] is not None}
            if gone := {s: u for s in own.values() if (u := _usual(part, s)) is None or s in told}:
                back[field] = part.replace(**gone)
        return back

    def to_settings(self) -> dict[str, Any]:
        """Return the name and the settings as values for JSON.

        :meth:`from_settings` rebuilds the part from them.
        """
        tag = {self.tag: self.written_name()} if self.tag else {}
        return tag | {field.name: _written(getattr(self, field.name)) for field in _settings_of(type(self))}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return a copy with some settings as :meth:`to_settings` writes them."""
        families = _families_in(type(self))  # type: ignore[arg-type]
        return self.replace(**{name: _read(value, families.get(name, type(self))) for name, value in settings.items()})

    def as_written(self) -> str:
        """Text of the part as users write it in a call.

        It is the name alone, if the family's names are written in text and all settings are defaults.
        """
        if not self.short:
            return repr(self)
        if self._is_default:
            return repr(self.written_name())
        others = [f for f in _settings_of(type(self)) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in others)})"

    @property
    def _is_default(self) -> bool:
        return all(getattr(self, field.name) == field.default for field in _settings_of(type(self)))

    @classmethod
    def written_name(cls) -> str:
        """Name of the class in files, and in the text that users write."""
        if (own := vars(cls).get("known_as")) is not None:
            return str(own)
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower() if cls.short else cls.__name__

    @classmethod
    def translated(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Return settings in the form of this version, from those of an earlier one."""
        return settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Rebuild a part of this family from the settings of :meth:`to_settings`.

        Settings without a name are those of the family's only class.

        Raises:
            ValueError: a class is not defined here.
        """
        values = dict(settings)
        chosen: type[Any] = cls.member(values.pop(cls.tag)) if cls.tag else cls
        families, values = _families_in(chosen), chosen.translated(values)  # type: ignore[arg-type]
        return chosen(**{key: _read(value, families.get(key, cls)) for key, value in values.items()})


def chosen(part: object, always: Collection[str] = ()) -> dict[str, str]:
    """Settings of a part that are not the default, as text; those of ``always`` in any case."""
    said = {}
    for field in dataclasses.fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
        if field.name in always or value != field.default:
            said[field.name] = value.as_written() if isinstance(value, Part) else repr(value)
    return said


def rebuilt(family: str, settings: Mapping[str, Any]) -> Any:
    """Rebuild a part from the word for its family and its ``settings``.

    The zoo of models is imported if it is needed.

    Raises:
        ValueError: a class is not defined here.
    """
    known = FAMILIES.get(family)
    if known is None or _plain(str(settings.get(known.tag))) not in known.members():
        importlib.import_module(ZOO)
    return FAMILIES[family].from_settings(settings)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


@lru_cache
def short_names(part: type[Any]) -> tuple[str, ...]:
    """Short forms that a class takes, in their order: what it is made from beside its fields."""
    if not dataclasses.is_dataclass(part):
        return ()
    fields, given = {field.name for field in dataclasses.fields(part)}, inspect.signature(part).parameters
    declared = part.__dataclass_fields__  # in the order in which ``__post_init__`` is given them
    return tuple(name for name in declared if name in given and name not in fields)


def _settings_of(part: type[Any]) -> list[Any]:
    fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    return [field for field in fields if not {SAMPLED, PINNED} & field.metadata.keys()]


def _usual(part: Part, setting: str) -> Any:
    """Default of a setting of a part."""
    return next(field.default for field in _settings_of(type(part)) if field.name == setting)


def _written(value: Any) -> Any:
    if isinstance(value, Part):
        settings = value.to_settings()
        # Where users write names, a part of no settings stands there by its name alone.
        return value.written_name() if value.short and len(settings) == 1 else settings
    if isinstance(value, tuple) and any(isinstance(item, Part) for item in value):
        return [_written(item) for item in value]
    return value


def _read(value: Any, family: type[Part]) -> Any:
    if isinstance(value, Mapping):
        return family.from_settings(value)
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return tuple(_read(item, family) for item in value)
    return value


@lru_cache
def _families_of(part: type[Part]) -> dict[str, type[Part]]:
    """Families that the fields of a part are of, by field, where a field holds nothing else."""
    return {name: hint for name, hint in _hints(part) if isinstance(hint, type) and issubclass(hint, Part)}


@lru_cache
def _families_in(part: type[Part]) -> dict[str, type[Part]]:
    """Families that the fields of a part may hold members of, by field."""
    found = {name: next(_parts_in(hint), None) for name, hint in _hints(part)}
    return {name: family for name, family in found.items() if family is not None}


def _hints(part: type[Any]) -> Iterator[tuple[str, Any]]:
    """Annotations of a class and of those that it inherits from.

    Those that only a type checker can read are left out.
    """
    for base in reversed(part.__mro__):
        for name, hint in vars(base).get("__annotations__", {}).items():
            if isinstance(hint, str):
                try:
                    hint = eval(hint, vars(sys.modules[base.__module__]))
                except (AttributeError, NameError):
                    continue
            yield name, hint


def _parts_in(hint: Any) -> Iterator[type[Part]]:
    if isinstance(hint, type) and issubclass(hint, Part):
        yield hint
    for argument in get_args(hint):
        yield from _parts_in(argument)
