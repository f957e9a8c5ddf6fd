"""Controllers: how inputs of regions are inferred, bin after bin, while a run goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from mrgp.part import Part
from mrgp.parts.networks.of_regions import each
from mrgp.parts.networks.perceptron import Perceptron
from mrgp.parts.networks.recurrent import GRU

type Enter = Callable[[str, Callable[[Array], Any]], Any]
"""Enter a network of every region, by its name and how one is made."""


class Seen(NamedTuple):
    """Numbers by which inputs of a bin are inferred, (trial, region, number) each.

    Attributes:
        present: The bin, as the region's neurons show it.
        ahead: Summary of this bin and all later ones.
        news: Part of the bin that the state of all regions had not led to expect.
        expected: Factors that it had led to expect.
    """

    present: Array
    ahead: Array
    news: Array
    expected: Array


class Sizes(NamedTuple):
    """Counts of numbers of a region, as networks read and make them.

    Attributes:
        present: Of a bin.
        n_factors: Factors.
        width: States of each network, and numbers of a summary.
        n_inputs: Inferred inputs.
    """

    present: int
    n_factors: int
    width: int
    n_inputs: int


class Controller(Part, family="controller", tag="name", short=True):
    """Way of inferring inputs; members enter its networks.

    These have two methods. ``begin(n_trials)`` makes what is remembered before the first bin, (trial, region, state);
    ``step(memory, seen)`` makes of it and of :class:`Seen` what is remembered then, and means and logarithms of sds of
    the inputs, (trial, region, 2 x input).
    """

    def enter(self, own: Enter, sizes: Sizes) -> Any:
        """Enter the networks of all regions into a guide."""
        raise NotImplementedError


@dataclass(frozen=True)
class Filtering(Controller):
    """Inputs follow from the bins so far.

    Where little noise is on values, edges are told apart best by it: an input cannot say what messages will bring.
    """

    def enter(self, own: Enter, sizes: Sizes) -> "Filter":
        control = own("control", partial(GRU.of, sizes.present + sizes.n_factors, sizes.width))
        return Filter(control, own("inputs_head", partial(Perceptron.of, (sizes.width, 2 * sizes.n_inputs))))


class Filter(NamedTuple):
    """Recurrent networks of all regions, and what they say of inputs."""

    control: GRU
    head: Perceptron

    def begin(self, n_trials: int) -> Array:
        """States before the first bin."""
        return jnp.broadcast_to(self.control.start, (n_trials, *self.control.start.shape))

    def step(self, memory: Array, seen: Seen) -> tuple[Array, Array]:
        """States after a bin, and numbers of its inputs."""
        memory = each(self.control, memory, jnp.concatenate([seen.present, seen.news], -1), by=GRU.step)
        return memory, each(self.head, memory)


@dataclass(frozen=True)
class Smoothing(Controller):
    """Inputs follow from the present bin and all later ones, and from the state before.

    Given that state, the past says no more of them (Krishnan et al. 2017, AAAI 31). Of counts, where one bin says
    little, rates come out better by it.
    """

    def enter(self, own: Enter, sizes: Sizes) -> "Smoother":
        told = sizes.width + 2 * sizes.n_factors
        return Smoother(own("control", partial(Perceptron.of, (told, sizes.width, 2 * sizes.n_inputs))))


class Smoother(NamedTuple):
    """Networks of all regions that remember nothing."""

    control: Perceptron

    def begin(self, n_trials: int) -> Array:
        """Nothing, for every region."""
        return jnp.zeros((n_trials, len(self.control.layers[0].weight), 0), jnp.float32)

    def step(self, memory: Array, seen: Seen) -> tuple[Array, Array]:
        """Nothing, and numbers of the inputs of a bin."""
        return memory, each(self.control, jnp.concatenate([seen.ahead, seen.news, seen.expected], -1))
