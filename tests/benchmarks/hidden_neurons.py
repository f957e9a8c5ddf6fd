"""Hidden neurons of real recordings by models of smooth latents, beside regression on components, in bits per spike.

    python tests/benchmarks/hidden_neurons.py [--draws 3] [--models gpfa:20,gpfa_held:20] [--choose]

Regions, divisions of trials, hidden neurons and score are those of component_regression.py, draw by draw, and so is the
baseline. Models are fitted to counts of all neurons in training trials; in test trials the hidden ones are predicted
from all others, and their rates are the means of what is predicted. ``joint`` scores the prediction that a model makes
of all hidden counts together, log p(hidden | others), as a difference of two lower bounds, in the same bits. ``few``
takes the latents alone, on which hidden neurons are regressed in 4 and in 16 training trials.

With --choose every size is also fitted to four fifths of the training trials, and scored by hidden neurons of the last
fifth: the best size there is the one that training trials choose. Rows go to a file as they come, and are not made again.

20 latents are as many as the baseline has components. ``gpfa_held`` has the baseline's prior of log-rates too, whatever
its number of latents; it was added after draw 0 had been scored, so that later draws are its test. Variants of "gpfa"
begin where that ends, and their seconds are those of both. LFADS has as many inputs as factors, and predicts with 100
gradient steps after its guide; ``lfads_guide`` is the same fit without these, and ``lfads_drift`` has what changes
slowly over the session besides, at the places of test trials between training trials. ``lfads_together`` trains guide
and program together, with 8 inputs, as LFADS did before there were ``own_epochs``.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import machine, record, table
from component_regression import bits, drawn, largest
from mrgp.models import CTAE, DLAG, FA, GFA, GPFA, LFADS, MDLAG, MRLFADS
from scipy.special import gammaln, xlogy

import mrgp
from mrgp.metrics import few_shot, split_trials
from mrgp.metrics.component_regression import COMPONENTS, component_regression

DONE = Path(__file__).with_suffix(".jsonl")
RECORDINGS = ("1", "3", "12", "13")
BASELINE = f"components:{COMPONENTS}"
PLAIN = "gpfa"
HELD = mrgp.Weak(signal_spread=1.0)  # of log-rates, as in the baseline
MODELS: dict[str, Callable[[int], Any]] = {
    PLAIN: lambda n: GPFA(n, emission="poisson"),
    "gpfa_held": lambda n: GPFA(n, emission="poisson", loadings=HELD),
    "gpfa_held_psth": lambda n: GPFA(n, emission="poisson", loadings=HELD, mean="psth"),
    "gpfa_held_dispersed": lambda n: GPFA(n, emission="negative_binomial", loadings=HELD),
    "gpfa_psth": lambda n: GPFA(n, emission="poisson", mean="psth"),
    "gpfa_dispersed": lambda n: GPFA(n, emission="negative_binomial"),
    "gpfa_dispersed_psth": lambda n: GPFA(n, emission="negative_binomial", mean="psth"),
    "fa": lambda n: FA(n, emission="poisson"),
    "dlag": lambda n: DLAG(n, 1, emission="poisson", max_delay=0.05, hold_max_delay=True),
    "mdlag": lambda n: MDLAG(n, emission="poisson", max_delay=0.05, hold_max_delay=True),  # "vb", as GFA
    "gfa": lambda n: GFA(n, emission="poisson"),
    "lfads": lambda n: LFADS(n_factors=n, n_states=64, n_inputs=n, refinement=100),
    "lfads_guide": lambda n: LFADS(n_factors=n, n_states=64, n_inputs=n),  # the same fit, without steps after the guide
    "lfads_drift": lambda n: LFADS(n_factors=n, n_states=64, n_inputs=n, refinement=100, drift="slow"),
    "lfads_together": lambda n: LFADS(n_factors=n, n_states=64, n_inputs=8, refinement=100),
    "lfads_together_drift": lambda n: LFADS(n_factors=n, n_states=64, n_inputs=8, refinement=100, drift="slow"),
    "mrlfads": lambda n: MRLFADS(n, 2 * n, 2, 2, max_delay=0.0),  # factors of each region
    "ctae": lambda n: CTAE(n, 2, width=32),
}
SETTINGS: dict[str, dict[str, Any]] = {name: {"own_epochs": 0} for name in ("lfads_together", "lfads_together_drift")}
FROM_PLAIN = tuple(name for name in MODELS if name.startswith(f"{PLAIN}_"))  # these begin where it has ended
FEW = (4, 16)  # trials in which hidden neurons are regressed on latents
TOLERANCE, STARTS = 5.0, 1  # nats, of a third of a million and more


class Cell(NamedTuple):
    """One fit: of which recording, draw of trials and neurons, and model; and whether it is for a choice of size."""

    recording: str
    draw: int
    model: str
    choice: bool


def trials_of(cell: Cell) -> tuple[mrgp.MultiRegionData, mrgp.MultiRegionData, dict[str, np.ndarray]]:
    """Trials to fit, trials to score, and neurons that are hidden in these."""
    data = largest(f"steinmetz_{cell.recording}")
    order = split_trials(data.n_trials, cell.draw, (0.8, 0.0, 0.2))
    train, scored = data.select_trials(order.train), data.select_trials(order.test)
    hidden = drawn(train, cell.draw)
    if cell.choice:
        inner = split_trials(train.n_trials, cell.draw, (0.8, 0.0, 0.2))
        train, scored = train.select_trials(inner.train), train.select_trials(inner.test)
    return train, scored, hidden


def joint_bits(fit: mrgp.Fit, train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, hidden: dict[str, np.ndarray]) -> float:
    """log p(hidden | others) above Poisson counts of the training means, in bits per spike of hidden neurons."""
    own = spikes = 0.0
    for region, chosen in hidden.items():
        counts, mean = test.region(region)[..., chosen], train.region(region)[..., chosen].mean((0, 1))
        own += (xlogy(counts, mean) - mean - gammaln(counts + 1)).sum()
        spikes += counts.sum()
    found = float((fit.log_likelihood(test) - fit.log_likelihood(test.without(hidden))).sum())
    return float((found - own) / (spikes * np.log(2)))


def fitted(cell: Cell, train: mrgp.MultiRegionData, fits: Path | None, epochs: int | None = None) -> tuple[mrgp.Fit, float]:
    """A fit, and the seconds that it took, with those of the fit that it began from; networks for ``epochs`` at most."""
    name, size = cell.model.split(":")
    path = fits and fits / f"{cell.recording}_{cell.draw}_{name}{size}{'_choice' * cell.choice}.nc"
    start, before = None, 0.0
    if name in FROM_PLAIN:
        start, before = fitted(cell._replace(model=f"{PLAIN}:{size}"), train, fits)
    if path and path.is_file():
        fit = mrgp.load_fit(path)
    else:
        model = MODELS[name](int(size))
        how: dict[str, Any] = {"batch_size": 32, **SETTINGS.get(name, {})} if isinstance(model, mrgp.Amortised) else {"n_starts": STARTS, "tolerance": TOLERANCE}
        if epochs and isinstance(model, mrgp.Amortised):
            how["max_iterations"] = epochs
        fit = model.fit(train, start=start, progress=False, **how)
        if path:
            fit.save(path)
    return fit, fit.wall_s + before


def scored(cell: Cell, fits: Path | None, epochs: int | None) -> dict[str, Any]:
    """One row of the results file."""
    warnings.simplefilter("ignore")
    train, test, hidden = trials_of(cell)
    row: dict[str, Any] = {**cell._asdict(), "machine": machine(), "hidden": sum(map(len, hidden.values()))}
    row |= {"neurons": train.layout.total_neurons, "trials": train.n_trials, "test_trials": test.n_trials}
    began = time.perf_counter()
    if cell.model == BASELINE:
        return row | {"bits": bits(component_regression(train), train, test, hidden, False), "seconds": time.perf_counter() - began}
    fit, seconds = fitted(cell, train, fits, epochs)
    row |= {"seconds": seconds, "reason": fit.reason, "evaluations": fit.evaluations, "height": fit.trace[-1]}
    if fit.has_loadings:
        row |= {"kept": fit.model.n_across, "loading": float(np.abs(fit.sites["loadings"]).max())}
    if fit.has_loadings and fit.model.kernel.has_timescale:
        row["timescales"] = sorted(np.round(1e3 * fit.timescales["across"].values, 1).tolist())
    row["bits"] = bits(fit, train, test, hidden, False)
    if cell.choice:
        return row
    few = few_shot(fit, train, test, hidden, FEW)["few_shot"].values.tolist()
    return row | {"joint": None if fit.model.is_autoencoder else joint_bits(fit, train, test, hidden), "few": few}


def shown(values: list[float], form: str) -> str:
    """The mean and, of several, the lowest and the highest."""
    among = f" ({form.format(min(values))} to {form.format(max(values))})" if len(values) > 1 else ""
    return f"{form.format(np.mean(values))}{among}"


def unfinished(group: list[dict[str, Any]]) -> str:
    """Remark on fits that were stopped before they came to rest."""
    reasons = {row.get("reason", "") for row in group}
    return "".join(f" ({reason})" for reason in sorted(reasons) if reason.startswith("stopped after"))


def of_recording(recording: str, rows: list[dict[str, Any]]) -> str:
    """Table of one recording: a line for the baseline and each model."""
    own = [row for row in rows if row["recording"] == recording]
    base = {row["draw"]: row for row in own if row["model"] == BASELINE}
    choice = {(row["draw"], row["model"]): row["bits"] for row in own if row["choice"]}
    tests: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(own, key=lambda row: (row["model"].split(":")[0], int(row["model"].split(":")[1]), row["draw"])):
        if not row["choice"] and row["draw"] in base:
            tests.setdefault(row["model"], []).append(row)
    lines = []
    for model, group in sorted(tests.items(), key=lambda item: item[0] != BASELINE):
        draws = [row["draw"] for row in group]
        gains = [row["bits"] - base[row["draw"]]["bits"] for row in group]
        family = f"{model.split(':')[0]}:"
        wins = [d for d in draws if (d, model) in choice
                and choice[d, model] == max(v for (draw, other), v in choice.items() if draw == d and other.startswith(family))]  # fmt: skip
        inner = [choice[d, model] for d in draws if (d, model) in choice]
        is_base = model == BASELINE
        lines.append([
            model.replace(":", ", ") + unfinished(group), ", ".join(map(str, draws)), shown([row["bits"] for row in group], "{:.3f}"),
            "" if is_base else shown(gains, "{:+.3f}"),
            "" if is_base or group[0]["joint"] is None else f"{np.mean([row['joint'] for row in group]):.3f}",
            " / ".join(f"{value:.3f}" for value in np.mean(few, 0)) if (few := [row["few"] for row in group if "few" in row]) else "",
            f"{np.mean(inner):.3f}" if inner else "", ", ".join(map(str, wins)), f"{np.median([row['seconds'] for row in group]):.0f}",
        ])  # fmt: skip
    first = next(iter(base.values()))
    sizes = f"steinmetz_{recording}: {first['neurons']} neurons, {first['hidden']} hidden, {first['trials']} / {first['test_trials']} trials"
    heads = ["model, latents", "draws", "bits per spike", "over the baseline, same draws", "joint", "few-shot, 4 / 16 trials", "bits per spike in training trials left out",
             "chosen there, in draws", "s"]  # fmt: skip
    return f"{sizes}.\n\n{table(heads, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", default=",".join(RECORDINGS))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--models", default="gpfa:20", help="names and numbers of latents; the baseline is always there")
    parser.add_argument("--choose", action="store_true", help="also fit four fifths of the training trials, to choose sizes")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no fit after so long; 0 only writes the table")
    parser.add_argument("--fits", type=Path, help="keeps fits, and is read first")
    parser.add_argument("--epochs", type=int, help="of models with networks, at most; a row says by what its fit ended")
    args = parser.parse_args()
    models = [BASELINE, *args.models.split(",")]
    cells = [Cell(recording, draw, model, False) for draw in range(args.draws) for recording in args.recordings.split(",") for model in models]
    if args.choose:
        cells = [cell._replace(choice=True) for cell in cells if cell.model != BASELINE] + cells
    rows = [json.loads(line) for line in DONE.read_text().splitlines()] if DONE.is_file() else []
    known = {tuple(row[name] for name in Cell._fields) for row in rows}
    began = time.perf_counter()
    for cell in cells:
        if cell in known or time.perf_counter() - began > 60 * args.minutes:
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:  # programs of so many shapes do not fit beside each other
            row = alone.submit(scored, cell, args.fits, args.epochs).result()
        rows.append(row)
        with DONE.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    about = (
        "Bits per spike of hidden neurons in test trials: mean, lowest and highest over draws, which are divisions of "
        "trials with their own hidden neurons. gpfa_held was added after draw 0 had been scored: later draws are its test."
    )
    there = [recording for recording in RECORDINGS if any(row["recording"] == recording and row["model"] == BASELINE for row in rows)]
    done = ",".join(dict.fromkeys(row["model"] for row in rows if row["model"] != BASELINE))
    chosen = " --choose" * any(row["choice"] for row in rows)
    record("Hidden neurons by smooth latents", "\n\n".join([about, *(of_recording(recording, rows) for recording in there)]),
           f"python tests/benchmarks/hidden_neurons.py --draws {1 + max(row['draw'] for row in rows)} --models {done}{chosen}")  # fmt: skip



if __name__ == "__main__":
    main()
