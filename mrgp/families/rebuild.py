"""Presets and fits rebuilt from what was saved of them."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrgp.families.model import Preset
from mrgp.likelihoods.statespace.readout import Window
from mrgp.part import REGISTRY
from mrgp.parts.kernels import kernel_from_settings
from mrgp.results.fit import Fit


def preset_from(settings: Mapping[str, Any]) -> Preset:
    """The preset that :meth:`Preset.to_settings` described."""
    fields = dict(settings)
    name = fields.pop("model")
    if name not in REGISTRY:
        importlib.import_module("mrgp.models")  # each preset there enters itself
    if name not in REGISTRY:
        raise ValueError(f"this file is of a model {name!r} that is not defined here; known: {', '.join(REGISTRY)}")
    fields["kernel"] = kernel_from_settings(fields["kernel"])
    fields["window"] = None if fields["window"] is None else Window(**fields["window"])
    return REGISTRY[name](**fields)


def load_fit(path: str | Path) -> Fit:
    """Load a fit that ``fit.save`` wrote.

    Raises:
        DataError: the file is missing, damaged or not a fit.
    """
    return Fit.load(Path(path), preset_from)
