"""Drawing a View: a table, a table that stays up to date, plain lines, or JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nightmill.cli.options import WIDE
from nightmill.reports.progress import Progress, dollars, short

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nightmill.cli.view import View
    from nightmill.records.counts import Counts

_ALWAYS: Final = ("queued", "in_flight", "failed")
_IF_ANY: Final = ("retrying", "snoozed", "cancelled", "expired")


@contextmanager
def opened_view(*, watch: bool, json: bool) -> Iterator[Callable[[View], None]]:
    """Yield the function that shows a view on stdout, once or again and again."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    if json:
        yield lambda view: print(view.to_json().decode(), flush=True)  # noqa: T201 - the data
    elif watch and console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda view: live.update(draw(view), refresh=True)
    elif watch:
        yield _Lines(console).show
    else:
        yield lambda view: console.print(draw(view))


def draw(view: View) -> RenderableType:
    """Return a view as a table with a row a batch, and the reason why a line is stopped."""
    rare = [n for n in _IF_ANY if any(getattr(counts, n) for counts in view.counts.values())]
    numbers = [*_ALWAYS, *rare]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("batch")
    table.add_column("state")
    for name in ("done", *numbers, "tokens in/out", "limit used", "cost"):
        table.add_column(name.replace("_", " "), justify="right")
    for batch, counts in view.counts.items():
        total = "?" if counts.total is None else f"{counts.total:,}"
        table.add_row(
            Text(batch or "(single jobs)"),
            view.state(batch),
            f"{counts.terminal:,}/{total}" if batch else f"{counts.terminal:,}",
            *(f"{getattr(counts, name):,}" for name in numbers),
            f"{short(counts.input_tokens)}/{short(counts.output_tokens)}",
            "-" if counts.utilisation is None else f"{counts.utilisation:.1%}",
            _cost(counts),
        )
    notes = [
        Text(f"{batch} is {counts.state}: {counts.reason}", style="yellow")
        for batch, counts in view.counts.items()
        if counts.reason
    ]
    notes += [
        Text(f"webhook of {name}: {told}") for name in view.counts if (told := view.webhook(name))
    ]
    if view.stopped is not None:
        notes.append(Text(f"the line is stopped: {view.stopped}", style="red"))
    return Group(table, *notes) if notes else table


def _cost(counts: Counts) -> str:
    """Return the dollars so far and, while it runs, about how many there will be."""
    if counts.cost is None:
        return "?"
    likely = counts.projected_cost
    more = likely is not None and not counts.done and not counts.ended
    return f"{dollars(counts.cost)} of ~{dollars(likely)}" if more else dollars(counts.cost)


class _Lines:
    """For a log file: a line a batch, each time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: dict[str, Progress] = {}

    def show(self, view: View) -> None:
        now = time.monotonic()
        for batch, counts in view.counts.items():
            progress = self._progress.setdefault(batch, Progress(counts, now))
            progress.add(counts, now)
            name = batch or "(single jobs)"
            self._console.print(f"{name} {view.state(batch)}: {progress.line()}", markup=False)
