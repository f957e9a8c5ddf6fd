"""Page of a report, from an account, figures and the record of a run: one file of HTML."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from mrgp.runtime.account import FILE, Account, Light, Picture, State, Table, counted
from mrgp.runtime.files import write_atomically
from mrgp.runtime.run_record import RunRecord
from mrgp.runtime.sentences import joined
from mrgp.studies.report.pictures import as_address, fitting, size_of
from mrgp.studies.report.style import CSS

MARKS = {State.GOOD: "✓ good", State.LOOK: "! look", State.BAD: "✕ bad"}
WORDS = {"sha256": "SHA-256 of the file", "digest": "fingerprint of the recording as read"}  # of files that were read
LONGEST = 1500  # letters of a setting, such as a fold for each trial
WORST_FIRST = [State.BAD, State.LOOK, State.GOOD]


@dataclass(frozen=True, repr=False)
class Report:
    """Report of a result, which a notebook shows.

    Attributes:
        account: What the result says of itself.
        pictures: PNGs of its figures, by name.
        run: Record of the command that made it, if there was one.
        remarks: What the reader must know before all else.
    """

    account: Account
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    run: RunRecord | None = None
    remarks: Sequence[str] = ()

    def __repr__(self) -> str:
        """Verdict, and the diagnostics that are not good, as text."""
        lines = [*self.remarks, self.account.title, *self.account.verdict, ""]
        for light in worst_first(self.account.lights):
            if light.state is not State.GOOD:
                lines.append(f"{light.state}: {light.name} ({light.number}). {light.sentence}")
        return "\n".join([*lines, summed_up(self.account.lights)]).strip()

    def _repr_html_(self) -> str:
        height = "width:100%;height:40em;border:1px solid #888"
        return f'<iframe title="{escape(self.account.title)}" style="{height}" srcdoc="{escape(self.html())}"></iframe>'

    def save(self, path: str | Path) -> None:
        """Write the page; a file that exists is replaced only once the new one is whole."""
        write_atomically(path, partial(Path.write_text, data=self.html(), encoding="utf-8"))

    def html(self) -> str:
        """Return the page."""
        account = self.account
        sections = {title: body for title, body in self._sections() if body}
        links = "".join(f'<li><a href="#{_anchor(title)}">{title}</a></li>' for title in sections)
        body = "\n".join(f'<section id="{_anchor(title)}"><h2>{title}</h2>\n{text}\n</section>' for title, text
                         in sections.items())  # fmt: skip
        title = f"{account.title} · mrgp"
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<p class="kind">{escape(account.kind)}</p>
<h1>{escape(account.title)}</h1>
{"".join(f'<p class="banner" role="note">{escape(remark)}</p>' for remark in self.remarks)}
<div class="verdict">{_paragraphs(account.verdict)}</div>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<footer>{_foot(account, self.run)}</footer>
</body>
</html>
"""

    def _sections(self) -> Iterator[tuple[str, str]]:
        account = self.account
        yield "Diagnostics", lights(account.lights)
        yield "What was done", facts(account.facts)
        yield "Figures", figures(account.pictures, fitting(self.pictures))
        text = f'<pre tabindex="0">{escape(account.text)}</pre>' if account.text else ""
        yield "Tables", "\n".join(map(table, account.tables)) + text
        said = list(dict.fromkeys([*account.notes, *(self.run.notes if self.run else ())]))
        yield "Notes", f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in said)}</ul>" if said else ""
        yield "How to make it again", reproduced(account, self.run)


# --- parts of a page


def lights(found: Sequence[Light]) -> str:
    """Write diagnostics as a list, the worst first."""
    if not found:
        return ""
    items = [
        f'<li class="{light.state}"><span class="state">{MARKS[light.state]}</span><div><strong>{escape(light.name)}'
        f'</strong> <span class="number">{escape(light.number)}</span><p>{escape(light.sentence)}</p></div></li>'
        for light in worst_first(found)
    ]
    return f'<p class="count">{summed_up(found)}</p>\n<ul class="lights">\n' + "\n".join(items) + "\n</ul>"


