"""Draws a Panel: the time that is left and a bar first, then rows of a label and a text.

There is no frame: a wide character that a terminal and rich count differently cannot break one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from nightmill.cli.terminal import shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from nightmill.reports.panel import Panel

LABEL: Final = 13
"""Cells of the labels: the longest one."""
LONGEST: Final = 500
"""Characters of a text that are looked at: characters without a width would have no end."""
LINES: Final = {"limited by": 2, "newest error": 2}
"""Label -> most lines of its text; the others have one."""
WIDEST_BAR: Final = 60


class DrawnPanel:
    """A panel as rich draws it, in any width."""

    def __init__(self, panel: Panel) -> None:
        """Draw `panel`."""
        self._panel = panel

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one line after another; rich calls this with the width of the terminal."""
        width = options.max_width
        plain = not (options.encoding or "").startswith("utf")
        yield self._first(width, plain=plain)
        for label, text in self._panel.rows():
            style = "red" if label == "newest error" else ""
            for number, line in enumerate(
                fitted(console, text, width - LABEL - 1, LINES.get(label, 1))
            ):
                name = "" if number else label
                yield Text.assemble((f"{name:<{LABEL}} ", "dim"), (line, style), no_wrap=True)
        for note in self._panel.notes:
            for line in fitted(console, note, width, 3):
                yield Text(line, style="yellow", no_wrap=True)

    def _first(self, width: int, *, plain: bool) -> Text:
        """Return the line that matters most: the time that is left is never cut."""
        panel = self._panel
        line = Text(panel.eta, style="bold", no_wrap=True)
        if panel.share is None:
            return line
        percent = f"{int(panel.share * 1000) / 10:.1f}%"
        room = min(WIDEST_BAR, width - cell_len(panel.eta) - len(percent) - 4)
        if room > 0:
            line.append("  ")
            line.append_text(bar(panel.share, panel.failed_share, room, plain=plain))
        return line.append(f"  {percent}")


def bar(done: float, failed: float, width: int, *, plain: bool = False) -> Text:
    """Return a bar of `width` cells; `done` (with `failed`) and `failed` are shares, 0 to 1.

    A failure is always seen, and a bar that is not full never looks full. `plain` is ASCII.
    """
    full, rest = ("#", "-") if plain else ("━", "─")
    cells = min(int(done * width), width if done >= 1 else width - 1)
    bad = min(max(round(failed * width), 1), cells) if failed > 0 else 0
    return Text.assemble(
        (full * (cells - bad), "green"), (full * bad, "red"), (rest * (width - cells), "dim")
    )


def fitted(console: Console, text: str, width: int, lines: int) -> list[str]:
    """Return `text` as at most `lines` lines of at most `width` cells; "..." if more is cut off."""
    one_line = " ".join(shown(text)[:LONGEST].split())
    wrapped = Text(one_line).wrap(console, max(1, width), overflow="fold")
    found = [line.plain.rstrip() for line in wrapped]
    if len(found) > lines:
        found[lines - 1 :] = [cut(f"{found[lines - 1]} ...", width)]
    return found


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` cells, with "..." at its end where it is longer."""
    if cell_len(text) <= width:
        return text
    kept = set_cell_size(text, max(0, width - 3)).rstrip(" .")
    return set_cell_size(f"{kept}...", width).rstrip()
