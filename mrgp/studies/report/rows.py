"""Tables of numbers as rows of text, under headings with units."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def rows_of(frame: pd.DataFrame, headings: Mapping[str, tuple[str, int | None]]) -> list[dict[str, str]]:
    """Write some columns of a table as text, each under a heading and with so many decimals.

    ``None`` writes values as they are; a number that is not known is a dash.
    """
    shown = [(name, *how) for name, how in headings.items() if name in frame]
    return [
        {heading: written(value, decimals) for value, (_, heading, decimals) in zip(row, shown, strict=True)}
        for row in frame[[name for name, *_ in shown]].itertuples(index=False)
    ]


def written(value: Any, decimals: int | None) -> str:
    """Write one value."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if decimals is None or isinstance(value, str):
        return str(value)
    return f"{value:,.{decimals}f}" if np.isfinite(value) else "-"
