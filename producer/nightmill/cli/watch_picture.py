"""The picture of `status --watch`: one line a batch, in any width and height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from nightmill.charts import text_sparkline
from nightmill.cli.panel import bar, cut, fitted
from nightmill.cli.terminal import shown
from nightmill.reports.labels import NO_WORKER
from nightmill.reports.progress import counted, dollars, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from nightmill.records.counts import Counts
    from nightmill.reports.lanes import Look

COLOURS: Final = {
    "running": "cyan",
    "feeding": "cyan",
    "done": "green",
    "stopped": "red",
    "cancelled": "red",
    "expired": "red",
}
"""State -> its colour; the others wait for a person and are yellow."""
SINGLE: Final = "(single jobs)"
LANES: Final = 4
SPARKS: Final = 30
OTHERS: Final = 6
"""Lines that are kept for what stands below the batches, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One batch."""

    name: str
    state: str
    counts: Counts
    rate: float
    eta_s: float | None
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that is drawn at one moment."""

    rows: Sequence[Row]
    """Batches that run first, then the newest."""
    looks: Sequence[Look] = ()
    sparks: Mapping[tuple[str, str], Sequence[float | None]]
    failures: Sequence[tuple[int, str, str]] = ()
    """When each ended (epoch ms), its job, its error."""
    notes: Sequence[str] = ()
    workers: int = 0
    done: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield lines that fit the terminal; rich calls this with its size."""
        width, height = options.max_width, options.size.height
        plain = not (options.encoding or "").startswith("utf")
        below = list(self._below(console, width, plain=plain))
        most = max(1, height - 2 - max(OTHERS, len(below)))
        for row in self.rows[:most]:
            yield _line(row, width, plain=plain)
        if rest := self.rows[most:]:
            yield Text(cut(_counted(rest), width), style="dim", no_wrap=True)
        if not self.rows:
            yield Text("no batch yet: nightmill enqueue FILE, or nightmill run FILE")
        yield from below[: max(1, height - 2 - min(most, len(self.rows)))]

    def _below(self, console: Console, width: int, *, plain: bool) -> Iterator[Text]:
        """Yield the lines about lanes, failures and workers."""
        for look in self.looks[:LANES]:
            lane = look.now
            spark = self.sparks.get((lane.account, lane.model), ())
            drawn = text_sparkline(list(spark)[-SPARKS:], ascii_only=plain)
            line = Text(no_wrap=True)
            line.append(cut(shown(lane.name), max(10, width - 45)), style="bold")
            line.append(f" {lane.in_flight:,} of {lane.orders.window:,} {drawn}")
            line.truncate(width)
            yield line
            for part in fitted(console, look.why, width - 2, 2):
                yield Text(f"  {part}", no_wrap=True)
        if (more := len(self.looks) - LANES) > 0:
            yield Text(f"{counted(more, 'more lane')}: nightmill lanes", style="dim")
        for _, job, error in self.failures:
            yield Text(cut(shown(f"failed {job}: {error}"), width), style="red", no_wrap=True)
        for note in self.notes:
            for part in fitted(console, note, width, 2):
                yield Text(part, style="yellow", no_wrap=True)
        if self.done:
            yield Text(cut(f"all done: {_counted(self.rows)}", width), style="bold", no_wrap=True)
        elif self.workers:
            yield Text(f"{counted(self.workers, 'worker')} running", style="dim")
        else:
            yield Text(cut(NO_WORKER, width), style="yellow", no_wrap=True)


def _line(row: Row, width: int, *, plain: bool) -> Text:
    """Return one batch: name, state, bar, share, time left, rate, failed, cost."""
    counts = row.counts
    total = counts.total
    share = None if total is None else min(1.0, counts.terminal / total) if total else 1.0
    bad = (counts.terminal - counts.succeeded) / total if total else 0.0
    ends = f"{counts.terminal:,}" if share is None else f"{int(share * 1000) / 10:.1f}%"
    eta = "" if row.over else duration(row.eta_s)
    cells = [f" {ends:>6}", f" {eta:>7}"]
    cells.append(f" {counts.failed:>5,} failed" if counts.failed else " " * 13)
    if width >= 72:  # noqa: PLR2004 - a column that a narrow terminal has no room for
        cells.append(f" {'' if row.over else f'{row.rate:,.1f}/s':>8}")
    if width >= 90:  # noqa: PLR2004
        cells.append(f" {dollars(counts.cost):>8}")
    state = cut(row.state, 9)
    room = width - sum(map(len, cells)) - 11
    name_width = max(8, min(room // 2 + 2, 40))
    bar_width = max(0, room - name_width - 1)
    name = cut(shown(row.name or SINGLE), name_width)
    line = Text(no_wrap=True)
    line.append(set_cell_size(name, name_width))
    line.append(f" {state:<9} ", style=COLOURS.get(row.state, "yellow"))
    if share is None:
        line.append(" " * bar_width)
    else:
        line.append_text(bar(share, bad, bar_width, plain=plain))
    line.append("".join(cells))
    if cell_len(line.plain) > width:
        line.truncate(width)
    return line


def _counted(rows: Sequence[Row]) -> str:
    """Return how many batches there are of each state, and what they hold."""
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    ended = sum(row.counts.succeeded for row in rows)
    failed = sum(row.counts.failed for row in rows)
    named = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    batches = f"{len(rows):,} {'batch' if len(rows) == 1 else 'batches'}"
    return f"{batches} ({named}): {ended:,} succeeded, {failed:,} failed"
