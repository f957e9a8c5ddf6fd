"""Code of pages that claim to run: examples of parts of one's own, the first fit, the README."""

import re
import runpy
import warnings
from pathlib import Path

import jax
import matplotlib
import pytest

from mrgp.part import FAMILIES
from mrgp.parts.sites import SITES

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "notebooks/reference/examples").glob("*.py"))
FIRST_FIT = ROOT / "notebooks/start/first_fit.md"
EXPECTED = ("the fit has not converged", "the curvature at the maximum is not sound", "the guide has not converged")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_parts():
    """Parts and sites that an example defines are forgotten after it."""
    sites = set(SITES)
    yield
    jax.clear_caches()
    for family in FAMILIES.values():
        for name in [name for name, member in family._members.items() if not member.__module__.startswith("mrgp.")]:
            del family._members[name]
    for name in set(SITES) - sites:
        del SITES[name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path):
    with warnings.catch_warnings():
        for expected in EXPECTED:
            warnings.filterwarnings("ignore", expected)
        runpy.run_path(str(path), run_name="example")  # which asserts


@pytest.mark.parametrize("path", [FIRST_FIT, ROOT / "README.md"], ids=["first_fit", "readme"])
def test_page_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
    names: dict = {}
    exec(compile(code, path.name, "exec"), names)
    delays = sorted(1e3 * names["fit"].delays.sel(region="V2").values)
    assert delays == pytest.approx([-20, 30], abs=3)  # ms
    assert names["found"].cosmoothing.sizes["region"] == 2
    assert (tmp_path / "fit.nc").is_file()
    matplotlib.pyplot.close("all")
