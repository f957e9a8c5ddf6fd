"""Every model by name."""

from typing import Any

REGISTRY: dict[str, type[Any]] = {}
"""Every preset by name; how a saved fit finds its model."""
