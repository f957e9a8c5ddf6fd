"""Report of a result in memory, for notebooks and scripts."""

from collections.abc import Mapping
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mrgp.plots.save import figures_of
from mrgp.plots.style import DPI
from mrgp.results.fit import Fit, of_processes
from mrgp.runtime.display import Shown
from mrgp.studies.report.page import Report


def report(result: Shown, path: str | Path | None = None) -> Report:
    """Make one page of HTML of a result.

    It has the verdict, diagnostics, figures, tables, and how to make the result again. The page holds all that it
    shows, and needs no network. ``mrgp report DIR`` does the same for the folder of a command.

    Args:
        result: A fit, or the result of :func:`mrgp.evaluate`, :func:`mrgp.compare_delays`,
            :func:`mrgp.cross_validate`, :func:`mrgp.calibrate`, :func:`mrgp.assess_communication`, :func:`mrgp.tune`
            or another study; of a fit with delays their intervals are computed, if its recording is at hand.
        path: File to write, such as "report.html"; None for none.

    Returns:
        The report, which a notebook shows and ``save`` writes.

    Raises:
        TypeError: it is no result.
    """
    if not isinstance(result, Shown):
        raise TypeError(f"report is of a fit or the result of a study, not of {type(result).__name__}: for the folder "
                        "of a command, type mrgp report DIR")  # fmt: skip
    pictures = {name: _as_png(figure) for name, figure in drawn(result).items()}  # intervals are at hand from then on
    made = Report(result.account(), pictures)
    if path is not None:
        made.save(path)
    return made


@singledispatch
def drawn(result: Any) -> Mapping[str, Figure]:
    """Draw the figures of a result, by name."""
    return result.figures()


@drawn.register
def _(fit: Fit) -> Mapping[str, Figure]:
    return figures_of(fit, intervals=of_processes(fit) and (fit.data is not None or fit.saved_curvature is not None))


def _as_png(figure: Figure) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()
