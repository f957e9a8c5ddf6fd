"""The zoo: one method per file, each a generative program to be read beside its paper."""
# ruff: noqa: I001  numpyro comes first

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces

from mrgp.models.adm import ADM
from mrgp.models.coupled_lds import CoupledLDS
from mrgp.models.ctae import CTAE
from mrgp.models.dlag import DLAG
from mrgp.models.fa import FA
from mrgp.models.gfa import GFA
from mrgp.models.gpfa import GPFA
from mrgp.models.gpvae import GPVAE
from mrgp.models.lds import LDS
from mrgp.models.lfads import LFADS
from mrgp.models.mdlag import MDLAG
from mrgp.models.mrlfads import MRLFADS
from mrgp.models.neuralode import NeuralODE
from mrgp.models.pcca import PCCA
from mrgp.models.switching_lds import SwitchingLDS

__all__ = [
    "ADM", "CTAE", "DLAG", "FA", "GFA", "GPFA", "GPVAE", "LDS", "LFADS", "MDLAG", "MRLFADS", "PCCA", "CoupledLDS",
    "NeuralODE", "SwitchingLDS",
]  # fmt: skip
