"""Family of models whose latents follow linear dynamics that switch with a hidden state."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array

from mrgp.families.checks import private_counts
from mrgp.families.model import Model
from mrgp.families.switching_rounds import SwitchingRounds
from mrgp.inference.variational_em.method import VariationalEM
from mrgp.likelihoods.switching.distribution import SwitchingLinear
from mrgp.likelihoods.switching.posterior import System
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import readout_loadings
from mrgp.parts.membership import Membership
from mrgp.parts.populations import Known, Populations
from mrgp.parts.readout import Readout
from mrgp.parts.switching import SwitchingDynamics
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import Missing
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.results.switching_conditional import SwitchingConditional
from mrgp.results.switching_fit import SwitchingFit


@dataclass(frozen=True)
class Switching(Model, abstract=True):
    """Base class of models with switching linear dynamics; subclasses write the program.

    Args:
        n_states: States.
        n_within: Latents of each region, one number for all or one per region.
        recurrent: Whether latents tell which state comes next.
        emission: An :class:`mrgp.Emission` or its name: "gaussian", or counts of one kind.
        populations: Groups of neurons that read latents of their own: the regions ("known"), or
            :class:`mrgp.parts.populations.Unknown`.
        most_populations: Short for ``most`` of unknown populations.
    """

    n_states: int = 2
    n_within: int | tuple[int, ...] = 2
    recurrent: bool = True
    _: KW_ONLY
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    populations: Populations = Known()  # noqa: RUF009  a frozen part
    most_populations: InitVar[int | None] = None

    fit_class: ClassVar[type[Fit]] = SwitchingFit
    methods: ClassVar[tuple[str, ...]] = (VariationalEM.written_name(),)
    sizes: ClassVar[tuple[str, ...]] = ("n_states", "n_within")

    def __post_init__(self, most_populations: int | None) -> None:
        name = type(self).__name__
        if isinstance(self.n_within, list):
            object.__setattr__(self, "n_within", tuple(self.n_within))
        self.resolve(most_populations=most_populations)
        if self.n_states < 1:
            raise ValueError(f"{name}: n_states counts at least 1, not {self.n_states}")
        if np.min(self.n_within) < 1:
            raise ValueError(f"{name}: n_within counts at least 1 in every region, not {self.n_within}")
        if self.emission.is_autocorrelated or not self.emission.is_uniform:
            remedy = "use emission='gaussian', 'poisson' or 'negative_binomial'"
            raise ValueError(f"{name} takes neurons of one kind, whose bins are independent given latents: {remedy}")

    @property
    def typical_logits(self) -> Array:
        """Means of the prior of logits, (state, next state)."""
        raise NotImplementedError

    @property
    def is_bound(self) -> bool:
        return True

    @property
    def rounds(self) -> SwitchingRounds:
        """Rounds of a fit."""
        return SwitchingRounds(self)

    def assignment(self, layout: Layout) -> LatentLayout:
        groups = self.populations.layout(layout)
        widths = private_counts(type(self).__name__, self.n_within, groups)
        return LatentLayout(groups.n_neurons, 0, widths)

    def observe(
        self, data: MultiRegionData, dynamics: SwitchingDynamics, readout: Readout, membership: Membership
    ) -> None:
        """Sample the observed site ``y``, with states and latents integrated out."""
        loadings = readout_loadings(self.assignment(data.layout), readout.loadings)
        system = System(dynamics, jnp.asarray(loadings, float), readout)
        holes: Any = (data.observed, data.pattern, data.length)
        with numpyro.plate("trial", data.n_trials):
            law = SwitchingLinear(system, self.emission, data.n_bins, Missing(*holes), membership)
            numpyro.sample("y", law, obs=data.values)

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> SwitchingConditional:
        return SwitchingConditional(self, data, sites)
