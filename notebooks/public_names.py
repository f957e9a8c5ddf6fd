"""Public names of the package, and the page of the book's reference that each is on."""

import importlib
from types import ModuleType
from typing import Any

import mrgp

PAGES = {
    "models": ("models", "families"), "kernels": ("parts.kernels",), "loadings": ("parts.loadings", "parts.symmetries"),
    "means": ("parts.means", "parts.drift"), "delays": ("parts.delays",), "emissions": ("parts.emissions",),
    "likelihoods": ("likelihoods",), "inference": ("inference",), "recordings": ("recordings",),
    "readers": ("recordings.readers",), "simulations": ("simulations",), "fits": ("results",), "studies": ("studies",),
    "metrics": ("metrics",), "plots": ("plots",), "other": ("",),
}  # fmt: skip
"""Pages of the reference, and from which folders of the package each has the public names.

The longest folder decides; a name from a folder that is not listed is on the last page.
"""

NAMESPACES = ("models", "metrics", "plots", "studies")
"""Public modules, whose names are written with theirs."""


def public_names() -> dict[str, str]:
    """Every public name of the package, such as ``mrgp.plots.plot_delays``, and the page that it is on."""
    names = {f"mrgp.{name}": getattr(mrgp, name) for name in mrgp.__all__}
    names = {name: value for name, value in names.items() if not isinstance(value, ModuleType)}
    known = {id(value) for value in names.values()}
    for namespace in NAMESPACES:
        module = importlib.import_module(f"mrgp.{namespace}")
        members = {name: getattr(module, name) for name in module.__all__}
        names |= {f"mrgp.{namespace}.{name}": one for name, one in members.items() if id(one) not in known}
    return {name: page_of(name, value) for name, value in names.items()}


def page_of(name: str, value: Any) -> str:
    """The page of one name: by its namespace, or else by the module that defines it."""
    namespace = name.split(".")[1]
    home = namespace if namespace in NAMESPACES else getattr(value, "__module__", "").removeprefix("mrgp.")
    pages = {prefix: page for page, prefixes in PAGES.items() for prefix in prefixes}
    return pages[max((prefix for prefix in pages if prefix in ("", home) or home.startswith(f"{prefix}.")), key=len)]
