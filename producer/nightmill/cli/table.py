"""Draw a View as a table, plain lines, or JSON."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from nightmill.cli.console import VisibleConsole
from nightmill.cli.fitted import FittedTable
from nightmill.cli.options import WIDE
from nightmill.cli.terminal import echo_json
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import shown
from nightmill.reports.labels import NO_WORKER, StatusColumn
from nightmill.reports.progress import Progress, counted, dollars, duration, short, wasted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nightmill.records.counts import Counts
    from nightmill.reports.view import View

_ALWAYS: Final = (JobState.FAILED, JobState.QUEUED, JobState.IN_FLIGHT)
_IF_ANY: Final = (JobState.RETRYING, JobState.SNOOZED, JobState.CANCELLED, JobState.EXPIRED)
_BEFORE: Final = (
    *(StatusColumn.BATCH, StatusColumn.STATE, StatusColumn.DONE, StatusColumn.RATE),
    *(StatusColumn.ETA, StatusColumn.COST, StatusColumn.REFUSED),
)
_AFTER: Final = (StatusColumn.TOKENS, StatusColumn.LIMIT_USED)
UNMEASURED_MS: Final = 30_000
"""While jobs waited for less time, milliseconds, the share of the limit says nothing."""
_SINGLES: Final = "(single jobs)"


@contextmanager
def opened_view(*, watch: bool, json: bool) -> Iterator[Callable[[View], None]]:
    """Yield a function that shows a view on stdout; it can be called again and again."""
    console = VisibleConsole(width=None if sys.stdout.isatty() else WIDE)
    if json:
        yield lambda view: echo_json(view.to_json())
    elif watch:
        yield _Lines(console).show
    else:
        yield lambda view: console.print(draw(view))


def draw(view: View) -> RenderableType:
    """Return a table with one row a batch, and below it why batches are held or stopped."""
    rare = [state for state in _IF_ANY if any(getattr(c, state) for c in view.counts.values())]
    states = (*_ALWAYS, *rare)
    named = (state.replace("_", " ") for state in states)
    table = FittedTable((*_BEFORE, *named, *_AFTER), text_columns=2, main=len(_BEFORE))
    for batch, counts in view.counts.items():
        total = "" if counts.total is None else f" of {counts.total:,}"
        rate = view.rates.get(batch)
        table.add(
            batch or _SINGLES,
            view.state(batch),
            f"{counts.terminal:,}{total}",
            "-" if rate is None else f"{rate:,.1f}/s",
            duration(view.eta_s(batch)) if counts.in_flight else "-",
            _cost(counts),
            f"{counts.refused:,}",
            *(f"{getattr(counts, state):,}" for state in states),
            f"{short(counts.input_tokens)} / {short(counts.output_tokens)}",
            _limit_used(counts),
        )
    return Group(table, *_notes(view), *_hindrances(view))


def _limit_used(counts: Counts) -> str:
    """Return the share of the rate limit that was used, if it was measured for long enough."""
    if counts.utilisation is None:
        return "-"
    return "n/a (under 30 s)" if counts.metered_ms < UNMEASURED_MS else f"{counts.utilisation:.1%}"


def _notes(view: View) -> Iterator[Text]:
    """Yield the lines about batches below the table."""
    for batch, counts in view.counts.items():
        if counts.reason:
            yield Text(f"{batch} is {counts.state}: {counts.reason}", style="yellow")
        if batch and counts.gap:
            yield Text(f"{batch} {counts.gap}", style="red")
        if stops := shown(counts.stop_reasons):
            yield Text(f"{batch or _SINGLES}: {stops}{_see_errors(batch)}", style="yellow")
        if lost := wasted(counts):
            name = batch or _SINGLES
            yield Text(f"{name}: {dollars(counts.cost)} spent, {lost}", style="yellow")
        if delivery := view.webhook(batch):
            yield Text(f"webhook of {batch}: {delivery}")


def _hindrances(view: View) -> Iterator[Text]:
    """Yield the lines about workers, accounts and lanes."""
    if any(map(view.idle, view.counts)):
        yield Text(f"waiting: {NO_WORKER}", style="yellow")
    elif number := len(view.stops.workers):
        yield Text(f"{counted(number, 'worker')} running")
    reasons = {reason: None for batch in view.counts if (reason := view.stopped(batch))}
    for reason in reasons:
        yield Text(f"stopped: {reason}", style="red")
    lanes = {str(lane): None for batch in view.counts for lane in view.held(batch)}
    for lane in lanes:
        if lane not in reasons:
            yield Text(lane, style="yellow")
    for line in (*view.crashes, *view.troubles):
        yield Text(line, style="red")


def _see_errors(batch: str) -> str:
    """Return the command that shows what to do about answers that are not whole."""
    return f"; see: nightmill errors {shlex.quote(batch)}"


def _cost(counts: Counts) -> str:
    """Return the dollars so far and, while the batch runs, an estimate of its total."""
    if counts.cost is None:
        return "?"
    estimate = counts.projected_cost
    more = estimate is not None and not counts.done and not counts.ended
    return f"{dollars(counts.cost)} of ~{dollars(estimate)}" if more else dollars(counts.cost)


class _Lines:
    """Shows views in a log file: one line a batch, every time."""

    def __init__(self, console: VisibleConsole) -> None:
        self._console = console
        self._progress: dict[str, Progress] = {}

    def show(self, view: View) -> None:
        now = time.monotonic()
        for batch, counts in view.counts.items():
            progress = self._progress.setdefault(batch, Progress(counts, now))
            progress.add(counts, now)
            name = batch or _SINGLES
            self._console.print(f"{name} {view.state(batch)}: {progress.line()}")
        for line in (*view.crashes, *view.troubles):
            self._console.print(line)
