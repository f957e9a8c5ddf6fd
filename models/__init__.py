"""The zoo: one method per file, each a generative program to be read beside its paper."""

from mrgp.models.dlag import DLAG
from mrgp.models.gpfa import GPFA

__all__ = ["DLAG", "GPFA"]
