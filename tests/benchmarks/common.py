"""What the benchmark commands share: where data are, what machine this is, and the results file.

Each command prints a table and replaces its own section of RESULTS.md, beside this file.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.parts.matching import delay_rmse

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
DATA = Path(os.environ.get("MRGP_BENCHMARK_DATA", HERE.parents[2] / "shared" / "data"))
"""Reference recordings; they are not part of the project. Set MRGP_BENCHMARK_DATA to their folder."""


def reference(name: str) -> Path:
    """The path of a reference file, or a clear end where it is absent."""
    path = DATA / name
    if not path.is_file():
        raise SystemExit(f"needs the reference file {name}: set MRGP_BENCHMARK_DATA to the folder that holds it")
    return path


def machine() -> str:
    """Date, processor, versions: one line for a results table."""
    model = platform.processor() or platform.machine()
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.+)", info).group(1)  # type: ignore[union-attr]
    except (OSError, AttributeError):
        pass
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("jax", "numpyro", "numpy", "scipy"))
    today = datetime.date.today().isoformat()
    return f"{today}; {os.cpu_count()} cores of {model}; Python {platform.python_version()}; {versions}; float64"


def peak_gb() -> float:
    """Peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def record(section: str, body: str, command: str) -> None:
    """Print ``body`` and make it the section of that name in RESULTS.md."""
    text = f"## {section}\n\n`{command}`  \n{machine()}\n\n{body}\n"
    print(text)
    old = RESULTS.read_text() if RESULTS.is_file() else "# Benchmark results\n"
    pattern = re.compile(rf"^## {re.escape(section)}\n.*?(?=^## |\Z)", re.M | re.S)
    new = pattern.sub(lambda _: text + "\n", old) if pattern.search(old) else old.rstrip() + "\n\n" + text
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(new.rstrip() + "\n")
    temporary.replace(RESULTS)


def in_fresh_process(script: str, name: str, limit: float | None = None) -> Any:
    """The last line that ``script --one name`` prints, read as JSON: nothing compiled is kept from before.

    None where it takes more than ``limit`` seconds; an end with its errors where it fails.
    """
    fresh = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    command = [sys.executable, script, "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=fresh, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def delay_errors(delays: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """RMS error in bins of (region, latent) delays after matching latents: over all pairs i < j, and against region 1."""
    against_first = min(np.mean((delays[1:, order] - truth[1:]) ** 2) for order in map(list, permutations(range(truth.shape[1]))))
    return delay_rmse(delays, truth), float(np.sqrt(against_first))
