"""Our fits against those of other packages: same model, same trials, seconds to the same log-likelihood.

    python tests/benchmarks/field.py [--trials 100] [--only fa,gpfa,lds,dlag] [--limit 600] [--environment DIR] [--keep]

The packages are installed in an environment of their own, which is made in a temporary folder unless --environment
names one; --keep leaves that folder behind. Contestants run one after the other, each in a fresh process, on the same
trials and processors. A clock starts once a package and the recording are loaded: search for a start, compilation and
all iterations count.

Every contestant leaves its parameters at growing numbers of iterations (ours: of evaluations of log p(y, parameters)
that are higher than all before). All are then judged by one yardstick, the exact log-likelihood of the trials: by NumPy
for factor analysis, by ``likelihood="dense"`` for Gaussian processes, by our Kalman filter for linear systems. Seconds
are those of the first parameters within 1 nat per trial of the best that any contestant reaches. We climb
log p(y, parameters) with weak priors; the numbers compared are without priors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import peak_gb, record, reference, table
from field_peers import GROWTH, PEERS, Diary
from mrgp.models import DLAG, FA, GPFA, LDS

import mrgp
from mrgp.inference.optimise import Objective
from mrgp.likelihoods.statespace.linear import LinearSystem
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET

BARE = 0.02  # of a neuron's variance: noise below is that of a neuron which a latent follows alone (a Heywood case)
CLOSE = 1.0  # nats per trial of the best: what counts as being there
GRACE = 300.0  # seconds beyond the limit for imports and the last iteration, before a process is ended
REQUIREMENTS = {
    "scikit-learn": ("scikit-learn==1.9.1",),
    "elephant": ("elephant==1.2.1", "scikit-learn==1.9.1"),
    "dynamax": ("dynamax==1.0.3",),
    "mbrila": ("mbrila==0.1.0", "torch==2.13.0"),
}
LABELS = {
    "ours": "mrgp",
    "sklearn_fa": "scikit-learn FactorAnalysis",
    "elephant": "elephant GPFA, whole trials",
    "elephant_segments": "elephant GPFA, segments of 20 bins (its default)",
    "dynamax": "dynamax LinearGaussianSSM, diagonal noise",
    "mbrila_exact": "mbrila DLAG, exact (its default)",
    "mbrila_lifted": "mbrila DLAG, lifted to a state space",
}
NOTES = {
    "fa": "Bins are samples. scikit-learn: svd_method 'lapack', tolerance 0.01 nats.",
    "gpfa": "elephant's EM on arrays, since its GPFA takes spike trains; its start and tolerance. "
    "Its floor of the noise, 1% of a neuron's variance, is 1e-6 here: our model has none.",
    "lds": "The first state is learned. dynamax begins at principal components, and its M-step has three repairs: the "
    "noise covariance, full as it comes, keeps its diagonal alone; the first state's covariance is that of several trials; "
    "covariances of states are made symmetric. Without the last two, nothing is a number after 2 or 150 steps.",
    "dlag": "mbrila begins as its demonstration, at its pCCA; one within latent per region.",
}


@dataclass(frozen=True)
class Contest:
    """One model on one recording, and who fits it.

    Attributes:
        title: Of the section's table.
        recording: Name of the reference file.
        model: Ours.
        dense: Whether the yardstick is the dense likelihood of the same model.
        peers: Names of other contestants.
    """

    title: str
    recording: str
    model: Any
    dense: bool
    peers: tuple[str, ...]

    def data(self, trials: int) -> mrgp.MultiRegionData:
        data = mrgp.load_recording(reference(f"{self.recording}.npz"))
        return data.select_trials(slice(0, min(trials, data.n_trials)))

    @property
    def judge(self) -> Any:
        return self.model.replace(likelihood="dense") if self.dense else self.model


CONTESTS = {
    "fa": Contest("FA(14)", "v1v2_smoothed", FA(14), False, ("sklearn_fa",)),
    "gpfa": Contest("GPFA(8)", "v1v2_smoothed", GPFA(8), True, ("elephant", "elephant_segments")),
    "lds": Contest("LDS(8, start='learned')", "v1v2_smoothed", LDS(8, start="learned"), False, ("dynamax",)),
    "dlag": Contest("DLAG(2, 1)", "dlag", DLAG(2, 1), True, ("mbrila_exact", "mbrila_lifted")),
}


# ---- our own fit -----------------------------------------------------------------------------------------------------


def ours(contest: Contest, data: mrgp.MultiRegionData, diary: Diary) -> str:
    """Fit, and write the parameters of evaluations on the way and of the end; return why it ended."""
    way: list[tuple[np.ndarray, Objective, np.ndarray]] = []
    evaluate, lowest = Objective.__call__, np.inf

    def watched(objective: Objective, x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal lowest
        value, slope = evaluate(objective, x)
        whole = np.array_equal(np.asarray(objective.data.values)[0], data.values[0])  # not a climb on factors
        if whole and value < lowest:
            lowest = value
            way.append((diary.spent, objective, np.array(x)))
        if diary.is_over:
            raise KeyboardInterrupt
        return value, slope

    Objective.__call__ = watched  # type: ignore[method-assign]
    try:
        fit = contest.model.fit(data, progress=False)
    except KeyboardInterrupt:
        return "out of time, in the search for a start"
    seconds = diary.spent
    for iteration, (when, objective, x) in enumerate(way, 1):
        if iteration >= diary.next:
            diary.keep(iteration, when, **objective.sites(x))
    diary.keep(max(diary.next, len(way) + 1), seconds, **fit.sites)
    return "out of time" if diary.limit < seconds[0] else fit.reason


def one(name: str, trials: int, folder: Path, limit: float) -> None:
    """Run our side of a contest in this process."""
    warnings.simplefilter("ignore")
    contest = CONTESTS[name]
    data = contest.data(trials)
    reason = ours(contest, data, Diary(folder, limit))
    print(json.dumps({"reason": reason, "peak": peak_gb(), "version": ""}))


# ---- the yardstick ---------------------------------------------------------------------------------------------------


def sites_of(contest: Contest, data: mrgp.MultiRegionData, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sites of our model from the parameters that a contestant has left."""
    layout = data.layout
    common = {"noise": found.get("noise"), "offset": found.get("offset")}
    if isinstance(contest.model, LDS) and "process_noise" in found:
        fields = ("transition", "process_noise", "start_mean", "start_covariance")
        system = LinearSystem(*(found[name] for name in fields))
        dynamics, change = contest.model.state_space(layout).normalised(system)
        return {**dynamics, LOADINGS.name: found["loadings"] @ change, NOISE.name: found["noise"], OFFSET.name: found["offset"]}
    if "delays" in found:
        names = dict(zip(layout.regions, ("loadings_0", "loadings_1"), strict=True))
        timescales = {"timescale_across": found["timescale"], "timescale_within": found["timescale_within"]}
        loadings = {region: found[name] for region, name in names.items()}
        return contest.model.params_from(layout, loadings=loadings, delays=found["delays"], **timescales, **common)
    if "timescale" in found:
        loadings = {region: found["loadings"][part] for region, part in layout.region_slices.items()}
        return contest.model.params_from(layout, loadings=loadings, timescale_across=found["timescale"], **common)
    return dict(found)


