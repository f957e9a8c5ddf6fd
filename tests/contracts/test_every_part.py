"""Every part: it stands in the registry, has a name, is written as JSON, and is compared by its settings."""

import dataclasses
import importlib
import json
import pickle
import pkgutil

import pytest
import registry

import mrgp
from mrgp.likelihoods.statespace import first_state
from mrgp.part import FAMILIES, PINNED, rebuilt

EVERY = [(family, part) for family, parts in registry.PARTS.items() for part in parts]
NAMES = {**vars(mrgp.models), **vars(registry), **vars(mrgp), **vars(mrgp.parts.kernels), **vars(first_state)}


@pytest.fixture(params=EVERY, ids=lambda entry: f"{entry[0]} {type(entry[1]).__name__}")
def entry(request):
    """The word for a family and one of its members, in turn."""
    return request.param


def same(one, other):
    """Of one class and settings; metrics, which have no settings, are no dataclasses."""
    equal = one == other or not dataclasses.is_dataclass(one)
    return type(one) is type(other) and one.to_settings() == other.to_settings() and equal


def fields(part):
    return dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()


def test_every_member_of_every_family_is_in_the_registry():
    for module in pkgutil.walk_packages(mrgp.__path__, "mrgp."):
        importlib.import_module(module.name)
    for word, family in FAMILIES.items():
        built_in = {part for part in family.members().values() if part.__module__.startswith("mrgp.")}
        listed = {type(part) for part in registry.PARTS[word]}
        missing = sorted(part.__name__ for part in (built_in or {family}) - listed)
        assert not missing, f"no {word} {', '.join(missing)} in tests/registry.py: add a small instance"
    cases = {type(case.emission) for case in registry.EMISSIONS}
    assert {type(part) for part in registry.PARTS["emission"] if not part.is_autocorrelated} == cases


def test_it_is_written_as_json_and_read_again(entry):
    family, part = entry
    written = json.loads(json.dumps(part.to_settings()))
    assert same(FAMILIES[family].from_settings(written), part)
    if part.tag:
        assert written[part.tag] == type(part).written_name()
        assert same(rebuilt(family, written), part)


def test_it_is_known_by_its_name(entry):
    family, part = entry
    assert FAMILIES[family].named(part) is part
    if part.tag:
        assert FAMILIES[family].member(type(part).written_name()) is type(part)
        if all(field.default is not dataclasses.MISSING for field in fields(part)):
            assert same(FAMILIES[family].named(type(part).written_name()), type(part)())


def test_it_is_compared_by_its_settings(entry):
    _, part = entry
    again = pickle.loads(pickle.dumps(part))
    assert same(again, part)
    assert not fields(part) or hash(again) == hash(part)
    shown = eval(repr(part), NAMES) if fields(part) else part
    assert same(shown, part)


def test_its_settings_can_be_changed_one_by_one(entry):
    _, part = entry
    for field in fields(part):
        if PINNED not in field.metadata:
            assert part.replace(**{field.name: getattr(part, field.name)}) == part
