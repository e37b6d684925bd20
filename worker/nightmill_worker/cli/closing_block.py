"""The summary of `run` on a terminal: rows of a label and a text, aligned, in any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from rich.text import Text

from nightmill.cli.console import VisibleConsole
from nightmill.cli.panel import fitted
from nightmill.cli.terminal import echo, shown
from nightmill.records.stop_reasons import REFUSAL, TRUNCATED, described, not_whole
from nightmill.reports.labels import SummaryLabel
from nightmill.reports.progress import SEPARATOR, dollars, short, wasted
from nightmill_worker.cli.closing import REASONS, left, limit_used, more, ran, reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from nightmill.records.counts import Counts
    from nightmill.reports.failures import Failure
    from nightmill_worker.machine.local_run import Ending

LABEL: Final = 10
"""Cells of the labels: the longest one."""
COMMAND: Final = ": nightmill "
"""Between a text and the command at its end."""
LINES: Final = 3
"""Most lines of one text."""
_STOPS: Final = {TRUNCATED: SummaryLabel.TRUNCATED, REFUSAL: SummaryLabel.REFUSED}
_COLOURS: Final = {
    SummaryLabel.SUCCEEDED: "green",
    SummaryLabel.TRUNCATED: "yellow",
    SummaryLabel.REFUSED: "yellow",
    SummaryLabel.NOT_WHOLE: "yellow",
    SummaryLabel.FAILED: "red",
    SummaryLabel.LEFT: "yellow",
}
Row: TypeAlias = tuple[SummaryLabel, str]


def rows(ending: Ending, batch: str, took_s: float, refused: int, *, rehearsal: bool) -> list[Row]:
    """Return how the jobs of the batch ended and what that cost; `refused` calls were 429s."""
    counts = ending.counts
    tokens = f"{short(counts.input_tokens)} in + {short(counts.output_tokens)} out"
    stops = not_whole(counts.stop_reasons).items()
    total = max(counts.accepted, counts.total or 0)
    numbers = [
        (SummaryLabel.FAILED, counts.failed),
        (SummaryLabel.CANCELLED, counts.cancelled),
        (SummaryLabel.EXPIRED, counts.expired),
        (SummaryLabel.LEFT, left(counts)),
    ]
    return [
        (SummaryLabel.BATCH, f"{batch}{SEPARATOR}{ran(ending, took_s)}"),
        (SummaryLabel.SUCCEEDED, f"{counts.succeeded:,} of {total:,}"),
        *((_STOPS.get(name, SummaryLabel.NOT_WHOLE), f"{number:,} {described(name)}")
          for name, number in stops),
        *((label, f"{number:,}") for label, number in numbers
          if number or label is SummaryLabel.FAILED),
        (SummaryLabel.TOKENS, tokens),
        (SummaryLabel.COST, _cost(counts, rehearsal=rehearsal)),
        (SummaryLabel.LIMIT_USED, limit_used(counts, refused)),
    ]  # fmt: skip


def _cost(counts: Counts, *, rehearsal: bool) -> str:
    if rehearsal:
        return f"REHEARSAL, nothing was paid: {dollars(counts.cost)} at list prices"
    if counts.cost is None:
        return "not known: a model has no known price"
    lost = wasted(counts)
    return f"{dollars(counts.cost)}, {lost}" if lost else dollars(counts.cost)


class Block:
    """Rows as rich draws them: texts that are too long go on below themselves."""

    def __init__(self, drawn: Iterable[Row]) -> None:
        """Draw these rows."""
        self._rows = list(drawn)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one line after another; rich calls this with the width of the terminal."""
        for label, text in self._rows:
            style = "" if text == "0" else _COLOURS.get(label, "")
            for number, line in enumerate(
                fitted(console, text, options.max_width - LABEL - 2, LINES)
            ):
                name = "" if number else label
                yield Text.assemble((f"{name:<{LABEL}}  ", "dim"), (line, style), no_wrap=True)


def draw(drawn: Iterable[Row]) -> None:
    """Print rows on stderr, which is a terminal."""
    VisibleConsole(stderr=True).print(Block(drawn))


def draw_reasons(groups: Sequence[Failure]) -> None:
    """Print why jobs failed, on stderr; a command is on a line of its own, to be copied."""
    console = VisibleConsole(stderr=True)
    for each in groups[:REASONS]:
        for number, line in enumerate(fitted(console, reason(each), console.width - 4, LINES)):
            console.print(Text(f"{'    ' if number else '  '}{line}", style="red"), no_wrap=True)
        if each.fix:
            for line in fitted(console, f"{each.fix}, then:", console.width - 4, LINES):
                console.print(Text(f"    {line}"), no_wrap=True)
        echo(f"    {each.command}", err=True)
    for line in more(groups):
        console.print(Text(line))


def draw_advice(line: str) -> None:
    """Print a line wrapped at its words; a command at its end is on a line of its own."""
    prose, mark, command = line.rpartition(COMMAND)
    console = VisibleConsole(stderr=True)
    console.print(Text(shown(f"{prose}:" if mark else line)))
    if mark:
        echo(f"  {COMMAND[2:]}{command}", err=True)
