"""What a person sees of a batch while it runs: rows of a label and a text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.job import is_rehearsal
from nightmill.records.stop_reasons import shown
from nightmill.reports.labels import PanelLabel, ProgressLabel
from nightmill.reports.progress import SEPARATOR, dollars, duration, short

if TYPE_CHECKING:
    from nightmill.records.counts import Counts
    from nightmill.reports.progress import Progress


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of one batch at one moment."""

    batch: str
    counts: Counts
    line: str
    """The progress as one line, for a pipe or a log."""
    rate: float = 0.0
    """Jobs that ended a second, lately."""
    eta_s: float | None = None
    refused: int = 0
    """Calls that were answered 429 since the panel is shown."""
    notes: tuple[str, ...] = ()
    """What keeps workers from going on, and what holds the batch up; one line each."""
    limited_by: tuple[str, ...] = ()
    """One sentence for each lane in use."""
    newest_error: str = ""

    @property
    def text(self) -> str:
        """The plain lines."""
        return "\n".join([f"{self.batch}: {self.line}", *self.notes])

    @property
    def eta(self) -> str:
        """How long it still takes."""
        if self.counts.done:
            return PanelLabel.DONE
        return f"{PanelLabel.ETA} {duration(self.eta_s)}"

    @property
    def share(self) -> float | None:
        """The share of the jobs that ended, 0 to 1; None while the total is not known."""
        total = self.counts.total
        if total is None:
            return None
        return min(1.0, self.counts.terminal / total) if total else 1.0

    @property
    def failed_share(self) -> float:
        """The share of the jobs that ended without a result, 0 to 1."""
        counts = self.counts
        return (counts.terminal - counts.succeeded) / counts.total if counts.total else 0.0

    def rows(self) -> list[tuple[PanelLabel, str]]:
        """Return the rows below the bar, without those that have nothing to say."""
        counts = self.counts
        tokens = f"{short(counts.input_tokens)} in + {short(counts.output_tokens)} out"
        in_flight = f"{counts.in_flight:,} {ProgressLabel.IN_FLIGHT}"
        rows = [
            (PanelLabel.BATCH, self.batch),
            (PanelLabel.DONE, self._done()),
            (PanelLabel.RATE, f"{self.rate:,.1f}/s{SEPARATOR}{in_flight}"),
            (PanelLabel.TOKENS, tokens),
            (PanelLabel.COST, self._cost()),
            (PanelLabel.REFUSED, f"{self.refused:,}"),
            *((PanelLabel.LIMITED_BY, each) for each in self.limited_by),
            (PanelLabel.NOT_WHOLE, shown(counts.stop_reasons)),
            (PanelLabel.NEWEST_ERROR, self.newest_error),
        ]
        return [(label, text) for label, text in rows if text]

    def _done(self) -> str:
        counts = self.counts
        total = "" if counts.total is None else f" of {counts.total:,}"
        parts = [f"{counts.terminal:,}{total}", f"{counts.failed:,} {ProgressLabel.FAILED}"]
        rare = ("retrying", "snoozed", "cancelled", "expired")
        parts += [f"{number:,} {name}" for name in rare if (number := getattr(counts, name))]
        return SEPARATOR.join(parts)

    def _cost(self) -> str:
        counts = self.counts
        if counts.cost is None:
            return "? (a model without a known price)"
        free = " (rehearsal: nothing is paid)" if is_rehearsal(self.batch) else ""
        if counts.projected_cost is None or counts.done:
            return f"{dollars(counts.cost)}{free}"
        return f"{dollars(counts.cost)} so far, about {dollars(counts.projected_cost)} in all{free}"


def panel_of(batch: str, progress: Progress, notes: tuple[str, ...] = ()) -> Panel:
    """Return the panel of a batch from its progress."""
    return Panel(
        batch=batch,
        counts=progress.counts,
        line=progress.line(),
        rate=progress.rate,
        eta_s=progress.eta_s,
        refused=progress.refused,
        notes=notes,
    )
