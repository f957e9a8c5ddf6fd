"""Readout: loadings of the neurons, and the parameters that each neuron has of its own."""

from typing import Any, NamedTuple

from jax import Array

from mrgp.parts.sites import Site

LOADINGS = Site("loadings", "neuron", "column", signed=True)
NOISE = Site("noise", "neuron")
OFFSET = Site("offset", "neuron")


class Readout(NamedTuple):
    """Loadings C (neuron, column), noise variances R (neuron,), offsets d (neuron,).

    ``spread`` (neuron, column, column) are the covariances of loadings that are not known exactly: Lambda then is the
    expectation of C' R^-1 C, as variational Bayes needs it. ``course`` (condition, time, neuron) is what the mean of a
    trial of each condition adds to the offsets as time goes by; None for nothing. ``autocorrelation`` (region,) is phi
    of noise that remembers (see ``emissions.autocorrelated``); None for white noise. ``counts`` is the distribution of
    counts whose log-rates the others describe (:class:`mrgp.parts.emissions.counts.Counts`); None for Gaussian values.
    """

    loadings: Array
    noise: Array
    offset: Array
    spread: Array | None = None
    course: Array | None = None
    autocorrelation: Array | None = None
    counts: Any = None
