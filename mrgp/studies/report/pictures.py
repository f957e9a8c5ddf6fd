"""Figures of a report as text inside its page, small enough together."""

import base64
import struct
from collections.abc import Mapping
from io import BytesIO

MOST_BYTES = 2_000_000  # of all figures: as text they take a third more, and a page stays below 3 MB
COLOURS = 64  # of a figure that is made smaller: lines and letters stay sharp
LEAST_WIDTH = 500  # pixels


def fitting(pictures: Mapping[str, bytes], most: int = MOST_BYTES) -> dict[str, bytes]:
    """Make PNGs smaller until all together are at most so many bytes.

    First they get fewer colours, then half the size.
    """
    found = dict(pictures)
    if total(found) > most:
        found = {name: _smaller(png, 1) for name, png in found.items()}
    while total(found) > most and any(size_of(png)[0] >= 2 * LEAST_WIDTH for png in found.values()):
        largest = max(found, key=lambda name: len(found[name]) * (size_of(found[name])[0] >= 2 * LEAST_WIDTH))
        found[largest] = _smaller(found[largest], 2)
    return found


def total(pictures: Mapping[str, bytes]) -> int:
    """Count the bytes of all pictures."""
    return sum(map(len, pictures.values()))


def _smaller(png: bytes, divisor: int) -> bytes:
    from PIL import Image  # which matplotlib needs too

    with Image.open(BytesIO(png)) as image:
        flat = image.convert("RGB")
        if divisor > 1:
            flat = flat.resize((flat.width // divisor, flat.height // divisor), Image.Resampling.LANCZOS)
        out = BytesIO()
        flat.quantize(COLOURS).save(out, "PNG", optimize=True)
    return min(png, out.getvalue(), key=len) if divisor == 1 else out.getvalue()


def is_png(content: bytes) -> bool:
    """True if bytes begin as a PNG with a size does."""
    return content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) > 24


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels, from its header."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def as_address(png: bytes) -> str:
    """Address of a picture that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
