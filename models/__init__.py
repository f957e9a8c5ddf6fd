"""The zoo: one method per file, each a generative program to be read beside its paper."""

from mrgp.models.dlag import DLAG
from mrgp.models.fa import FA
from mrgp.models.gpfa import GPFA
from mrgp.models.lds import LDS
from mrgp.models.pcca import PCCA

__all__ = ["DLAG", "FA", "GPFA", "LDS", "PCCA"]
