"""The book's sources: whatever exists has its place in the table of contents, and text names what exists."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import mrgp

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "notebooks"
PAGES = [page for kind in ("md", "rst", "ipynb") for page in BOOK.rglob(f"*.{kind}")]
TREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
TEXTS = [*BOOK.rglob("*.md"), *BOOK.rglob("*.rst"), *BOOK.rglob("*.ipynb"), *ROOT.glob("*.md")]
OUTWARD = re.compile(r"https?://[^\s)>\]\"'`\\]*")
WELL_FORMED = re.compile(r"https://([a-z0-9-]+\.)+[a-z]{2,}(/[\w./~#?=&%+-]*)?[.,;]?")


def public_names() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_names", BOOK / "public_names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def children(page: Path) -> list[Path]:
    """Pages that the tables of contents of a page list."""
    lines = [line.strip() for tree in TREE.findall(page.read_text()) for line in tree.splitlines()]
    names = [line for line in lines if line and not line.startswith(":")]
    return [(page.parent / name).resolve() for name in names]


def in_contents() -> list[Path]:
    """Every page that can be reached from the first, without the end of its name."""
    found, left = [], [BOOK / "index"]
    while left:
        page = left.pop()
        found.append(page)
        source = page.with_suffix(".md")
        left += [child.with_suffix("") for child in (children(source) if source.is_file() else [])]
    return found


def test_every_page_and_notebook_is_in_the_table_of_contents_once():
    listed = in_contents()
    assert len(listed) == len(set(listed))
    assert set(listed) == {page.with_suffix("") for page in PAGES}


def test_every_model_has_a_page_of_methods():
    texts = [page.read_text() for page in (BOOK / "methods").glob("*.md")]
    shown = [name for text in texts for name in re.findall(r"docstring:: mrgp\.models\.(\w+)", text)]
    assert sorted(shown) == sorted(mrgp.models.__all__)
    for text in texts:
        if "docstring::" in text:
            for heading in ("What it assumes", "What they assume"), ("A fit",), ("Where the truth is known",):
                assert any(f"## {name}\n" in text for name in heading), text[:60]
            assert "../synthetic/" in text or "../nonlinear/" in text


def test_every_public_name_has_a_page():
    module = public_names()
    names = module.public_names()
    shown = {page.stem: page.read_text() for page in (BOOK / "reference" / "api").glob("*.rst")}
    assert set(names.values()) <= set(module.PAGES) <= set(shown)
    for page in module.PAGES:
        assert f"public-names:: {page}" in shown[page]
    assert names["mrgp.models.DLAG"] == "models"
    assert names["mrgp.Matern12"] == "kernels"
    assert names["mrgp.load_nwb"] == "readers"
    assert names["mrgp.MultiRegionData"] == "recordings"
    assert names["mrgp.metrics.delay_rmse"] == "metrics"
    assert names["mrgp.Site"] == names["mrgp.process_pool"] == "other"


@pytest.mark.parametrize(("home", "page"), [("mrgp.parts.kernels", "kernels"), ("mrgp.kernels_of_all", "other")])
def test_a_new_name_goes_to_the_page_of_its_folder(home, page):
    assert public_names().page_of("mrgp.Newer", type("Newer", (), {"__module__": home})) == page


def test_every_seam_has_an_example_that_the_page_shows():
    page = (BOOK / "reference" / "extending.md").read_text()
    shown = re.findall(r"\{literalinclude\} examples/(\w+)\.py", page)
    assert sorted(shown) == sorted(path.stem for path in (BOOK / "reference" / "examples").glob("*.py"))
    assert len(shown) == len(re.findall(r"^## ", page, re.MULTILINE)) == 10


def test_links_to_other_sites_are_well_formed():
    for path in TEXTS:
        for link in OUTWARD.findall(re.sub(r'"image/png": "[^"]*"', "", path.read_text())):
            assert WELL_FORMED.fullmatch(link.removesuffix("\\n")), f"{path.relative_to(ROOT)}: {link}"


def test_files_that_the_readme_links_to_are_there():
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("https://") or (ROOT / link).is_file(), link


def test_versions_agree():
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {mrgp.__version__}\n" in cited
    assert f"\n## {mrgp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
