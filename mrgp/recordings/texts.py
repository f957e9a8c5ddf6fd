"""Labels as text: the same label of two recordings, whose tables may hold it as another kind of number, is one text."""

from typing import Any

import numpy as np


def as_text(value: Any) -> str:
    """One label as text: the same for 1 and 1.0, all digits of other numbers, bytes decoded."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
