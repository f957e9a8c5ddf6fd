"""Delayed Gaussian processes behind networks (after Gondur et al. 2024, ICLR)."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array

from mrgp.families.amortised import Amortised
from mrgp.families.checks import assigned, check_numbers
from mrgp.families.factors_of_bins import factors_of_bins, n_outputs, readouts_of
from mrgp.families.latents_in_bins import typical_hyperparameters
from mrgp.families.starts import first_sites
from mrgp.families.tables import Tables
from mrgp.likelihoods.expansion import slopes
from mrgp.likelihoods.statespace.assemble import Latents, Prior, StateSpace
from mrgp.likelihoods.statespace.lift import build_lift, check_own
from mrgp.likelihoods.statespace.readout import Window
from mrgp.likelihoods.statespace.registers import missed_variance
from mrgp.likelihoods.structured import MarkovPosterior, MarkovPrior
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.constant import ConstantDelay
from mrgp.parts.emissions import ByRegion, Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.latents import LatentLayout
from mrgp.parts.networks import AroundBins, Perceptron, network
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import LatentsShown
from mrgp.results.processes_with_guide import OfProcesses

READOUTS = "readouts"  # the site of the latents of trials
WEIGHT = "readout_{}$params:layers:0:weight"  # of a linear readout, among the parameters of a fit
SHORTEST_READ = 0.05  # s: registers read delayed latents of this timescale and longer as well as the GP noise allows
CONTEXT = 3  # bins on either side from which a factor knows how high rates are about now

type Sizes = tuple[int, ...]


@dataclass(frozen=True)
class GPVAE(Amortised):
    r"""Latents of DLAG whose readout is a network for every region.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        y_r(t) &\sim p(y \mid u_r\, \mathrm{net}_r([x_r(t); w_r(t)]) + d_r)

    with u the units of the emission. Regions may be modalities: images with Gaussian noise, spikes with Poisson counts.
    q is structured (:mod:`mrgp.likelihoods.structured`): a network of each region turns what is seen of it around a bin
    into a Gaussian factor of the region's latents in this bin, and q is the exact posterior of the processes given all
    factors. Where the readout is linear no network is needed: the factor is log p(y), expanded around the mean of q
    (:mod:`mrgp.likelihoods.expansion`), and of Gaussian values q is the posterior itself. A bin, or a region, of which
    nothing is seen has no factor. Training begins where a climb of DLAG would: at the lags at which
    regions repeat each other, and with linear readouts of what they share. If all readouts are linear, fit with
    ``hidden_share=0, warm_up=0``: q is no network, and has nothing to learn by heart.

    Sample sites, in seconds: ``delay`` (region - 1, across_latent), ``timescale_across``, ``timescale_within``, and
    those of the emission; the rest are networks.

    Args:
        n_across: Latents shared by all regions.
        n_within: Private latents, one number for all regions or one per region; 0 is allowed.
        kernel: Covariance of every latent.
        delays: :class:`mrgp.ConstantDelay` or :class:`mrgp.NoDelay`.
        emission: An :class:`mrgp.Emission` or its name, or a mapping region -> emission.
        hidden: Hidden units of the layers of each readout, or a mapping region -> hidden units; () for a linear one,
            as DLAG has it.
        encoder: Hidden units of the layers by which a factor is read from a bin, where the readout is not linear; at
            least one layer.
        order: States that approximate one latent whose kernel has no exact state space, 2 to 6.
        gp_noise: Share of white noise in every latent's copy (eps).
        timescale_bounds: Shortest and longest timescale in seconds; None for a log-normal prior around 0.1 s.
        max_delay: Short for ``longest`` of the delays, seconds.
    """

    n_across: int = 1
    n_within: int | tuple[int, ...] = 0
    kernel: Kernel = SquaredExponential()  # noqa: RUF009  a frozen part
    _: KW_ONLY
    delays: Delays = ConstantDelay()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    hidden: Sizes | tuple[tuple[str, Sizes], ...] = (64, 64)
    encoder: Sizes = (64,)
    order: int = 4
    gp_noise: float = 1e-3
    timescale_bounds: tuple[float, float] | None = None
    max_delay: InitVar[float | None] = None

    latents_shown: ClassVar[LatentsShown] = OfProcesses()
    sizes: ClassVar[tuple[str, ...]] = ("n_across", "n_within")
    duration: ClassVar[float | None] = None  # nothing has a course over the trial

    def __post_init__(self, max_delay: float | None) -> None:  # type: ignore[override]
        if isinstance(self.emission, Mapping):
            object.__setattr__(self, "emission", ByRegion.of(self.emission))
        object.__setattr__(self, "hidden", _sizes(self.hidden))
        object.__setattr__(self, "encoder", tuple(self.encoder))
        self.resolve(max_delay=max_delay)
        super().__post_init__()
        check_numbers(self)  # type: ignore[arg-type]
        if self.delays.moves:
            raise ValueError("GPVAE has delays that stay during a trial: use delays=mrgp.ConstantDelay()")
        if not self.encoder:
            raise ValueError("encoder needs at least one layer of hidden units, such as encoder=(64,)")
        check_own(self.kernel)

    # ---- sizes and spaces ----------------------------------------------------------------------------------------

    def assignment(self, layout: Layout) -> LatentLayout:
        """Layout of latents among the neurons of a recording."""
        return assigned(self, layout)  # type: ignore[arg-type]

    def hidden_of(self, region: str) -> Sizes:
        """Hidden units of the readout of a region.

        Raises:
            DataError: there are those of other regions only.
        """
        by_region = {pair[0]: pair[1] for pair in self.hidden if isinstance(pair, tuple)}
        if by_region and region not in by_region:
            raise DataError(f"region {region} has no hidden units: there are those of {', '.join(by_region)}")
        return by_region[region] if by_region else self.hidden  # type: ignore[return-value]

    def state_space(self, layout: Layout) -> StateSpace:
        """State space of the recording's readouts, with as few registers as delays need."""
        lift, bound = build_lift(self.kernel, self.order), self.delays.bound(layout.bin_width) / layout.bin_width
        prior, within = Prior(self.kernel, self.gp_noise, self.assignment(layout)), (self.timescale_bounds or (1,))[0]
        if self.n_across == 0 or layout.n_regions == 1 or bound == 0:
            return StateSpace(prior, lift, Window(0))
        hyper = typical_hyperparameters(self.kernel, min(SHORTEST_READ, within), layout.bin_width)
        with jax.ensure_compile_time_eval():
            windows = [Window(n) for n in range(int(np.ceil(2 * bound)) + 1)]
            reads = [np.linspace(-bound, bound, 8 * window.n_registers + 9)[:, None] for window in windows]
            pairs = zip(windows, reads, strict=True)
            enough = (w for w, read in pairs if missed_variance(lift, w, hyper, w.lead + read) <= self.gp_noise)
            return StateSpace(prior, lift, next(enough, windows[-1]))

    # ---- program and guide ---------------------------------------------------------------------------------------

    def latent_sites(self, data: MultiRegionData) -> Latents:
        """Sample delays and kernel parameters, in bins."""
        also = data.bin_width, self.timescale_bounds
        across = self.kernel.sample("across", self.n_across, *also)
        within = self.kernel.sample("within", sum(self.assignment(data.layout).n_within), *also)
        return Latents(self.delays.sample(self.tables.extent(data.layout, data.n_bins)), across, within)

    def __call__(self, data: MultiRegionData) -> None:
        latents, layout = self.latent_sites(data), self.assignment(data.layout)  # delta, g_k, w_rj ~ GP(0, k)
        readout = self.emission_sites(data)
        nets, unit = self._readouts(data)
        with self.trials(data) as some:
            x = numpyro.sample(READOUTS, self._prior(data, some.n_trials, latents))
            parts = [net(x[..., readouts_of(layout, r)]) for r, net in enumerate(nets)]
            self.observe(some, unit * jnp.concatenate(parts, -1), readout, x[..., _shown(layout)])

    def guide(self, data: MultiRegionData) -> None:
        latents, layout = self.latent_sites(data), self.assignment(data.layout)
        readout, (readouts, unit) = self.emission_sites(data), self._readouts(data)
        units = jnp.split(unit, np.cumsum(layout.n_neurons)[:-1])
        loadings = [own[:, None] * net.layers[0].weight if net.is_linear else None
                    for own, net in zip(units, readouts, strict=True)]  # fmt: skip
        nets: list[AroundBins | None] = []
        for r, n_neurons in enumerate(layout.n_neurons):
            sizes, outputs = (2 * n_neurons, *self.encoder), n_outputs(len(readouts_of(layout, r)))
            made = partial(AroundBins.of, sizes, outputs, CONTEXT)
            nets.append(None if readouts[r].is_linear else network(f"encoder_{r}", made))
        with self.trials(data) as some:

            def slopes_at(eta: Array) -> tuple[Array, Array]:
                return slopes(lambda at: self.emission.given(readout, at).log_prob(some.floats), eta + readout.offset)

            prior = self._prior(data, some.n_trials, latents)
            factors = factors_of_bins(
                nets, loadings, self.shown(some), layout, slopes_at, lambda told: MarkovPosterior(prior, told).mean
            )
            numpyro.sample(READOUTS, MarkovPosterior(prior, factors))

    def _readouts(self, data: MultiRegionData) -> tuple[list[Perceptron], Array]:
        """Networks of the regions, and the units of what they give, (neuron,)."""
        layout, nets = self.assignment(data.layout), []
        for r, region in enumerate(data.layout.regions):
            sizes = len(readouts_of(layout, r)), *self.hidden_of(region), layout.n_neurons[r]
            nets.append(network(f"readout_{r}", partial(Perceptron.of, sizes, offset=False)))
        return nets, self.unit(data)

    def _prior(self, data: MultiRegionData, n_trials: int, latents: Latents) -> MarkovPrior:
        return MarkovPrior(latents, self.state_space(data.layout), data.n_bins, n_trials)

    # ---- what inference and results ask --------------------------------------------------------------------------

    @property
    def usual_settings(self) -> Mapping[str, Any]:
        units = [pair[1] if isinstance(pair, tuple) else (pair,) for pair in self.hidden]
        return {} if any(units) else {"hidden_share": 0.0, "warm_up": 0}

    def first_guess(self, data: MultiRegionData) -> dict[str, np.ndarray]:
        sites, layout = first_sites(self, data), self.assignment(data.layout)  # type: ignore[arg-type]
        loadings = sites.pop(LOADINGS.name) / np.asarray(self.emission.unit(data))[:, None]
        for r, (region, part) in enumerate(data.layout.region_slices.items()):
            if not self.hidden_of(region):
                columns = layout.column_of_readout[readouts_of(layout, r)]
                sites[WEIGHT.format(r)] = loadings[part, columns]
        return sites

    @property
    def tables(self) -> Tables:
        """Its delays and timescales as numbers, from sites."""
        return Tables(self)  # type: ignore[arg-type]


def _sizes(hidden: Any) -> Any:
    """Hidden units as tuples, whether they came as a mapping, or as lists from JSON."""
    pairs = hidden.items() if isinstance(hidden, Mapping) else hidden
    return tuple((p[0], tuple(p[1])) if isinstance(p, tuple | list) else p for p in pairs)


def _shown(layout: LatentLayout) -> np.ndarray:
    """Indices of readouts that show latents: the first region's copies, then all within."""
    return np.r_[: layout.n_across, layout.n_regions * layout.n_across : layout.n_readouts]
