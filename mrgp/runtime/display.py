"""Display of objects: text at a prompt, HTML in a notebook, from one description."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from mrgp.runtime.account import Account, Table

type Rows = Sequence[Mapping[str, str]]

# Notebooks are light or dark: whatever is shown takes their colours, and lines are of a grey that both can bear.
_LINE = "1px solid rgba(128,128,128,0.4)"
_PLAIN = "color:inherit;background:transparent;border:0"
_TABLE = f"{_PLAIN};border-collapse:collapse;margin:0.4em 0 0 0;width:auto"
_CELL = f"{_PLAIN};padding:0.1em 1.2em 0.1em 0;vertical-align:top"
_WORDS = ("region", "direction")  # columns of words, which stand to the left


@dataclass(frozen=True)
class Card:
    """Description of an object: headline, facts, tables, remarks, and text with its own lines.

    Facts are by name, and tables are of text.
    """

    headline: str
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Rows] = ()
    notes: Sequence[str] = ()
    text: str = ""

    def __str__(self) -> str:
        lines = [self.headline, *(f"{name}: {value}" for name, value in self.facts.items())]
        for rows in self.tables:
            lines += ["", *aligned(rows)] if rows else []
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else []
        lines += ["", *self.text.splitlines()] if self.text else []
        return "\n  ".join(lines).replace("\n  \n", "\n\n")

    def html(self) -> str:
        """Return the card as HTML, in the colours of the page around it."""
        parts = [f'<div style="font-weight:bold">{escape(self.headline)}</div>']
        if self.facts:
            rows = [_row([(name, "left"), (value, "left")]) for name, value in self.facts.items()]
            parts.append(f'<table style="{_TABLE}">{"".join(rows)}</table>')
        for table in self.tables:
            parts += [_table(table)] if table else []
        parts += [f'<div style="margin-top:0.4em">note: {escape(note)}</div>' for note in self.notes]
        if self.text:
            parts.append(f'<pre style="{_PLAIN};padding:0;margin:0.4em 0 0 0">{escape(self.text)}</pre>')
        return f'<div style="border-left:{_LINE};padding-left:0.8em">{"".join(parts)}</div>'


class Shown:
    """Base class of objects that show a card: text at a prompt, HTML in a notebook."""

    def _card(self) -> Card:
        raise NotImplementedError(f"{type(self).__name__} must define _card(self)")

    def account(self) -> Account:
        """Give the account that :func:`mrgp.report` makes a page of."""
        return self._account()

    def figures(self) -> Mapping[str, Any]:
        """Draw the figures that the result has of its own, by name; none here."""
        return {}

    def _account(self) -> Account:
        """Account made from the card; results that answer a question say more."""
        card = self._card()
        tables = [Table("", rows) for rows in card.tables if rows]
        return Account(type(self).__name__, card.headline, (), card.facts, (), tables, (), card.notes, card.text)

    def __repr__(self) -> str:
        return str(self._card())

    def _repr_html_(self) -> str:
        return self._card().html()


def aligned(rows: Rows) -> list[str]:
    """Format a table as lines of text, numbers to the right; no lines if there are no rows."""
    padded: list[list[str]] = []
    for name in _columns(rows):
        cells = [name, *(row.get(name, "") for row in rows)]
        pad: Callable[[str, int], str] = str.ljust if name.startswith(_WORDS) else str.rjust
        padded.append([pad(cell, max(map(len, cells))) for cell in cells])
    return ["   ".join(line).rstrip() for line in zip(*padded, strict=True)]


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _table(rows: Rows) -> str:
    columns = {name: "left" if name.startswith(_WORDS) else "right" for name in _columns(rows)}
    head = _row(list(columns.items()), "th", f";border-bottom:{_LINE}")
    body = "".join(_row([(row.get(name, ""), side) for name, side in columns.items()]) for row in rows)
    return f'<table style="{_TABLE}">{head}{body}</table>'


def _row(cells: Sequence[tuple[str, str]], tag: str = "td", more: str = "") -> str:
    inner = "".join(f'<{tag} style="{_CELL};text-align:{side}{more}">{escape(text)}</{tag}>' for text, side in cells)
    return f'<tr style="{_PLAIN}">{inner}</tr>'
