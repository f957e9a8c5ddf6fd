"""The package as a newcomer gets it: what is listed is what exists, and imports go down the stair."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mrgp

ROOT = Path(__file__).parents[1]

# The stair of the design, lowest first; a module may import from its own step and below.
STAIR = [
    {"runtime", "align", "kernels", "checks", "layout", "patterns", "delays", "courses", "data", "kalman", "ranks"}
    | {"folds", "workers", "labels", "units", "arrays", "plausibility", "sentences", "neurons", "shown"}
    | {"texts", "digests"},
    {"io", "matlab", "nwb", "spikes", "tsgroup", "fetch", "preprocessing", "known"}
    | {"statespace", "simulate", "scenarios", "store", "symmetries"},
    {"distributions", "inference", "posterior", "arviz_tree", "summaries", "log_rates", "tables"},
    {"uncertainty", "fit_file"},
    {"fit"},
    {"baselines", "metrics", "plots", "loo", "delay_evidence", "bootstrap", "spreads"},
    {"choices", "parametrized", "fittable", "preset", "undelayed", "relevance", "rebuild"},
    {"crossval", "dimensions", "models", "selection", "sweep"},
    {"report", "compare", "calibration", "calibrate", "aggregation", "evaluation", "scorecard"},
    {"cli", "arguments", "evaluation_arguments", "options", "steps"},
]


def step_of(module: str) -> int:
    return next(height for height, names in enumerate(STAIR) if module in names)


def sources():
    for path in [*ROOT.glob("mrgp/**/*.py"), *ROOT.glob("models/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = "models" if parts[0] == "models" else parts[1]
        if name != "__init__":
            yield path, name


def test_listed_packages_are_the_folders():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("mrgp/**/__init__.py")}
    assert set(listed) == folders | {"mrgp.models"}


def test_imports_go_down_the_stair():
    for path, name in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            found = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mrgp":
                parts = node.module.split(".")
                # `from mrgp import Fit` takes from the whole package: that is for the top of the stair.
                known = set.union(*STAIR)
                whole = [alias.name if alias.name in known else "report" for alias in node.names]
                found = [parts[1]] if len(parts) > 1 else whole
            for other in found:
                assert step_of(other) <= step_of(name), f"{path.name} imports {other}, which stands above it"


def test_no_model_imports_a_sibling():
    for path in ROOT.glob("models/*.py"):
        if path.name != "__init__.py":
            assert "mrgp.models" not in path.read_text()


def test_models_are_importable_and_known_by_name():
    from mrgp.preset import REGISTRY

    for name in mrgp.models.__all__:
        assert getattr(mrgp.models, name) is REGISTRY[name.lower()]
    assert {"adm", "dlag", "fa", "gfa", "gpfa", "lds", "mdlag", "pcca"} <= REGISTRY.keys()


def fresh(script):
    """What a process of its own prints."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_names_are_imported_when_asked_for():
    tree = ast.parse((ROOT / "mrgp" / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in ast.walk(checked) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {"plots"} == set(mrgp.__all__) == {*mrgp._MODULES, "models"}
    assert all(getattr(mrgp, name) is not None for name in mrgp.__all__)
    assert set(mrgp.__all__) <= set(dir(mrgp))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = mrgp.absent
    assert fresh("import mrgp, sys; print('jax' in sys.modules, mrgp.plots.__name__)") == ["False", "mrgp.plots"]


@pytest.mark.parametrize(
    "first", ["import mrgp.kernels", "import jax, mrgp", "from mrgp.models import DLAG", "import mrgp; mrgp.MarkovGP"]
)
def test_double_precision_is_on_whatever_is_imported_first(first):
    assert fresh(f"{first}\nimport jax.numpy as jnp\nprint(jnp.zeros(1).dtype)") == ["float64"]


def test_a_saved_preset_is_known_without_the_zoo():
    script = "from mrgp.preset import REGISTRY; from mrgp.rebuild import preset_from; print(len(REGISTRY)); "
    settings = mrgp.models.FA(2).to_settings()
    assert fresh(f"{script} print(preset_from({settings!r}).n_across)") == ["0", "2"]


def test_double_precision_is_on():
    import jax.numpy as jnp

    assert jnp.zeros(1).dtype == jnp.float64
