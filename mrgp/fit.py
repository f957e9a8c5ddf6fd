"""A fitted model: its parameters with names and units, and what it says of a recording."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.stats import norm

from mrgp import arviz_tree, posterior, summaries
from mrgp.checks import DataError
from mrgp.data import Layout, MultiRegionData
from mrgp.distributions.markov import MarkovGP
from mrgp.inference.bound import Bound, Setting
from mrgp.inference.curvature import Curvature, profile_curvature
from mrgp.inference.map import LogJoint, Objective, transforms_of
from mrgp.io import write_atomically
from mrgp.statespace.reduce import shared_variance

FORMAT = 2  # of the saved file
SHARED = 0.02  # of a region's shared variance: below it a latent is not read there (Gokcen et al. 2023)
GONE = 1e-3  # of the same: loadings that have vanished, and do not follow delays
UNIFORM_PRECISION = 3 / np.pi**2  # of a delay's unconstrained coordinate where nothing is known of it: a logistic
LIFT_ERROR_BINS = 100  # bins over which the error of the state space is measured


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: importlib.metadata.version(name) for name in ("mrgp", "jax", "numpyro", "arviz", "numpy", "scipy")}


@dataclass
class Fit:
    """Parameters of one model inferred from one recording. Times are in seconds throughout.

    Attributes:
        model: The preset, with the window and delay bound it ended with.
        layout: Regions, neurons per region and bin width of the recording.
        n_bins: Bins of its longest trial.
        sites: The model's sample sites by name, constrained, in seconds.
        method: How they were inferred.
        trace: After every iteration, nats: log p(y, parameters); of method "em" log p(y | parameters), of "vb" a lower
            bound of log p(y).
        converged, reason: Whether the fit reached its tolerance, and why it stopped.
        iterations, evaluations, wall_s, seed: Of the run.
        notes: What the fit changed on its way (a bound widened, registers refined).
        fixed: Sites that were not inferred.
        data: The recording, while it is in memory; not saved.
        loadings_covariance: Of method "vb", (neuron, column, column): then sites are posterior means.
    """

    model: Any
    layout: Layout
    n_bins: int
    sites: dict[str, np.ndarray]
    method: str
    trace: np.ndarray
    converged: bool
    reason: str
    iterations: int
    evaluations: int
    wall_s: float
    seed: int
    notes: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    data: MultiRegionData | None = None
    versions: dict[str, str] = field(default_factory=versions)
    saved_curvature: Curvature | None = None
    loadings_covariance: np.ndarray | None = None

    # ---- parameters ----------------------------------------------------------------------------------------------

    @cached_property
    def assignment(self) -> Any:
        """Which neuron reads which latent."""
        return self.model.assignment(self.layout)

    @property
    def within_names(self) -> list[str]:
        """A name for every within latent: region and number, ``V1:0``."""
        widths = zip(self.layout.regions, self.assignment.n_within, strict=False)
        return [f"{name}:{j}" for name, width in widths for j in range(width)]

    @property
    def populations(self) -> tuple[str, ...]:
        """The model's regions: those of the recording, or one where it pools them."""
        return self.layout.regions if self.assignment.n_regions > 1 or self.layout.n_regions == 1 else ("all",)

    @property
    def delays(self) -> xr.DataArray:
        """Delays in seconds, (region, across_latent) or (region, across_latent, time) where they vary.

        Positive means that the region lags the first one.
        """
        table = self.model.delay_table(self.sites, self.layout, self.n_bins)
        coords = self.delay_coords if table.ndim == 2 else self.delay_coords | self.time_coords
        return xr.DataArray(table, coords, tuple(coords), "delay", {"units": "s"})

    @property
    def has_delays(self) -> bool:
        """Whether there is a latent that regions share, each with a delay of its own."""
        return len(self.populations) > 1 and self.delays.size > 0 and self.model.delay_bound(self.layout) > 0

    @property
    def delays_vary(self) -> bool:
        """Whether delays move during a trial."""
        return "time" in self.delays.dims

    @property
    def has_relevance(self) -> bool:
        """Whether the model finds out which region reads which latent."""
        return "alpha" in self.sites

    @property
    def climbed(self) -> str:
        """What ``trace`` is, in symbols."""
        bound = "bound of log p(y)" if self.method == "vb" else "log p(y, parameters)"
        return "log p(y | parameters)" if self.method == "em" else bound

    @property
    def delay_coords(self) -> dict[str, Any]:
        """Coordinates of a table of delays."""
        return {"region": list(self.populations), "across_latent": np.arange(self.assignment.n_across)}

    @property
    def time_coords(self) -> dict[str, Any]:
        """Start of every bin in seconds."""
        return {"time": np.arange(self.n_bins) * self.layout.bin_width}

    @property
    def timescales(self) -> xr.Dataset:
        """Timescales in seconds: ``across`` (across_latent), ``within`` (within_latent)."""
        tables = {
            kind: (f"{kind}_latent", self.model.timescale_table(self.sites, kind, self.layout))
            for kind in ("across", "within")
        }
        coords = {"across_latent": np.arange(self.assignment.n_across), "within_latent": self.within_names}
        return xr.Dataset(tables, coords, {"units": "s"})

    @property
    def loadings(self) -> dict[str, xr.DataArray]:
        """Loadings per region, (neuron, latent): across latents ``across:k``, then the region's own ``V1:j``."""
        names = [f"across:{k}" for k in range(self.assignment.n_across)]
        own = dict(zip(self.populations, self.assignment.n_within, strict=True))
        columns = dict(
            zip(
                self.populations,
                np.split(self.sites["loadings"], np.cumsum(self.assignment.n_neurons)[:-1]),
                strict=True,
            )
        )
        return {
            region: xr.DataArray(
                block[:, : len(names) + own[region]],
                {"neuron": np.arange(len(block)), "latent": names + [f"{region}:{j}" for j in range(own[region])]},
                ("neuron", "latent"),
                f"loadings_{region}",
            )
            for region, block in columns.items()
        }

    @property
    def shared_variance(self) -> xr.DataArray:
        """Share of each latent in the variance that latents explain in a region, (region, latent).

        Latents are ``across:k``, then ``within:j``, the j-th of each region's own; rows sum to 1. The expectation of
        the squared loadings, where they are known as a distribution (method "vb").
        """
        share = shared_variance(self.assignment, self.sites["loadings"], self.loadings_covariance)
        names = [f"across:{k}" for k in range(self.assignment.n_across)]
        names += [f"within:{j}" for j in range(max(self.assignment.n_within))]
        return xr.DataArray(share, {"region": list(self.populations), "latent": names}, name="shared_variance")

    def shared_by(self, least: float = SHARED) -> xr.DataArray:
        """Which regions read which across latent, (region, across_latent) bool.

        A region reads a latent that explains at least ``least`` of the variance shared by its neurons (Gokcen et al.
        2023 take 2%).
        """
        share = self.shared_variance.values[:, : self.assignment.n_across]
        return xr.DataArray(share >= least, self.delay_coords, name="shared_by")

    def _per_neuron(self, site: str) -> dict[str, xr.DataArray]:
        parts = self.layout.region_slices.items()
        return {region: xr.DataArray(self.sites[site][part], dims=("neuron",), name=site) for region, part in parts}

    @property
    def noise(self) -> dict[str, xr.DataArray]:
        """Observation variance of every neuron, per region."""
        return self._per_neuron("noise")

    @property
    def offset(self) -> dict[str, xr.DataArray]:
        """Offset of every neuron, per region."""
        return self._per_neuron("offset")

    # ---- what it says of a recording -----------------------------------------------------------------------------

    def _recording(self, data: MultiRegionData | None) -> MultiRegionData:
        data = self.data if data is None else data
        if data is None:
            raise DataError("this fit was loaded from a file and holds no recording: pass data=")
        if data.layout != self.layout:
            raise DataError(f"the recording has {data.layout}, but the fit is of {self.layout}")
        return data

    def log_likelihood(self, data: MultiRegionData | None = None) -> xr.DataArray:
        """log p(y_trial | parameters) in nats, (trial,)."""
        return self.model.log_likelihood(self._recording(data), self.sites)

    def markov(self, data: MultiRegionData) -> MarkovGP:
        """The state-space form of the fitted model, whatever likelihood it was fitted with."""
        model = self.model if self.model.likelihood == "markov" else self.model.replace(likelihood="markov")
        if model.window is None:
            model = model.adapted(data, self.sites, 1.0)
        spread = None if self.loadings_covariance is None else jnp.asarray(self.loadings_covariance)
        return model.likelihood_at(data, self.sites).with_spread(spread)

    def latents(self, data: MultiRegionData | None = None, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents, on region 1's clock and ``refine`` points per bin.

        Returns:
            ``across_mean``, ``across_sd`` (trial, time, across_latent) and ``within_mean``, ``within_sd``
            (trial, time, within_latent); time in seconds; a priori every latent has mean 0 and sd 1.
        """
        if refine < 1:
            raise ValueError(f"refine is the number of points per bin, at least 1, not {refine}")
        data = self._recording(data)
        read = jax.jit(lambda d, y: posterior.signals(d, y, refine))(self.markov(data), jnp.asarray(data.values))
        arrays = {
            name: (("trial", "time", f"{name.split('_')[0]}_latent"), np.asarray(value))
            for name, value in read._asdict().items()
        }
        coords = {
            "trial": np.arange(data.n_trials),
            "time": np.arange(data.n_bins * refine) / refine * self.layout.bin_width,
            "across_latent": np.arange(self.assignment.n_across),
            "within_latent": self.within_names,
        }
        return xr.Dataset(arrays, coords)

    def predict(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Reconstruction of every region given all of the recording: mean, and sd of a new observation.

        Returns:
            ``<region>_mean`` and ``<region>_sd``, (trial, time, neuron_<region>); missing entries are filled in.
        """
        data = self._recording(data)
        mean, sd = jax.jit(posterior.predictions)(self.markov(data), jnp.asarray(data.values))
        arrays = {}
        for region, part in self.layout.region_slices.items():
            dims = ("trial", "time", f"neuron_{region}")
            arrays[f"{region}_mean"] = (dims, np.asarray(mean[..., part]))
            arrays[f"{region}_sd"] = (dims, np.asarray(sd[..., part]))
        return xr.Dataset(arrays, {"trial": np.arange(data.n_trials), "time": data.times})

    def sample(self, n_trials: int, n_bins: int, seed: int = 0) -> MultiRegionData:
        """A new recording drawn from the fitted model."""
        drawn = np.asarray(self.markov(self._template(n_trials, n_bins)).sample(jax.random.key(seed)))
        regions = {name: drawn[..., part] for name, part in self.layout.region_slices.items()}
        return MultiRegionData(regions, self.layout.bin_width)

    def lift_error(self, n_bins: int = LIFT_ERROR_BINS) -> float:
        """KL divergence in nats per trial of ``n_bins`` bins from the exact model to the state space used."""
        return posterior.lift_error(self.markov(self._template()), n_bins)

    def _template(self, n_trials: int = 1, n_bins: int = 2) -> MultiRegionData:
        """A stand-in recording of this layout, for what needs shapes but no values."""
        rng = np.random.default_rng(0)
        counts = zip(self.layout.regions, self.layout.n_neurons, strict=True)
        noise = {name: rng.standard_normal((n_trials, n_bins, n)) for name, n in counts}
        return MultiRegionData(noise, self.layout.bin_width)

    # ---- uncertainty ---------------------------------------------------------------------------------------------

    def curvature(self, data: MultiRegionData | None = None, progress: bool = False, follow: bool = False) -> Curvature:
        """Gaussian uncertainty of delays and kernel parameters, everything else profiled out; computed once.

        ``follow`` asks for how everything else follows them too, which a saved fit does not keep.
        """
        known = self.saved_curvature
        if known is None or (follow and known.response is None):
            known = self._curvature(self._recording(data), progress)
            self.saved_curvature = known
        return known

    def _curvature(self, data: MultiRegionData, progress: bool) -> Curvature:
        """Of log p(y, parameters), or of the bound with the means of loadings, noise and offsets profiled out."""
        scale, names = self.model.scales(data, self.sites), self.uncertain_sites
        frozen = tuple(sorted({*self.fixed, *self.model.held}))
        if self.loadings_covariance is None:
            return profile_curvature(Objective(LogJoint(self.model), data, self.sites, scale, frozen), names, progress)
        setting = Setting.of(data, self.sites["loadings"], self.loadings_covariance)
        objective = Objective(Bound(self.model), setting, self.sites, scale, frozen)
        share = shared_variance(self.assignment, self.sites["loadings"], self.loadings_covariance)
        unread = (share < GONE)[self.assignment.region_of_neuron] | ~self.assignment.used
        return profile_curvature(objective, names, progress, {"loadings": unread}, {"delay": UNIFORM_PRECISION})

    @property
    def uncertain_sites(self) -> tuple[str, ...]:
        """Sites that describe latents and were inferred: what intervals are given for."""
        return tuple(name for name in self.model.dynamics_sites(self.layout) if name not in self.fixed)

    def _sites_from(self, curvature: Curvature, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Constrained sites from unconstrained vectors (draw, parameter)."""
        sites, first = {}, 0
        transforms = transforms_of(self.model, self._template(), [n for n in self.sites if n not in curvature.names])
        for name in curvature.names:
            shape = self.sites[name].shape
            size = int(np.prod(shape))
            block = flat[:, first : first + size].reshape(-1, *shape)
            sites[name] = np.asarray(transforms[name](jnp.asarray(block)))
            first += size
        return sites

    def delay_intervals(
        self,
        probability: float = 0.9,
        data: MultiRegionData | None = None,
        progress: bool = False,
        over_time: bool = False,
    ) -> xr.Dataset:
        """Delays with ``sd`` and an equal-tailed interval (``lower``, ``upper``) from the curvature, seconds.

        Dims (region, across_latent), and time where delays vary; ``over_time`` asks for their mean over the trial
        instead. The Gaussian lives in artanh(delay / bound), so that intervals respect the bound.
        """
        if not 0 < probability < 1:
            raise ValueError(f"probability is between 0 and 1, not {probability}")
        curvature = self.curvature(data, progress)
        widths = np.sqrt(np.diag(curvature.covariance))
        steps = np.concatenate([np.zeros((1, len(widths))), np.diag(1e-4 * widths), np.diag(-1e-4 * widths)])
        moved = {**self.sites, **self._sites_from(curvature, curvature.mean + steps)}
        tables = self.model.delay_table(moved, self.layout, self.n_bins)
        tables = np.broadcast_to(tables, (len(steps), *self.delays.shape))
        shown = self.delays
        if over_time and self.delays_vary:
            tables, shown = tables.mean(-1), shown.mean("time")
        bound = max(self.model.delay_bound(self.layout), 1e-12)
        ups, downs = np.split(np.arctanh(np.clip(tables[1:] / bound, -1 + 1e-15, 1 - 1e-15)), 2)
        slopes = np.moveaxis((ups - downs) / (2e-4 * widths.reshape(-1, *[1] * shown.ndim)), 0, -1)
        sd = np.sqrt(np.einsum("...i,ij,...j->...", slopes, curvature.covariance, slopes))
        center, z = np.arctanh(tables[0] / bound), norm.ppf(0.5 + probability / 2)
        names = {
            "delay": tables[0],
            "lower": bound * np.tanh(center - z * sd),
            "upper": bound * np.tanh(center + z * sd),
            "sd": np.minimum(bound * (1 - np.tanh(center) ** 2) * sd, bound / np.sqrt(3)),  # at most the prior's
        }
        arrays = {name: (shown.dims, table) for name, table in names.items()}
        return xr.Dataset(arrays, shown.coords, {"units": "s", "probability": probability})

    def draws(self, n_draws: int, seed: int = 0, data: MultiRegionData | None = None) -> dict[str, np.ndarray]:
        """Draws of all sites, (draw, ...), seconds: delays and kernel parameters from the Gaussian at the maximum.

        Loadings, noise and offsets take their best values given each draw, to first order, without spread of their own.
        """
        curvature = self.curvature(data, follow=True)
        rng = np.random.default_rng(seed)
        flat = np.zeros((n_draws, 0))
        if curvature.names:  # models of white latents have nothing to draw
            flat = rng.multivariate_normal(curvature.mean, curvature.covariance, n_draws, method="eigh")
        sites = self._sites_from(curvature, flat)
        transforms = transforms_of(self.model, self._template(), curvature.names)
        for name, response in (curvature.response or {}).items():
            center = np.asarray(transforms[name].inv(jnp.asarray(self.sites[name])))
            moved = center + np.tensordot(flat - curvature.mean, response, 1)
            sites[name] = np.asarray(transforms[name](jnp.asarray(moved)))
        rest = {name: value for name, value in self.sites.items() if name not in sites}  # fixed, or relevance
        return sites | {name: np.broadcast_to(value, (n_draws, *np.shape(value))) for name, value in rest.items()}

    def to_arviz(self, data: MultiRegionData | None = None, n_draws: int = 100, seed: int = 0) -> xr.DataTree:
        """An ArviZ DataTree: draws of delays and timescales from the Gaussian at the maximum (see :meth:`draws`).

        Groups: ``posterior`` (chain, draw, ...), ``log_likelihood`` per trial, ``posterior_predictive`` and
        ``observed_data`` (each neuron's mean over the observed bins of each trial), and ``constant_data`` with what is
        not drawn: loadings, noise and offsets at the maximum. Of a model without delays and timescales nothing is
        drawn: its ``posterior`` repeats the parameters at the maximum, of which intervals mean nothing, and
        ``arviz.loo`` refuses it; a warning says so.
        """
        return arviz_tree.build(self, self._recording(data), n_draws, seed)

    # ---- saving --------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """The JSON-ready summary that the command line writes: what exists for the model, seconds and nats."""
        return summaries.build(self)

    def save(self, path: str | Path) -> None:
        """Write the fit as NetCDF; an existing file is replaced only once the new one is whole."""
        path = Path(path)
        arrays: dict[str, Any] = {
            name: ([f"{name}_{axis}" for axis in range(np.ndim(value))], value) for name, value in self.sites.items()
        }
        arrays["trace"] = (("iteration",), self.trace)
        if self.loadings_covariance is not None:
            arrays["loadings_covariance"] = (("loadings_0", "loadings_1", "loadings_2"), self.loadings_covariance)
        header = {
            "settings": self.model.to_settings(),
            "layout": [list(self.layout.regions), list(self.layout.n_neurons), self.layout.bin_width],
            "n_bins": self.n_bins,
            "run": [
                self.method,
                bool(self.converged),
                self.reason,
                self.iterations,
                self.evaluations,
                self.wall_s,
                self.seed,
            ],
            "notes": list(self.notes),
            "fixed": list(self.fixed),
            "versions": self.versions,
            "curvature": None,
        }
        if self.saved_curvature is not None:
            header["curvature"] = [list(self.saved_curvature.names), self.saved_curvature.positive]
            arrays["curvature_mean"] = (("parameter",), self.saved_curvature.mean)
            arrays["curvature_covariance"] = (("parameter", "other_parameter"), self.saved_curvature.covariance)
        dataset = xr.Dataset(arrays, attrs={"mrgp_fit": FORMAT, "header": json.dumps(header)})
        write_atomically(path, lambda file: dataset.to_netcdf(file, engine="h5netcdf"))

    @classmethod
    def load(cls, path: Path, preset_from: Callable[[Mapping[str, Any]], Any]) -> "Fit":
        """Read what :meth:`save` wrote; ``preset_from`` rebuilds the model (see :func:`mrgp.load_fit`)."""
        if not path.is_file():
            raise DataError(f"there is no file {path}: check the path")
        try:
            dataset = xr.load_dataset(path, engine="h5netcdf")
        except Exception as error:
            raise DataError(f"{path} is damaged or not a fit: fit again, or restore the file") from error
        if dataset.attrs.get("mrgp_fit") != FORMAT:
            raise DataError(f"{path} is not a fit saved by this version of mrgp")
        header = json.loads(dataset.attrs["header"])
        try:
            model = preset_from(header["settings"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not a fit saved by this version of mrgp") from error
        curvature = None
        if header["curvature"] is not None:
            names, positive = header["curvature"]
            curvature = Curvature(
                tuple(names), dataset["curvature_mean"].values, dataset["curvature_covariance"].values, positive
            )
        regions, counts, bin_width = header["layout"]
        method, converged, reason, iterations, evaluations, wall_s, seed = header["run"]
        skip = ("trace", "curvature_mean", "curvature_covariance", "loadings_covariance")
        spread = dataset["loadings_covariance"].values if "loadings_covariance" in dataset else None
        return cls(
            model=model,
            layout=Layout(tuple(regions), tuple(counts), bin_width),
            n_bins=header["n_bins"],
            sites={str(name): value.values for name, value in dataset.data_vars.items() if name not in skip},
            method=method,
            trace=dataset["trace"].values,
            converged=converged,
            reason=reason,
            iterations=iterations,
            evaluations=evaluations,
            wall_s=wall_s,
            seed=seed,
            notes=tuple(header["notes"]),
            fixed=tuple(header["fixed"]),
            versions=header["versions"],
            saved_curvature=curvature,
            loadings_covariance=spread,
        )
