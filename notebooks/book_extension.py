"""What the book asks of Sphinx beside pages.

The public names of each part, help of commands, links to notebooks, and equations without a network.
"""

import importlib
import importlib.util
import inspect
import io
import os
import re
import shutil
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from public_names import public_names

NOTEBOOK = re.compile(r"[\w/]+\.ipynb")
ARGUMENTS = re.compile(r"\n\n(?:Args|Attributes|Raises):\n")
EQUATION = ".. math::"
INIT_ONLY = re.compile(r"(?:dataclasses\.)?InitVar\[")
BARS = re.compile(r"(`[^`]*`)|\|(\w+)\|")


def subclasses(base: type) -> list[type]:
    """All classes of the package that inherit from one, by its tree."""
    own = [kind for kind in base.__subclasses__() if kind.__module__.startswith("mrgp.")]
    return [one for kind in own for one in [kind, *subclasses(kind)]]


def documented(name: str, members: bool = True) -> list[str]:
    """Lines that have autodoc write about a name."""
    module, _, last = name.rpartition(".")
    value = getattr(importlib.import_module(module), last)
    if not isinstance(value, type):
        return [f".. autofunction:: {name}", ""]
    also = ["   :members:"] if members else []
    return [f".. autoclass:: {name}", *also, "   :show-inheritance:", ""]


class Generated(SphinxDirective):
    """Base of directives that write reStructuredText."""

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        parent = nodes.section()
        parent.document = self.state.document
        lines = StringList(self.lines(), self.env.docname)
        self.state.nested_parse(lines, self.content_offset, parent, match_titles=True)
        return parent.children


class PublicNames(Generated):
    """``public-names:: PAGE OTHER...``: all public names of a page, and further ones; of ``Base+`` the heirs."""

    required_arguments = 1
    optional_arguments = 20

    def lines(self) -> list[str]:
        page, *others = self.arguments
        names = sorted((name for name, home in public_names().items() if home == page), key=order)
        for other in others:
            module, _, last = other.removesuffix("+").rpartition(".")
            if other.endswith("+"):
                heirs = subclasses(getattr(importlib.import_module(module), last))
                names += [f"{kind.__module__}.{kind.__qualname__}" for kind in heirs]
            else:
                names.append(other)
        return [line for name in names for line in documented(name, members=not name.startswith("mrgp.models."))]


def order(name: str) -> tuple[bool, str]:
    """Classes first, then functions, each by name."""
    last = name.rpartition(".")[2]
    return not last[0].isupper(), last.lower()


class Docstring(Generated):
    """``docstring:: NAME``: what a class says of itself, up to its arguments, and where these are described.

    Where it has no equation, its module says it before.
    """

    required_arguments = 1

    def lines(self) -> list[str]:
        module, _, last = self.arguments[0].rpartition(".")
        described = getattr(importlib.import_module(module), last)
        text, *_ = ARGUMENTS.split(inspect.getdoc(described) or "")
        about = inspect.getdoc(inspect.getmodule(described)) or ""
        before = about.splitlines() if EQUATION not in text and EQUATION in about else []
        where = f"Arguments and all else: :class:`mrgp.models.{last}`."
        return [*escaped([*before, "", *text.splitlines()]), "", where, ""]


class CommandHelp(SphinxDirective):
    """``command-help::``: what every command of ``mrgp`` says about itself, a section each."""

    def run(self) -> list[nodes.Node]:
        from mrgp.cli.main import COMMANDS

        sections = [self.section("mrgp", ["--help"])]
        return sections + [self.section(f"mrgp {name}", [name, "--help"]) for name in COMMANDS]

    def section(self, title: str, argv: list[str]) -> nodes.section:
        text = help_of(argv)
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += [nodes.title(title, title), nodes.literal_block(text, text, language="text")]
        self.state.document.note_implicit_target(section, section)
        return section


def help_of(argv: list[str]) -> str:
    """What the command line prints for some arguments."""
    from mrgp.cli.main import parse

    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "88"
    said = io.StringIO()
    try:
        with redirect_stdout(said), suppress(SystemExit):
            parse(argv)
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return said.getvalue().rstrip()


class NotebookLinks(SphinxTransform):
    """Make a link of every notebook that is named in text, such as ``delay_hypotheses.ipynb``."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        for name in list(self.document.findall(nodes.literal)):
            is_link = isinstance(name.parent, nodes.reference | addnodes.pending_xref)
            if NOTEBOOK.fullmatch(name.astext()) and not is_link:
                name.replace_self(self.link(name))

    def link(self, name: nodes.literal) -> addnodes.pending_xref:
        """A reference to a notebook of the same folder, or else of the whole book; a wrong name is a warning."""
        page, own = name.astext().removesuffix(".ipynb"), self.env.docname
        beside = (Path(own).parent / page).as_posix()
        target = beside if beside in self.env.found_docs else page
        how = {"refdomain": "std", "reftype": "doc", "refexplicit": True, "refwarn": True, "refdoc": own}
        return addnodes.pending_xref("", name.deepcopy(), reftarget=f"/{target}", **how)


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Take from the package what pages load: the script, and its fonts."""
    if error is not None or app.builder.format != "html":
        return
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("the book needs MathJax: pip install -e '.[book]'")
    source, target = Path(spec.origin).parent / "static/mathjax", Path(app.outdir) / "_static/mathjax"
    for name in (app.config.mathjax_path.removeprefix("mathjax/"), "output/chtml/fonts/woff-v2"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)


def escaped(lines: list[str]) -> list[str]:
    """Let text write an absolute value as |x|, where reStructuredText would look for a substitution."""
    return [BARS.sub(lambda found: found[1] or rf"\|{found[2]}\|", line) for line in lines]


def escape_bars(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = escaped(lines)


def shorten_types(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write ``float | None`` where a dataclass has ``InitVar[float | None]``, and dots for values made anew."""
    signature = signature and signature.replace("<factory>", "...")
    while signature and (found := INIT_ONLY.search(signature)):
        end = closing(signature, found.end())
        signature = signature[: found.start()] + signature[found.end() : end] + signature[end + 1 :]
    return signature, returned


def closing(text: str, start: int) -> int:
    """Place of the bracket that closes one that was opened before ``start``."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public-names", PublicNames)
    app.add_directive("docstring", Docstring)
    app.add_directive("command-help", CommandHelp)
    app.add_transform(NotebookLinks)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
