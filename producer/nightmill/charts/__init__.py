"""Charts as SVG text, for the report and the console; pure.

Each function returns one `<svg>` element with class attributes only: no script, no style attribute
and no address of another place, so that a page with a strict Content-Security-Policy shows it. A
page gives `STYLE` once, in a style sheet; its colours are CSS custom properties with `--chart-`
in front. Every text that is given is escaped. Values that are None, NaN or infinite are gaps.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from nightmill.charts.bars import Bin, Mark, histogram
from nightmill.charts.lines import Series, line_chart
from nightmill.charts.sparks import sparkline, text_sparkline
from nightmill.charts.stretches import Stretch, time_line

STYLE: Final = files(__package__).joinpath("charts.css").read_text(encoding="utf-8")
"""The style sheet of the charts."""

__all__ = [
    "STYLE",
    "Bin",
    "Mark",
    "Series",
    "Stretch",
    "histogram",
    "line_chart",
    "sparkline",
    "text_sparkline",
    "time_line",
]
