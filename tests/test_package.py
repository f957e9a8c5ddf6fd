"""The package as a newcomer gets it: what is listed is what exists, and imports go down the stair."""

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import mrgp
from mrgp.cli.main import parse

ROOT = Path(__file__).parents[1]

# The stair of the design, lowest first: code imports from its own folder and from those below. Folders of one step do
# not import each other. What stands at the top of the package is `part.py`: readers, parts, metrics and models are made
# of it, and it imports nothing.
STAIR = [
    {"part"},
    {"runtime"},
    {"recordings"},
    {"parts"},
    {"likelihoods"},
    {"inference"},
    {"results"},
    {"families"},
    {"models", "simulations", "metrics"},
    {"plots"},
    {"studies"},
    {"cli"},
]
MOST_AT_THE_TOP = 15


def step_of(folder: str) -> int:
    return next(height for height, names in enumerate(STAIR) if folder in names)


def sources():
    """Every module of the package and the folder it stands in."""
    for path in [*ROOT.glob("mrgp/**/*.py"), *ROOT.glob("models/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        folder = "models" if parts[0] == "models" else parts[1]
        if folder != "__init__":
            yield path, folder


def imported(path):
    """The folders of the package that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mrgp":
            names = [node.module] if "." in node.module else [f"mrgp.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("mrgp.")]
        yield from (name.split(".")[1] for name in names)


def test_listed_packages_are_the_folders():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("mrgp/**/__init__.py")}
    assert set(listed) == folders | {"mrgp.models"}


def test_imports_go_down_the_stair():
    folders = set.union(*STAIR)
    for path, folder in sources():
        for other in imported(path):
            # `from mrgp import Fit` takes from the whole package: that is for the command line.
            above = other not in folders or step_of(other) > step_of(folder)
            beside = other in folders and other != folder and step_of(other) == step_of(folder)
            assert folder == "cli" or not (above or beside), f"{path.relative_to(ROOT)} imports {other}"


def test_the_top_of_the_package_is_read_at_a_glance():
    entries = {path.name for path in (ROOT / "mrgp").iterdir() if path.name != "__pycache__"}
    assert entries - {"__init__.py", "__init__.pyi", "part.py"} == set.union(*STAIR) - {"models", "part"}
    assert len(entries) <= MOST_AT_THE_TOP


def test_no_model_imports_a_sibling():
    for path in ROOT.glob("models/*.py"):
        if path.name != "__init__.py":
            assert "mrgp.models" not in path.read_text()


def test_models_are_importable_and_known_by_name():
    from mrgp.families.model import Model

    for name in mrgp.models.__all__:
        assert getattr(mrgp.models, name) is Model.member(name)
    assert {"adm", "dlag", "fa", "gfa", "gpfa", "lds", "mdlag", "pcca"} <= Model.members().keys()


ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj):`~?([\w.]+)`")
DOTTED = re.compile(r"\bmrgp(?:\.[A-Za-z_]\w*)+")
MODULE = re.compile(r"``([a-z_]+(?:\.[a-z_]+)+)``")
FILES = {"csv", "json", "nc", "png", "py"}


def within(owner, name):
    """What `owner` has under a name: a submodule, an attribute of a class, or one of its instances."""
    if isinstance(owner, ModuleType) and not hasattr(owner, name):
        return importlib.import_module(f"{owner.__name__}.{name}")
    if isinstance(owner, type) and not hasattr(owner, name):
        declared = any(name in vars(base).get("__annotations__", {}) for base in owner.__mro__)
        assert declared or f"self.{name}" in inspect.getsource(owner), name
        return None
    return getattr(owner, name)


def is_found(owner, path):
    try:
        for name in path.split("."):
            owner = within(owner, name)
    except (AttributeError, AssertionError, ModuleNotFoundError):
        return False
    return True


def of_package(name):
    return is_found(mrgp, name.removeprefix("mrgp."))


def module_of(path):
    names = path.relative_to(ROOT).with_suffix("").parts
    inside = names if names[0] == "mrgp" else ("mrgp", *names)
    return importlib.import_module(".".join(inside).removesuffix(".__init__"))


def owners(path, line):
    """What a name in line `line` of a file may belong to: its class, and its module."""
    module = module_of(path)
    bodies = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    return [*(getattr(module, n.name) for n in bodies if n.lineno <= line <= n.end_lineno), module]


def test_docstrings_refer_to_what_exists():
    files = [*ROOT.glob("mrgp/**/*.py"), *ROOT.glob("models/*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    folders = {path.parent.name for path in files} - {"mrgp"}
    lost = []
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            wrong = [name for name in DOTTED.findall(line) if not of_package(name)]
            for name in ROLE.findall(line):
                if not name.startswith("mrgp.") and not any(is_found(owner, name) for owner in owners(path, number)):
                    wrong.append(name)
            for name in MODULE.findall(line):
                folder, *_, last = name.split(".")
                is_module = folder in folders and last not in FILES
                if is_module and not any(known.endswith(f".{name}") for known in modules):
                    wrong.append(name)
            lost += [f"{path.relative_to(ROOT)}:{number}: {name}" for name in wrong]
    assert not lost, "\n".join(lost)


def cells(path, kind):
    found = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def imports(code):
    """Every `name` of a `from mrgp.x import name` in some code, with its module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mrgp":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))
ABBREVIATED = {"...", "DIR...", "NAME"}  # in commands that sentences name
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("notebooks/**/*.md"))]


