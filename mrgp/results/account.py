"""Account of a fit: what was fitted to what, delays in sentences, tables and diagnostics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mrgp.inference.nuts import mixing
from mrgp.parts.delays.bounds import pressing
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.emissions.negative_binomial import DISPERSION
from mrgp.parts.readout import NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData
from mrgp.results import lights as rules
from mrgp.results.rows import BELOW, direction
from mrgp.runtime.account import Account, Light, Picture, Table, capitalised, counted

if TYPE_CHECKING:
    from mrgp.results.fit import Fit
    from mrgp.results.gaussian_process_fit import GaussianProcessFit

MOST_SENTENCES = 8  # on delays; the table has all

PICTURES = (
    Picture("delays", "Delays", "Delays of every latent that regions share, in milliseconds behind the first region, "
            "with 90% intervals where they are known."),
    Picture("latents", "Latents of one trial", "Course of the latents over one trial, in seconds: posterior means with "
            "bands of two standard deviations. Their order and their signs mean nothing."),
    Picture("reconstruction", "Reconstruction of one trial", "Recorded values of some neurons of every region over one "
            "trial, in seconds, and what the fit makes of them."),
    Picture("loadings", "Loadings", "How strongly every neuron of each region reads every latent, in units of the "
            "data, or of the log-rate of counts. With a latent's sign that of its loadings turns."),
    Picture("shared_variance", "Who reads which latent", "Percent of the variance shared within each region that each "
            "latent explains."),
    Picture("effectome", "Who drives whom", "Strength with which each region drives each other one."),
    Picture("dynamics", "Learned dynamics", "Flow of the latents where the recording has been, and fixed points of the "
            "dynamics with their stability."),
    Picture("states", "States of one trial", "Probability of every hidden state over one trial, in seconds."),
    Picture("state_flows", "Flow in every state", "Flow of the latents in every hidden state."),
    Picture("convergence", "Convergence", "Quantity that the search climbed, in nats, over its iterations."),
)  # fmt: skip
"""Figures that there may be of a fit (:func:`mrgp.plots.save_figures`), the ones that answer first."""


def account_of(
    fit: "Fit", summary: Mapping[str, Any], lights: Sequence[Light], sentences: Sequence[str], tables: Sequence[Table]
) -> Account:
    """Put together the account of a fit of any model.

    Args:
        fit: With its recording, if that is at hand; what needs it is left out else.
        summary: Of the fit (:meth:`mrgp.Fit.summary`).
        lights, sentences, tables: What fits of its family say.
    """
    name, regions = type(fit.model).__name__, ", ".join(fit.layout.regions)
    facts = {"model": f"{name}({', '.join(f'{name}={value}' for name, value in fit.choices.items())})"}
    facts |= {"method": fit.method} | recording_facts(fit)
    if fit.preprocessing is not None:
        done = [f"{step}: {value}" for step, value in fit.preprocessing.items() if value]
        facts["preprocessing"] = ", ".join(done) or "none"
    if fit.fixed:
        facts["held, not inferred"] = ", ".join(fit.fixed)
    if summary["log_likelihood"] is not None:
        what = "bound of log p(y | parameters)" if is_bound(fit) else "log p(y | parameters)"
        facts[what] = f"{summary['log_likelihood']:,.2f} nats"
    facts |= {"parameters": n_in_words(fit), "time": f"{fit.wall_s:.1f} s"}
    made_with = {"settings": summary["settings"], "method": fit.method, "seed": fit.seed}
    if fit.data is not None:
        made_with["fingerprint of the recording as fitted"] = fit.data.fingerprint
    return Account(
        "Fit", f"{name} of {regions}", [ended(fit), *sentences], facts, lights, tables, PICTURES, fit.notes,
        made_with=made_with, versions=fit.versions,
    )  # fmt: skip


def titled(fit: "Fit", bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None) -> list[Table]:
    """Tables of a fit under headings.

    ``bounds`` and ``truth`` are as :meth:`mrgp.Fit.tables` takes them.
    """
    tables = [Table(f"{capitalised(next(iter(rows[0])))}s", rows) for rows in fit.tables(bounds, truth) if rows]
    if tables and fit.has_relevance:
        tables[-1] = Table("Regions that read each latent", tables[-1].rows, BELOW)
    return tables


def recording_facts(fit: "Fit") -> dict[str, str]:
    """Say what was fitted: regions, neurons, and trials where they are known."""
    facts = {"recording": str(fit.layout)}
    if fit.data is not None:
        seconds = fit.n_bins * fit.layout.bin_width
        facts["trials"] = f"{fit.data.n_trials} of {'up to ' * (fit.data.length is not None)}{seconds:g} s"
    elif fit.training_trials:
        facts["trials"] = str(len(fit.training_trials))
    if around := fit.layout.window(fit.n_bins):
        facts["aligned to"] = around
    if fit.layout.conditions:
        facts["conditions"] = str(fit.layout.n_conditions)
    return facts


def ended(fit: "Fit") -> str:
    """Say in a sentence what was fitted and how the search ended."""
    state = "came to rest" if fit.converged else "did not come to rest"
    name, names = type(fit.model).__name__, rules.listed(fit.layout.regions)
    return f"{name} was fitted to {names} by method {fit.method}; it {state} after {fit.iterations} iterations."


# --- lights


def lights_of_any(fit: "Fit", summary: Mapping[str, Any]) -> list[Light]:
    """Diagnostics of a fit of any model."""
    found = [rules.convergence(fit.converged, fit.reason, fit.iterations)]
    total = summary["log_likelihood"]
    if fit.data is not None and total is not None:
        trivial = float(np.sum(fit.model.emission.trivial_log_likelihood(fit.data)))
        found.append(rules.gain_over_own_means(total - trivial, n_further(fit), is_bound(fit)))
    if fit.samples is not None and not fit.method_class.ends_at_maximum:
        found.append(rules.mixing(*mixing(fit.samples)))
        if (divergent := fit.sample_stats.get("diverging")) is not None:
            found.append(rules.divergences(int(divergent.sum()), divergent.size))
    if fit.start_heights is not None:
        found.append(rules.starts(np.asarray(fit.start_heights, float).tolist()))
    if fit.data is not None:
        found.append(rules.missing(missing_inside(fit.data)))
    out = {name: neurons.n_left_out for name, neurons in fit.neurons.items()}
    if any(out.values()):
        found.append(rules.left_out(out, {name: neurons.out_of for name, neurons in fit.neurons.items()}))
    return found


def is_bound(fit: "Fit") -> bool:
    """True if the fit's log p(y), or what was climbed, is a lower bound."""
    return fit.climbs.is_bound or fit.model.is_bound


