"""The zoo: one method per file, each a generative program to be read beside its paper."""

from mrgp.models.adm import ADM
from mrgp.models.dlag import DLAG
from mrgp.models.gpfa import GPFA
from mrgp.models.mdlag import MDLAG

__all__ = ["ADM", "DLAG", "GPFA", "MDLAG"]