def test_notebooks_benchmarks_and_pages_name_what_exists():
    files = [*ROOT.glob("tests/benchmarks/*.py"), *ROOT.glob("notebooks/reference/examples/*.py")]
    codes = {path: [path.read_text()] for path in files}
    codes |= {path: cells(path, "code") for path in NOTEBOOKS}
    texts = {path: path.read_text() for path in [*WRITTEN, *ROOT.glob("tests/**/*.md"), *codes]}
    codes |= {path: re.findall(r"```python\n(.*?)```", texts[path], re.DOTALL) for path in WRITTEN}
    named = [(path, name) for path, text in texts.items() for name in DOTTED.findall(text)]
    named += [(path, name) for path, parts in codes.items() for code in parts for name in imports(code)]
    lost = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not of_package(name)]
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("path", [*WRITTEN, *NOTEBOOKS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_commands_that_texts_show_are_understood(path):
    text = path.read_text() if path in WRITTEN else "\n".join(cells(path, "markdown"))
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("$seed", "0")
    commands = re.findall(r"(?:^|/)\s*mrgp ([a-z].*)", blocks, re.MULTILINE)
    commands += [one for one in re.findall(r"`mrgp ([a-z]+ [^`]+)`", text) if not ABBREVIATED & set(one.split())]
    for command in commands:
        try:
            parse(shlex.split(command, comments=True))
        except SystemExit as stop:
            pytest.fail(f"mrgp {command}: {stop}")


def fresh(script):
    """What a process of its own prints."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_names_are_imported_when_asked_for():
    assert all(getattr(mrgp, name) is not None for name in mrgp.__all__)
    assert set(mrgp.__all__) <= set(dir(mrgp))
    with pytest.raises(AttributeError, match="absent"):
        _ = mrgp.absent
    assert fresh("import mrgp, sys; print('jax' in sys.modules, mrgp.plots.__name__)") == ["False", "mrgp.plots"]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("import mrgp.parts.kernels", marks=pytest.mark.slow), "import jax, mrgp",
        pytest.param("from mrgp.models import DLAG", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_double_precision_is_on_whatever_is_imported_first(first):
    assert fresh(f"{first}\nimport jax.numpy as jnp\nprint(jnp.zeros(1).dtype)") == ["float64"]


LATE = (
    "mrgp.inference.optimise",  # mrgp.models imports it
    "mrgp.likelihoods", "mrgp.simulations.simulate", "mrgp.results.fit",  # those two import these, or these them
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("later", ["mrgp.models", *LATE])
def test_numpyro_is_whole_where_arviz_came_first(later):
    """ArviZ leaves it to be loaded piece by piece, and a piece alone lacks the others."""
    script = f"import mrgp, arviz; import {later}, numpyro; print(numpyro.distributions.distribution.__name__)"
    assert fresh(script) == ["numpyro.distributions.distribution"]


@pytest.mark.slow
def test_a_saved_preset_is_known_without_the_zoo():
    script = "from mrgp.part import FAMILIES, rebuilt; print(len(FAMILIES)); "
    settings = mrgp.models.FA(2).to_settings()
    assert fresh(f"{script} print(rebuilt('model', {settings!r}).n_across)") == ["0", "2"]


def test_double_precision_is_on():
    import jax.numpy as jnp

    assert jnp.zeros(1).dtype == jnp.float64
