"""Summary of an evaluation for JSON, and its tables for a screen."""

from typing import Any

import numpy as np
import xarray as xr

from mrgp.metrics.flow import DIRECTIONS

SCORES = {  # of held-out neurons and regions, as columns: name in the tables, heading, digits
    "psth_rmse": ("PSTH RMSE", 4),
    "trial_rmse": ("trial RMSE", 4),
    "r2": ("R²", 3),
    "bits_per_bin": ("bits/bin", 3),
}


def build(evaluation: Any) -> dict[str, Any]:
    """Build the summary of :class:`mrgp.studies.evaluation.evaluate.Evaluation`.

    NaN, which JSON does not have, becomes null.
    """
    summary = {
        "model": evaluation.model,
        "trials": evaluation.trials,
        "regions": evaluation.cosmoothing["region"].values.tolist(),
        "cosmoothing": by_method(evaluation.cosmoothing, tuple(SCORES)),
        "joint_log_likelihood": {
            str(method): float(evaluation.cosmoothing["joint_log_likelihood"].sel(predictor=method).sum())
            for method in evaluation.cosmoothing["predictor"].values
        },
        "masks": [{name: neurons.tolist() for name, neurons in mask.items()} for mask in evaluation.masks],
        "log_likelihood": float(evaluation.likelihood["log_likelihood"].sum()),
        "reference_log_likelihood": float(evaluation.likelihood["reference"].sum()),
        "gain_bits_per_bin": float(evaluation.likelihood["gain_bits_per_bin"]),
        "reconstruction": {name: plain(evaluation.reconstruction[name]) for name in ("rmse", "r2")},
    }
    if evaluation.left_out is not None:
        summary["regions_left_out"] = by_method(evaluation.left_out, ("r2", "normalised_error", "bits_per_bin"))
    if evaluation.variance is not None:
        share = evaluation.variance["share"]
        summary["variance_explained"] = {str(part): plain(share.sel(part=part)) for part in share["part"].values}
    if evaluation.flow is not None:
        summary["signal_flow"] = flow_rows(evaluation.flow)
    if evaluation.recovery is not None:
        names = [str(name) for name in evaluation.recovery.data_vars]
        summary["recovery"] = {name: plain(evaluation.recovery[name]) for name in names}
    return summary | {"notes": list(evaluation.notes), **evaluation.about}


def by_method(table: xr.Dataset, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Convert a table of scores: method -> score -> one number per region."""
    return {
        str(method): {name: plain(table[name].sel(predictor=method)) for name in names}
        for method in table["predictor"].values
    }


def flow_rows(flow: xr.Dataset) -> list[dict[str, Any]]:
    """List one row per pair of regions and latent; times are in seconds."""
    rows = []
    for p in range(flow.sizes["pair"]):
        for k in range(flow.sizes["across_latent"]):
            cell = flow.isel(pair=p, across_latent=k)
            words = {name: str(cell[name].values) for name in ("first", "second", "direction")}
            names = ("delay", "lower", "upper", "share_first", "share_second", "strength")
            rows.append({"across_latent": k, **words, **{name: plain(cell[name]) for name in names}})
    return rows


def plain(array: xr.DataArray) -> Any:
    """Convert an array to numbers that JSON can hold, None where one is not finite."""
    values = np.asarray(array.values, float)
    if values.ndim == 0:
        return _number(float(values))
    return [plain(part) for part in array]


def report(evaluation: Any) -> str:
    """Format an evaluation as text."""
    regions = [str(region) for region in evaluation.cosmoothing["region"].values]
    lines = [evaluation.trials, "", f"held-out neurons ({' / '.join(regions)})"]
    lines += _score_lines(evaluation.cosmoothing, tuple(SCORES))
    if evaluation.left_out is not None:
        lines += ["", "regions left out, each predicted from the others"]
        lines += _score_lines(evaluation.left_out, ("r2", "bits_per_bin"))
    gain, r2 = float(evaluation.likelihood["gain_bits_per_bin"]), evaluation.reconstruction["r2"].values
    total = float(evaluation.likelihood["log_likelihood"].sum())
    lines += ["", f"log p(trials) = {total:.2f} nats, {gain:+.3f} bits/bin above independent neurons; "
                  f"reconstruction R² {_joined(r2, 3)}"]  # fmt: skip
    if evaluation.variance is not None:
        share = 100 * evaluation.variance["share"]
        parts = [f"{part} {_joined(share.sel(part=part).values, 1)}" for part in share["part"].values.tolist()]
        lines.append(f"variance by source (%): {', '.join(parts)}")
    if evaluation.flow is not None:
        lines += ["", *flow_lines(evaluation.flow)]
    if evaluation.recovery is not None:
        errors = evaluation.recovery
        found = [f"subspaces (all latents) {_joined(errors['subspace_error'].sel(loadings='all').values, 3)}"]
        if np.isfinite(errors["delay_rmse"]):
            found.insert(0, f"delays {float(errors['delay_rmse_bins']):.3f} bins")
        timescales = errors["timescale_error"].values
        if np.isfinite(timescales).any():
            found.append(f"timescales {100 * np.nanmean(np.abs(timescales)):.1f}% on average")
        lines += ["", f"errors against the truth: {', '.join(found)}"]
    return "\n".join([*lines, *(f"note: {note}" for note in evaluation.notes)])


def flow_lines(flow: xr.Dataset) -> list[str]:
    """Describe each pair of regions and latent in words, the strongest first."""
    lines = []
    for row in sorted(flow_rows(flow), key=lambda row: -row["strength"]):
        who = f"latent {row['across_latent']}, {row['first']} and {row['second']}"
        if row["direction"] == DIRECTIONS[3]:
            lines.append(f"{who}: not shared")
            continue
        ahead = {DIRECTIONS[0]: f"{row['first']} leads", DIRECTIONS[1]: f"{row['second']} leads"}
        delay, low, high = (1e3 * row[name] for name in ("delay", "lower", "upper"))
        interval = f" ({low:+.1f} to {high:+.1f})" if low < high else ""
        share = f"{100 * row['share_first']:.0f}% and {100 * row['share_second']:.0f}% of what latents explain there"
        lines.append(f"{who}: {ahead.get(row['direction'], 'direction unclear')}, {delay:+.1f} ms{interval}; {share}")
    return lines


def _score_lines(table: xr.Dataset, names: tuple[str, ...]) -> list[str]:
    """Format one line per method, regions divided by slashes."""
    header = ["", *(SCORES[name][0] for name in names)]
    rows = [[str(method), *(_joined(table[name].sel(predictor=method).values, SCORES[name][1]) for name in names)]
            for method in table["predictor"].values]  # fmt: skip
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return ["  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip()
            for row in [header, *rows]]  # fmt: skip


def _joined(values: np.ndarray, digits: int) -> str:
    return " / ".join("-" if np.isnan(value) else f"{value:.{digits}f}" for value in np.atleast_1d(values))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
