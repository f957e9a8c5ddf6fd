"""Versions of packages, and the machine, that results depend on."""

import importlib.metadata

PACKAGES = ("mrgp", "jax", "numpyro", "arviz", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