def per_trial(contest: Contest, data: mrgp.MultiRegionData, found: Mapping[str, np.ndarray]) -> float:
    """Exact log p(y | parameters) in nats per trial."""
    if not isinstance(contest.model, FA):
        return float(contest.judge.log_likelihood(data, sites_of(contest, data, found)).mean())
    covariance = found["loadings"] @ found["loadings"].T + np.diag(found["noise"])
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (data.values - found["offset"]).reshape(-1, len(root)).T)
    constant = len(root) * np.log(2 * np.pi) + 2 * np.log(np.diag(root)).sum()
    return float(-0.5 * ((white**2).sum() / data.n_trials + data.n_bins * constant))


def judged(contest: Contest, data: mrgp.MultiRegionData, folder: Path) -> np.ndarray:
    """Seconds, CPU seconds, log-likelihood per trial and iterations of all that a contestant has left, (file, 4)."""
    rows = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError):
            continue  # its process was ended while it wrote
        seconds, iteration = found.pop("seconds"), int(found.pop("iteration"))
        rows.append((*seconds, per_trial(contest, data, found), iteration))
    return np.array(rows).reshape(-1, 4)


def bare(data: mrgp.MultiRegionData, folder: Path) -> int:
    """Count neurons that are left with hardly any noise in the last parameters of a contestant."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        return 0
    with np.load(paths[-1]) as file:
        return int((file["noise"] < BARE * data.scale**2).sum())


# ---- contests --------------------------------------------------------------------------------------------------------


def installed(folder: Path, package: str) -> bool:
    """Install a package in the peers' environment, which is made if there is none; tell whether that worked."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[package]]
    done = subprocess.run(command, capture_output=True, text=True, env=alone())
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


