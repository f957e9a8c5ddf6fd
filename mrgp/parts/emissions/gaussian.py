"""Values with Gaussian noise of their own in every neuron."""

from mrgp.parts.sites import Site

NOISE = Site("noise", "neuron")
