"""Networks of amortised models, made of equinox's layers when a model runs."""

from mrgp.parts.networks.network import gaussian, layers, network, quiet, single
from mrgp.parts.networks.perceptron import AroundBins, Perceptron
from mrgp.parts.networks.recurrent import GRU, BothWays, over_time

__all__ = [
    "GRU", "AroundBins", "BothWays", "Perceptron", "gaussian", "layers", "network", "over_time", "quiet", "single",
]  # fmt: skip
