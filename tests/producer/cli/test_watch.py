"""`status --watch`: running batches first, in any size of terminal, and a last word."""

from __future__ import annotations

import io
import signal
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from nightmill.cli.console import VisibleConsole
from nightmill.cli.watch_picture import Picture, Row
from nightmill.records.counts import Counts
from tests.integration.on_terminal import on_terminal

if TYPE_CHECKING:
    from tests.integration.shell import Shell
    from tests.rig import Rig

EVIL = "\x1b[2J\u202e夜間🚀" * 9


def row(name: str, *, over: bool) -> Row:
    """Return a batch that runs, or is done."""
    counts = Counts(
        total=1000, succeeded=990 if over else 500, failed=10, queued=0 if over else 490
    )
    state = "done" if over else "running"
    return Row(name=name, state=state, counts=counts, rate=12.4, eta_s=39.0, over=over)


def drawn(picture: Picture, width: int, height: int = 24) -> list[str]:
    """Return the lines that a terminal of that size shows."""
    console = VisibleConsole(width=width)
    console.size = (width, height)
    console.file = out = io.StringIO()
    console.print(picture)
    return out.getvalue().splitlines()


def night(batches: int) -> Picture:
    """Return a picture of one running batch and many that are done."""
    rows = [row("now", over=False), *(row(f"{EVIL}{n}", over=True) for n in range(batches - 1))]
    failed = [(n, f"b:{EVIL}", EVIL) for n in range(3)]
    return Picture(rows=rows, sparks={}, failures=failed, notes=[EVIL], workers=2)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_a_thousand_batches_fit_and_the_running_ones_stay(width: int, height: int) -> None:
    """They scrolled the one away that a person wants to see. The rest is counted in one line."""
    shown = drawn(night(1000), width, height)
    assert len(shown) < height
    assert shown[0].startswith("now")
    assert "39s" in shown[0]
    assert all(cell_len(line) <= width for line in shown)
    assert sum("batches (" in line for line in shown) == 1
    assert not set("\x1b\u202e") & set("".join(shown))


def test_the_lines_at_80_columns() -> None:
    """Name, state, bar, share, time that is left, failed, rate."""
    first, *_, last = drawn(Picture(rows=[row("now", over=False)], sparks={}, workers=2), 80)
    assert first.split() == ["now", "running", first.split()[2], "51.0%", "39s", "10", "failed",
                             "12.4/s"]  # fmt: skip
    assert last == "2 workers running"


async def test_a_finished_watch_prints_a_last_word(shell: Shell, rig: Rig) -> None:
    """It ended without one, and nobody knew why."""
    assert shell("enqueue", shell.write(5)).code == 0
    await rig.work_off()
    with on_terminal(shell, "status", "--watch") as terminal:
        assert terminal.wait() == 0
    assert "all done: 1 batch (1 done): 5 succeeded, 0 failed" in terminal.drawn
    assert terminal.drawn.rindex("\x1b[?25h") > terminal.drawn.rindex("\x1b[?25l")


def test_ctrl_c_leaves_the_last_picture(shell: Shell) -> None:
    """The terminal is clean, and the picture stays on it."""
    assert shell("enqueue", shell.write(5)).code == 0
    with on_terminal(shell, "status", "prompts", "--watch") as terminal:
        terminal.until("no worker is running")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.drawn
    assert terminal.drawn.rindex("\x1b[?25h") > terminal.drawn.rindex("prompts")