def n_in_words(fit: "Fit") -> str:
    """Count the fit's parameters, and say how many of them are each neuron's own."""
    own = f", {n_of_own_means(fit):,} of them of single neurons (mean, noise)" * bool(n_further(fit))
    return f"{fit.n_parameters:,}{own}"


def n_further(fit: "Fit") -> int:
    """Count parameters beyond those of a model of own means; 0 of networks."""
    return max(fit.n_parameters - n_of_own_means(fit), 0) if fit.has_loadings else 0


def n_of_own_means(fit: "Fit") -> int:
    """Count the fit's parameters that a model of own means has too.

    In it every neuron has its own mean, and what else its emission infers: a variance, a dispersion, or nothing.
    """
    sites, out = fit.sites, (*fit.fixed, *fit.model.held)
    shared = (OFFSET.name, NOISE.name, DISPERSION.name)
    return sum(np.size(sites[name]) for name in shared if name in sites and name not in out)


def missing_inside(data: MultiRegionData) -> float:
    """Share of entries that were not observed, of those before the end of their trial."""
    if data.length is None:
        return data.missing_share
    whole, inside = data.n_trials * data.n_bins, int(np.sum(data.length))
    observed = round((1 - data.missing_share) * whole * data.layout.total_neurons)
    return 1 - observed / (inside * data.layout.total_neurons)


