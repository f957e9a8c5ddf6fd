"""The package as a newcomer gets it: what is listed is what exists, and imports go down the stair."""

import ast
import tomllib
from pathlib import Path

import mrgp

ROOT = Path(__file__).parents[1]

# The stair of the design, lowest first; a module may import from its own step and below.
STAIR = [
    {"runtime", "align", "kernels", "checks", "delays", "data", "kalman"},
    {"io", "statespace", "simulate", "scenarios"},
    {"distributions", "inference", "posterior", "arviz_tree", "fit", "plots"},
    {"preset", "relevance"},
    {"models"},
    {"report"},
    {"cli", "arguments"},
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

    assert {"adm", "dlag", "fa", "gfa", "gpfa", "lds", "mdlag", "pcca"} <= REGISTRY.keys()
    for name in mrgp.models.__all__:
        assert getattr(mrgp.models, name) is REGISTRY[name.lower()]


def test_double_precision_is_on():
    import jax.numpy as jnp

    assert jnp.zeros(1).dtype == jnp.float64
