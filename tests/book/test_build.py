"""The site: built without a warning, every link inside it leads somewhere, and no page asks for the network."""

import html
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("source", "src")}
EQUATION = re.compile(r'<(?:div|span) class="math[^>]*>(.*?)</(?:div|span)>', re.DOTALL)
HEAVIEST = 1_500_000  # bytes of a page with its own pictures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs pip install -e '.[book]'"),
]


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value or "")
            elif (tag, name) in LOADED and not (value or "").startswith("data:"):
                self.loaded.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    paths = ["-d", str(out / "trees"), str(ROOT / "notebooks"), str(out / "site")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr
    return out / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}  # but templates


def target(path: Path, link: str) -> tuple[Path, str]:
    """The file that a link leads to, and the place in it."""
    parts = urlsplit(link)
    return ((path.parent / unquote(parts.path)).resolve() if parts.path else path), unquote(parts.fragment)


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    lost = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            if urlsplit(link).scheme or link in ("", "#"):
                continue
            file, place = target(path, link)
            known = file in pages and (not place or place in pages[file].anchors)
            if not (known or (file not in pages and file.is_file())):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost, "\n".join(lost)
    assert len(pages) > 70


def test_no_page_asks_for_the_network(site, pages):
    asked = {(path.name, link) for path, page in pages.items() for link in page.loaded if urlsplit(link).netloc}
    assert not asked
    assert (site / "_static/mathjax/tex-chtml-full.js").is_file()
    assert list((site / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))


def test_no_page_is_heavy(site, pages):
    for path, page in pages.items():
        own = {target(path, link)[0] for link in page.loaded if "_images" in link}
        assert path.stat().st_size + sum(file.stat().st_size for file in own) < HEAVIEST, path.name


def test_equations_are_whole(site, pages):
    """An alignment needs lines to align, and brackets their partners: MathJax would show an error in the page."""
    found = 0
    for path in pages:
        for text in map(html.unescape, EQUATION.findall(path.read_text())):
            found += 1
            where = f"{path.relative_to(site)}: {text[:80]}"
            assert "&" not in text or r"\\" in text or r"\begin" in text, where
            assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}"), where
    assert found > 60
    for path in set((site / "methods").glob("*.html")) - {site / "methods/index.html", site / "methods/kernels.html"}:
        assert '<div class="math' in path.read_text(), f"{path.name} has no equation"


def test_public_names_are_described(pages):
    anchors = set().union(*(page.anchors for page in pages.values()))
    import mrgp

    names = {f"mrgp.{name}" for name in mrgp.__all__} - {"mrgp.metrics", "mrgp.models", "mrgp.plots"}
    assert names | {f"mrgp.models.{name}" for name in mrgp.models.__all__} <= anchors
