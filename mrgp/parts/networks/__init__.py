"""Networks of amortised models, built of equinox's layers, which are imported when a model runs."""

from mrgp.parts.networks.network import layers, network
from mrgp.parts.networks.perceptron import AroundBins, Perceptron
from mrgp.parts.networks.recurrent import GRU, BothWays, over_time

__all__ = ["GRU", "AroundBins", "BothWays", "Perceptron", "layers", "network", "over_time"]
