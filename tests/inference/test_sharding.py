"""Trials shared out among devices, of one process or of two: the same numbers, and trials stay where they are."""

import json
import os
import pickle
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import mrgp

COMMON = """
import json, re, sys
import jax
if len(sys.argv) > 1:  # several processes
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import numpy as np
import mrgp
from mrgp.models import DLAG
from mrgp.inference.density import LogJoint, known_sites
from mrgp.inference.optimise import Objective, _objective
from mrgp.likelihoods import blocks, reduction
from mrgp.recordings import observations
from mrgp.runtime.sharding import computing_over

def recording(n_trials, ragged=False):
    rng = np.random.default_rng(0)
    drive = 4 + 2 * np.sin(np.arange(20) / 3 + rng.uniform(0, 6, (n_trials, 1)))
    counts = rng.poisson(drive[..., None], (n_trials, 20, 6))
    regions = {"V1": counts[..., :3].astype(np.uint8), "V2": counts[..., 3:].astype(np.uint8)}
    if ragged:
        regions = {name: [trial[: 20 - 4 * (b % 3)] for b, trial in enumerate(a)] for name, a in regions.items()}
    return mrgp.MultiRegionData(regions, 0.02, trial_coords={"condition": (["a", "b", "c"] * n_trials)[:n_trials]})

def compared(model, data, in_blocks):
    jax.clear_caches()
    blocks.LARGE, blocks.AT_ONCE = (60, 2 * 120) if in_blocks else (2**25, 2**20)
    observations.LARGE, reduction.BLOCK = blocks.LARGE, 240
    model = model.prepared(data)
    sites = {name: site["fn"].sample(jax.random.key(3)) for name, site in known_sites(model, data).items()}
    alone, shared = (Objective(LogJoint(model), d, sites, {}) for d in (data, data.on(jax.devices())))
    (value, slope), (own, its) = (objective(np.zeros(objective.size)) for objective in (alone, shared))
    scores = [model.log_likelihood(d, sites) for d in (data, data.on(jax.devices()))]
    with computing_over(shared.mesh):
        lowered = _objective.lower(*shared.arguments(np.zeros(shared.size)), shared.guess, shared.within)
    program = lowered.compile().as_text()
    of_trials = r"= (u8|f64)\\S*20,6\\S* (all-gather|all-to-all|all-reduce|collective)"  # values, kept or as numbers
    moved = [line for line in program.splitlines() if re.search(of_trials, line)]
    return {"value": abs(own - value) / abs(value), "slope": float(np.abs(its - slope).max() / np.abs(slope).max()),
            "scores": float(np.abs(scores[0] - scores[1]).max() / np.abs(scores[0]).max()), "moved": moved[:1],
            "devices": len(shared.data.values.sharding.device_set), "shape": shared.data.values.shape}
"""

DEVICES = """
found = {}
for kind, n_trials, ragged in (("divided", 16, False), ("spare", 19, False), ("few", 5, False), ("ragged", 11, True)):
    for in_blocks in (False, True):
        found[f"{kind}, {in_blocks}"] = compared(DLAG(1, 1), recording(n_trials, ragged), in_blocks)
found["psth, True"] = compared(DLAG(1, 0, mean="psth"), recording(13), True)
found["poisson, False"] = compared(DLAG(1, 0, emission="poisson"), recording(13), False)
print(json.dumps(found))
"""

PROCESSES = """
found = {str(in_blocks): compared(DLAG(1, 1), recording(7), in_blocks) for in_blocks in (False, True)}
fits = [DLAG(1, 0).fit(data, progress=False, n_starts=2, max_iterations=20)
        for data in (recording(7), recording(7).on(jax.devices()))]
found["fits"] = [[fit.trace[-1], float(fit.log_likelihood().sum())] for fit in fits]
print(json.dumps(found))
"""


def started(program, *arguments, **settings):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **settings}
    command = [sys.executable, "-c", COMMON + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def printed(process):
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def same(case, n_devices):
    assert case["value"] < 1e-9
    assert case["slope"] < 1e-9
    assert case["scores"] < 1e-9
    assert case["devices"] == n_devices


@pytest.mark.slow
def test_eight_devices_compute_what_one_does():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    found = printed(started(DEVICES, XLA_FLAGS=flags))
    for case in found.values():
        same(case, 8)
        assert case["shape"][0] % 8 == 0
    assert found["spare, True"]["shape"][0] == 24
    for kind in ("divided", "spare"):
        for in_blocks in (False, True):
            assert not found[f"{kind}, {in_blocks}"]["moved"]  # the recording stays where it was put


@pytest.mark.slow
def test_two_processes_compute_and_fit_what_one_does():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [started(PROCESSES, address, rank) for rank in range(2)]
    first, second = map(printed, processes)
    for found in (first, second):
        for kind in ("False", "True"):
            same(found[kind], 2)
        alone, shared = found["fits"]
        assert shared == pytest.approx(alone, rel=1e-9)
    assert first["fits"] == second["fits"]


def test_selections_stay_on_their_devices_and_other_processes_have_none():
    counts = np.random.default_rng(0).poisson(3.0, (4, 5, 3))
    shared = mrgp.MultiRegionData({"V1": counts}, bin_width=0.02).on(jax.devices())
    assert shared.select_trials([0, 2]).mesh == shared.mesh
    assert shared.select_neurons({"V1": [1]}).mesh == shared.mesh
    assert pickle.loads(pickle.dumps(shared)).mesh is None
