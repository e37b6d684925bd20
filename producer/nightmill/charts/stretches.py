"""What happened one after another, as stretches of one line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from nightmill.charts import svg
from nightmill.charts.scale import LATEST_S, at, time_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEIGHT: Final = 104
_LEAD: Final = 130.0
"""Width of what was before the line, which is not drawn to scale."""
_TOP, _BAND = 44.0, 26.0
_LEAST: Final = 4.0
"""Least width of a stretch: a short call in a long line is seen, too."""
_LETTER: Final = 10.0
"""About the width of a letter on a phone."""

Kind = Literal["good", "warn", "bad", "idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One part of the line, in epoch seconds."""

    name: str
    """What it was, in words."""
    kind: Kind
    since: float
    until: float
    label: str = ""
    """A few letters over it; left out where there is no room."""


def time_line(
    stretches: Sequence[Stretch], *, title: str, lead: str = "", end: str = "", unit: str = "call"
) -> str:
    """Return a line with `stretches` to scale; the time between two of them is empty.

    `lead` names what was before the first of them: a wait that may be a thousand times longer, and
    is drawn in front of the scale. `end` names the moment at which the line ends. The key under the
    title has one entry for each name before a colon, such as "failed: HTTP 400".
    """
    some = [each for each in stretches if _drawn(each)]
    if not some:
        return svg.drawing(title, f"{title}: no {unit}", [], HEIGHT)
    since = min(each.since for each in some)
    until = max(*(each.until for each in some), since + 0.001)
    left = _LEAD if lead else 8.0
    scale = (svg.WIDTH - svg.RIGHT - left) / (until - since)
    base = _TOP + _BAND
    parts = [svg.straight(left, base, svg.WIDTH - svg.RIGHT, base, "axis")]
    if lead:
        parts.append(_rect(4, left - 12, "idle", lead))
        parts.append(svg.text(4, _TOP - 6, lead))
    free = left
    for each in some:
        x = left + (each.since - since) * scale
        width = max((each.until - each.since) * scale, _LEAST)
        x = min(x, svg.WIDTH - svg.RIGHT - width)
        parts.append(_rect(x, width, each.kind, each.name))
        if each.label and x >= free:
            parts.append(svg.text(x, _TOP - 6, each.label))
            free = x + _LETTER * (len(each.label) + 1)
    if end:
        x = svg.WIDTH - svg.RIGHT
        parts.append(svg.straight(x, _TOP - 4, x, base + 4, "axis"))
        if x - _LETTER * len(end) >= free:
            parts.append(svg.text(x, _TOP - 6, end, "end"))
    parts += _times(since, until, left, scale)
    parts += _keys(some)
    words = [lead, *(each.name for each in some), end]
    return svg.drawing(title, "; ".join(word for word in words if word), parts, HEIGHT)


def _drawn(each: Stretch) -> bool:
    moments = (each.since, each.until)
    return all(math.isfinite(when) and 0 <= when <= LATEST_S for when in moments) and (
        each.until >= each.since
    )


def _rect(x: float, width: float, kind: str, name: str) -> str:
    return (
        f'<rect class="{kind}" x="{at(x)}" y="{at(_TOP)}" width="{at(width)}" '
        f'height="{at(_BAND)}"><title>{svg.safe(name)}</title></rect>'
    )


def _times(since: float, until: float, left: float, scale: float) -> list[str]:
    """Return the moments under the line, in UTC; two do not stand on each other."""
    parts, free = [], left
    for when, name in time_ticks(since, until):
        x, half = left + (when - since) * scale, _LETTER * len(name) / 2
        if x - half >= free - half and x + half <= svg.WIDTH:
            parts.append(svg.straight(x, _TOP + _BAND, x, _TOP + _BAND + 4, "axis"))
            parts.append(svg.text(x, HEIGHT - 12, name, "middle"))
            free = x + 2 * half + 8
    return parts


def _keys(stretches: Iterable[Stretch]) -> list[str]:
    """Return what each colour means, while there is room."""
    names = {(each.name.partition(":")[0], each.kind): None for each in stretches}
    parts, x = [], 4.0
    for name, kind in names:
        end = x + 18 + _LETTER * len(name)
        if end > svg.WIDTH:
            break
        parts.append(f'<rect class="{kind}" x="{at(x)}" y="4" width="12" height="12"/>')
        parts.append(svg.text(x + 17, 14, name))
        x = end + 8
    return parts
