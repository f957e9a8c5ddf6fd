"""Notebooks run from top to bottom in their quick setting, and are committed with sound results."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import pytest

from mrgp.part import FAMILIES

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*/*.ipynb"))
MOST_BYTES = 1_500_000
EXPECTED = (  # of few iterations on little data
    "the fit has not converged",
    "the curvature at the maximum is not sound",
    "registers or states are too few",
    "a timescale is shorter",
    "a delay came close",
    "a delay is within 5% of max_delay",
    "across latents removed",
    "the chains are too short",
    "of .* starts the best was",
    "the guide has not converged",
    "the first climb ended below",
    "Estimated shape parameter",
    ".* draws ended divergent",
)
SYNTHETIC = {
    "adm", "coupled_lds", "custom_kernel", "dlag", "extending", "geometry", "gpfa", "lds", "matern", "mdlag",
    "switching", "unknown_populations", "white_latents",
}  # fmt: skip

NONLINEAR = {"ctae", "gpvae", "lfads", "mrlfads", "neuralode", "pass_decision"}
BAYESIAN = {"delay_hypotheses", "own_model", "posterior", "v1v2_hypotheses"}
V1V2 = {"adm", "comparison", "custom_kernel", "dlag", "mdlag"}
STEINMETZ = {"communication"}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_all_are_there():
    found = {(path.parent.name, path.stem) for path in NOTEBOOKS}
    folders = {"synthetic": SYNTHETIC, "nonlinear": NONLINEAR, "bayesian": BAYESIAN, "v1v2": V1V2,
               "steinmetz": STEINMETZ}  # fmt: skip
    assert found == {(folder, name) for folder, names in folders.items() for name in names}


@each_notebook
def test_committed_with_results(path):
    cells = code_cells(path)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < MOST_BYTES
    text = json.dumps([output.get("text", "") for output in outputs])
    assert "/home/" not in text
    assert "/work/" not in text


@pytest.fixture
def _own_parts():
    """Parts that a notebook defines are forgotten after it, and so are its programs, as after a file of tests."""
    yield
    jax.clear_caches()
    for family in FAMILIES.values():
        for name in [name for name, member in family._members.items() if member.__module__ == "__main__"]:
            del family._members[name]


NEEDS = {"geometry": ("ripser", "sklearn")}
"""Packages of extras that a notebook needs; without them it is not run."""


@pytest.mark.notebook
@pytest.mark.usefixtures("_own_parts")
@each_notebook
def test_quick_run(path, monkeypatch):
    for package in NEEDS.get(path.stem, ()):
        pytest.importorskip(package)
    monkeypatch.setenv("MRGP_NOTEBOOK_QUICK", "1")
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
        names: dict[str, Any] = {"__name__": "__main__"}
        with warnings.catch_warnings():
            for expected in EXPECTED:
                warnings.filterwarnings("ignore", expected)
            for number, cell in enumerate(code_cells(path), 1):
                code = compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec")
                exec(code, names)
        plt.close("all")
    assert names["headline"]
    assert np.isfinite(list(names["headline"].values())).all()
