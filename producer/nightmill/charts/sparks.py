"""Small lines without axes: as SVG for a table's cell, and as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.charts.scale import at, known
from nightmill.charts.svg import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = "_.-=+*#@"


def sparkline(
    values: Sequence[float | None], *, title: str, width: int = 120, height: int = 24
) -> str:
    """Return a small line of values that are the same time apart, the newest last."""
    real = [known(value) for value in values]
    highest = max((value for value in real if value is not None), default=0.0)
    path, joined = [], False
    for number, value in enumerate(real):
        if value is not None:
            share = max(value, 0.0) / highest if highest > 0 else 0.0
            x = 2 + number / max(1, len(real) - 1) * (width - 4)
            place = f"{at(x)} {at(height - 2 - share * (height - 4))}"
            path.append(f"L{place}" if joined else f"M{place}h0")
        joined = value is not None
    line = f'<path class="line" fill="none" d="{"".join(path)}"/>' if path else ""
    return (
        f'<svg class="spark" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{safe(title)}</title>{line}</svg>"
    )


def text_sparkline(values: Sequence[float | None], *, ascii_only: bool = False) -> str:
    """Return one character for each value, the newest last; a gap is a space.

    `ascii_only` is for a terminal whose encoding has no block elements.
    """
    blocks = _ASCII if ascii_only else _BLOCKS
    real = [known(value) for value in values]
    highest = max((value for value in real if value is not None), default=0.0)
    last = len(blocks) - 1
    return "".join(
        " "
        if value is None
        else blocks[min(last, round(max(value, 0.0) / highest * last)) if highest > 0 else 0]
        for value in real
    )
