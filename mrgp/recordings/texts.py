"""Labels as text.

A label has the same text in two recordings whose tables hold it as different kinds of numbers.
"""

from typing import Any

import numpy as np


def as_text(value: Any) -> str:
    """Convert one label to text: the same for 1 and 1.0, all digits of other numbers.

    Bytes are decoded.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