def alone(**more: str) -> dict[str, str]:
    """Environment variables without those that lead Python elsewhere, for a process on processors alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "JAX_ENABLE_COMPILATION_CACHE": "0", **more}


def run(command: list[str], limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a contestant; what it says of itself, or why it said nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit + GRACE)
    except subprocess.TimeoutExpired:
        return {"reason": "out of time, ended"}
    if done.returncode < 0:
        return {"reason": f"ended by signal {-done.returncode}, such as for memory"}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {"reason": f"failed: {done.stderr.strip().splitlines()[-1]}"}
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def enter(name: str, who: str, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Let a contestant fit what is in the working folder, and leave its parameters there."""
    folder, limit = work / f"{name}_{who}", str(args.limit)
    folder.mkdir()
    if who == "ours":
        command = [sys.executable, __file__, "--one", name, "--trials", str(args.trials), "--limit", limit]
        own = {key: value for key, value in os.environ.items() if key.startswith("PYTHON")}
        return run([*command, "--folder", str(folder)], args.limit, alone(**own))
    environment = args.environment or work / "peers"
    if not installed(environment, PEERS[who][1]):
        return {"reason": "could not be installed"}
    script, python = Path(__file__).with_name("field_peers.py"), environment / "bin" / "python"
    given = [who, work / f"{name}.npz", folder, CONTESTS[name].model.n_across, limit]
    return run([str(python), str(script), *map(str, given)], args.limit, alone())


def hold(name: str, args: argparse.Namespace, work: Path) -> None:
    """Hold one contest, and record its table."""
    contest = CONTESTS[name]
    data = contest.data(args.trials)
    np.savez(work / f"{name}.npz", values=data.values, neurons=data.layout.n_neurons, bin_width=data.bin_width)
    load = os.getloadavg()[0]
    outcomes: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for who in ("ours", *contest.peers):
        said = enter(name, who, args, work)
        outcomes[who] = said, judged(contest, data, work / f"{name}_{who}")
        print(name, who, said, outcomes[who][1].tolist(), flush=True)
    versions = {said["version"] for said, _ in outcomes.values() if said.get("version")}
    best = max(found[:, 2].max(initial=-np.inf) for _, found in outcomes.values())
    rows = []
    for who, (said, found) in outcomes.items():
        peak = f"{said['peak']:.1f}" if "peak" in said else ""
        if not len(found):
            rows.append([LABELS[who], *[""] * 6, peak, said["reason"]])
            continue
        there = found[found[:, 2] >= best - CLOSE]
        close = [f"{value:.3g}" for value in there[0, :2]] if len(there) else ["never", ""]
        *seconds, end, rounds = found[-1]
        in_all = [f"{value:.3g}" for value in seconds]
        rows.append([LABELS[who], *close, f"{end:.2f}", *in_all, f"{int(rounds):,}", peak, said["reason"]])
    neurons = " + ".join(map(str, data.layout.n_neurons))
    what = f"{contest.recording}: {data.n_trials} trials x {data.n_bins} bins, {neurons} neurons."
    note = (
        f"{what} {NOTES[name]} Peers: {', '.join(sorted(versions)) or 'none'}. One contestant after the other, on "
        f"{len(os.sched_getaffinity(0))} of the cores, {args.limit:g} s for each; compare CPU s where others used them, load "
        f"average {load:.1f} before. Iterations of ours are evaluations of "
        "log p(y, parameters) and its gradient that were higher than all before. Seconds begin once a package and the "
        f"recording are loaded; parameters are kept at numbers of iterations {GROWTH:g} times apart."
    )
    counts = {LABELS[who]: bare(data, work / f"{name}_{who}") for who in outcomes}
    if any(counts.values()):
        cases = ", ".join(f"{label} {count}" for label, count in counts.items())
        note += f" Neurons left with a noise below {BARE:g} of their variance (Heywood cases): {cases}."
    reached = ["s to within 1 nat per trial of the best", "CPU s", "log-likelihood per trial, nats"]
    header = ["contestant", *reached, "s in all", "CPU s", "iterations", "peak GB", "ended by"]
    command = f"python tests/benchmarks/field.py --only {name} --trials {args.trials} --limit {args.limit:g}"
    record(f"Against the field: {contest.title}", f"{table(header, rows)}\n\n{note}", command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--only", default=",".join(CONTESTS), help=f"of {', '.join(CONTESTS)}; all")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that a contestant may take")
    parser.add_argument("--environment", type=Path, help="folder of the peers' environment, made if absent")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, with the peers' environment in it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.trials, args.folder, args.limit)
    names = args.only.split(",")
    if unknown := sorted(set(names) - set(CONTESTS)):
        parser.error(f"no contest {', '.join(unknown)}: choose from {', '.join(CONTESTS)}")
    with tempfile.TemporaryDirectory(delete=not args.keep) as folder:
        work = Path(folder)
        for name in names:
            hold(name, args, work)
        if args.keep:
            print(f"kept: {work}")


if __name__ == "__main__":
    main()