def worst_first(found: Sequence[Light]) -> list[Light]:
    """Sort diagnostics, the worst first, else in their order."""
    return sorted(found, key=lambda light: WORST_FIRST.index(light.state))


def summed_up(found: Sequence[Light]) -> str:
    """Count diagnostics by state, in a sentence."""
    if not found:
        return ""
    counts = {state: sum(light.state is state for light in found) for state in WORST_FIRST}
    if counts[State.GOOD] == len(found):
        return f"{'All ' * (len(found) > 1)}{counted(len(found), 'diagnostic')} good."
    words = {State.BAD: "bad", State.LOOK: "to look at", State.GOOD: "good"}
    named = [f"{count} {words[state]}" for state, count in counts.items() if count]
    return f"{counted(len(found), 'diagnostic')}: {joined(named, 'and')}."


def facts(told: Mapping[str, str]) -> str:
    """Write facts as names and values."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told.items())
    return f"<dl>{rows}</dl>" if rows else ""


def table(shown: Table) -> str:
    """Write a table; columns of words stand to the left, and the first cell of a row names it."""
    columns = list(dict.fromkeys(name for row in shown.rows for name in row))
    words = {name for name in columns if any(_is_words(row.get(name, "")) for row in shown.rows)}
    sides = {name: ' class="words"' if name in words else "" for name in columns}
    head = "".join(f'<th scope="col"{sides[name]}>{escape(name)}</th>' for name in columns)
    lines = []
    for row in shown.rows:
        first, *others = columns
        cells = "".join(f"<td{sides[name]}>{escape(row.get(name, ''))}</td>" for name in others)
        lines.append(f'<tr><th scope="row"{sides[first]}>{escape(row.get(first, ""))}</th>{cells}</tr>')
    caption = f"<caption>{escape(shown.title)}</caption>" if shown.title else ""
    note = f'<p class="below">{escape(shown.note)}</p>' if shown.note else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}"
    )


def _is_words(text: str) -> bool:
    """True of a cell that begins with a letter."""
    return text[:1].isalpha()


def figures(known: Sequence[Picture], pictures: Mapping[str, bytes]) -> str:
    """Write the figures that there are, in the order of the account."""
    parts = []
    for picture in known:
        if (png := pictures.get(picture.name)) is not None:
            width, height = size_of(png)
            parts.append(
                f'<figure><h3>{escape(picture.title)}</h3><img src="{as_address(png)}" width="{width}" '
                f'height="{height}" alt="{escape(picture.alt)}"><figcaption>{escape(picture.alt)}</figcaption></figure>'
            )
    return "\n".join(parts)


def reproduced(account: Account, run: RunRecord | None) -> str:
    """Say how the result was made: command, files with digests, settings, versions and machine."""
    parts, told = [], {}
    if run is not None:
        parts.append(f'<p>The command:</p><pre class="command"><code>{escape(run.command)}</code></pre>')
        told["began"] = run.began.replace("T", " ").replace("+00:00", " UTC")
        if run.ended:
            told["took"] = f"{run.wall_s:.1f} s"
        told |= run.machine
    told |= {str(name): _as_text(value) for name, value in account.made_with.items()}
    parts.append(facts(told))
    for file in run.read if run is not None else ():
        name, *others = file
        parts.append(f"<h3>Read: {escape(file[name])}</h3>{facts({WORDS.get(key, key): file[key] for key in others})}")
    known = (run.versions if run is not None else None) or account.versions
    if known:
        parts.append(table(Table("Versions", [{"package": name, "version": value} for name, value in known.items()])))
    return "\n".join(filter(None, parts))


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} letters in all, see {FILE})"


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _foot(account: Account, run: RunRecord | None) -> str:
    version = ((run.versions if run is not None else None) or account.versions).get("mrgp", "")
    return escape(f"Written by mrgp report; the result is of mrgp {version}." if version else "Written by mrgp report.")
