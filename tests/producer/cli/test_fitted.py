"""Tables that fit the width of their terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from nightmill.cli.fitted import FittedTable

HEADINGS = ("lane", "limited by", "in flight", "requests/min", "tokens")
CELLS = ("claude-opus-4-6 1303f0", "window", "1,200 of 1,200", "1,730 of 3,000 (58%)", "1.2M")


def drawn(width: int, cells: tuple[str, ...] = CELLS, main: int | None = None) -> list[str]:
    """Return the lines of a table with one row, drawn on a terminal of `width` columns."""
    table = FittedTable(HEADINGS, text_columns=2, main=main)
    table.add(*cells)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_wide_terminal_has_one_line_a_row() -> None:
    """Nothing is wrapped where there is enough space."""
    assert drawn(120) == [
        "lane                    limited by       in flight          requests/min  tokens",
        "claude-opus-4-6 1303f0  window      1,200 of 1,200  1,730 of 3,000 (58%)    1.2M",
    ]


@pytest.mark.parametrize("width", [79, 70, 60])
def test_a_narrow_terminal_wraps_at_spaces_and_cuts_no_word(width: int) -> None:
    """A number or a name that is cut short misleads."""
    lines = drawn(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert sorted(words) == sorted(" ".join((*HEADINGS, *CELLS)).split())


def test_what_matters_most_is_not_wrapped_for_what_matters_less() -> None:
    """`status` at 80 columns: done, rate, ETA and cost in one table, all else below it."""
    assert drawn(79, main=3) == [
        "lane                    limited by       in flight",
        "claude-opus-4-6 1303f0  window      1,200 of 1,200",
        "",
        "lane                            requests/min  tokens",
        "claude-opus-4-6 1303f0  1,730 of 3,000 (58%)    1.2M",
    ]


def test_rows_that_do_not_fit_become_paragraphs() -> None:
    """A batch may have a name of 200 characters."""
    lines = drawn(60, ("x" * 200, *CELLS[1:]))
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("x") == 200
    assert "in flight 1,200 of 1,200" in " ".join(lines)
