"""Settings of models as files and records of earlier versions have them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

EARLIER = "hold_max_delay"  # a setting of every model then, and a short form now
OF_KALMAN = {"lift": "lift", "order": "order", "window": "registers", "parallel": "parallel", "transient": "transient"}
OF_DELAYS = {
    "max_delay": "longest", "hold_max_delay": "hold", "delay_timescale": "timescale", "typical_spread": "spread",
    "learned_timescales": "learned_timescales",
}  # fmt: skip
STILL = "varying"  # where it was False, a model of varying delays had constant ones


def translated(settings: dict[str, Any], model: type[Any]) -> dict[str, Any]:
    """Settings in the form of this version, from those of a model in the form of any.

    Earlier, what belongs to delays and to the state space were settings of the model itself, also of one that had no
    use for them.
    """
    if EARLIER not in settings:
        return settings
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(model)}
    unused = model.pinned_fields()
    kept = {name: value for name, value in settings.items() if name in defaults.keys() - unused}
    own = {name: settings[name] for name in {*OF_KALMAN, *OF_DELAYS} & settings.keys()}
    law = defaults["delays"]
    if not settings.get(STILL, True):
        law = law.for_search()
    if "delays" not in unused:
        kept["delays"] = _with(law, {OF_DELAYS[name]: value for name, value in own.items() if name in OF_DELAYS})
    likelihood = kept["likelihood"]
    name = likelihood if isinstance(likelihood, str) else likelihood["name"]
    states = defaults["likelihood"]
    if name == states.written_name():
        kept["likelihood"] = _with(states, {OF_KALMAN[key]: own[key] for key in own if key in OF_KALMAN})
    return kept


def _with(part: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a part, with those replaced that it has."""
    own = part.to_settings()
    return own | {name: value for name, value in settings.items() if name in own}


def told_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model, those of its delays and state space by their short names.

    Records of earlier versions have them so.
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        names = {"delays": OF_DELAYS, "likelihood": OF_KALMAN}.get(name, {})
        if not names or not isinstance(value, dict):
            flat[name] = value
            continue
        flat |= {short: value[own] for short, own in names.items() if own in value}
        flat |= {name: value["name"]} if names is OF_KALMAN else {}
    return flat