def lights_of_processes(fit: "GaussianProcessFit", bounds: xr.Dataset | None) -> list[Light]:
    """Diagnostics of delays, timescales and latents."""
    found = []
    if fit.has_delays and DELAY.name not in fit.fixed:
        found += lights_of_delays(fit, bounds)
    scales = {f"latent {k}": float(value) for k, value in enumerate(fit.timescales["across"].values)}
    scales |= dict(zip(fit.within_names, fit.timescales["within"].values.tolist(), strict=True))
    asked, width = fit.model.timescale_bounds, fit.layout.bin_width
    low, high = asked or (width, fit.n_bins * width)
    if any(scales.values()) and low < high:
        found.append(rules.timescales(scales, low, high, asked is not None))
    assignment, regions = fit.assignment, fit.populations
    if len(regions) > 1 and assignment.n_across:
        reads = fit.shared_by().values
        readers = {f"latent {k}": [name for name, reading in zip(regions, reads[:, k], strict=True) if reading]
                   for k in range(assignment.n_across)}  # fmt: skip
        found.append(rules.sharing(readers))
    latents = {name: assignment.n_across + own for name, own in zip(regions, assignment.n_within, strict=True)}
    found.append(rules.crowding(latents, dict(zip(regions, assignment.n_neurons, strict=True))))
    return found


def lights_of_delays(fit: "GaussianProcessFit", bounds: xr.Dataset | None) -> list[Light]:
    """Diagnostics of delays, and of their intervals where these are given."""
    table, width = fit.delays, fit.layout.bin_width
    level = table.mean("time") if fit.delays_vary else table
    bound = fit.model.delays.bound(width)
    near = pressing(fit.model.delays, level.values, width)
    names = [f"{fit.populations[r]}, latent {k}" for r, k in zip(*np.nonzero(near), strict=True)]
    n_delays = (len(fit.populations) - 1) * fit.assignment.n_across
    found = [rules.delays_at_bound(names, n_delays, bound, fit.model.delays.hold)]
    if bounds is not None:
        widths = (bounds["upper"] - bounds["lower"]).values[1:]
        known = fit.saved_curvature
        is_sound = bool(known is None or known.positive)
        if not is_sound or np.isfinite(widths).any():
            widest = float(np.nanmax(widths)) if np.isfinite(widths).any() else float("nan")
            found.append(rules.intervals(is_sound, widest, bound, is_bound(fit)))
    return found


# --- sentences


def delays_in_words(fit: "GaussianProcessFit", bounds: xr.Dataset | None) -> Sequence[str]:
    """Say of every latent who leads and by how much, as far as intervals tell."""
    first, *others = fit.populations
    if not fit.has_delays:
        return ()
    if bounds is None:
        return ("No intervals of delays were computed: the table has their best values alone.",)
    said = []
    reads = fit.shared_by().values if fit.has_relevance else np.ones((len(others) + 1, fit.assignment.n_across), bool)
    percent = f"{100 * bounds.attrs['probability']:.0f}%"
    level = fit.delays.mean("time") if fit.delays_vary else fit.delays
    for k in range(fit.assignment.n_across):
        for r, region in enumerate(others, 1):
            if not (reads[0, k] and reads[r, k]):
                continue
            at = {"region": region, "across_latent": k}
            delay, low, high = (1e3 * float(part.sel(at)) for part in (level, bounds["lower"], bounds["upper"]))
            said.append(_delay_in_words(k, region, first, delay, (low, high), percent))
    rest = len(said) - MOST_SENTENCES
    return said[:MOST_SENTENCES] + ([f"{counted(rest, 'more delay')}: see the table."] if rest > 0 else [])


def _delay_in_words(k: int, region: str, first: str, delay: float, ends: tuple[float, float], percent: str) -> str:
    """Say who leads in one latent; all in milliseconds."""
    low, high = ends
    if np.isnan(low):
        return f"Latent {k}: the delay of {region} behind {first}, {delay:+.1f} ms, is at its bound: it tells nothing."
    who = direction(region, first, low, high)
    if who == "unclear":
        return (
            f"Latent {k}: neither {region} nor {first} is told to lead; the delay is {delay:+.1f} ms "
            f"({percent} interval {low:+.1f} to {high:+.1f} ms)."
        )
    sign = 1 if low > 0 else -1
    ends = (low, high) if sign > 0 else (-high, -low)
    return f"Latent {k}: {who} by {sign * delay:.1f} ms ({percent} interval {ends[0]:.1f} to {ends[1]:.1f} ms)."
