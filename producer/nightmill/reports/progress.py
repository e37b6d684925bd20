"""The rate, the remaining time and the progress line of a batch, from samples of its counts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from nightmill.records.stop_reasons import shown
from nightmill.records.waste import dollars_of
from nightmill.reports.labels import ProgressLabel

if TYPE_CHECKING:
    from nightmill.records.counts import Counts

SPAN_S: Final = 10.0
"""Time over which the rate is measured, seconds."""

SEPARATOR: Final = " · "
"""Between two parts of a progress line."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


class Progress:
    """The progress of a batch; pure. Times are seconds of any monotonic clock."""

    def __init__(self, counts: Counts, now: float) -> None:
        """Start with a first sample; the progress shows the refused calls since then."""
        self.counts = counts
        self._refused_before = counts.refused
        self._ended: deque[tuple[float, int]] = deque([(now, counts.terminal)])

    def __repr__(self) -> str:
        """Show the progress line."""
        return f"<Progress {self.line()}>"

    @property
    def refused(self) -> int:
        """Calls that were answered 429 since the first sample."""
        return max(0, self.counts.refused - self._refused_before)

    def add(self, counts: Counts, now: float) -> None:
        """Add a sample that is not older than the last one."""
        self.counts = counts
        self._ended.append((now, counts.terminal))
        while len(self._ended) > 2 and self._ended[1][0] <= now - SPAN_S:  # noqa: PLR2004 - a pair
            self._ended.popleft()

    @property
    def rate(self) -> float:
        """Jobs that ended, a second, over the last SPAN_S."""
        (since, before), (now, after) = self._ended[0], self._ended[-1]
        return max(0, after - before) / (now - since) if now > since else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the batch is done at this rate; None when the total or rate is unknown."""
        return remaining_s(self.counts, self.rate)

    def line(self) -> str:
        """Return the progress as one line: what matters most within its first 80 characters."""
        counts = self.counts
        total = "" if counts.total is None else f"/{counts.total:,}"
        parts = [f"{counts.terminal:,}{total} {ProgressLabel.DONE}", f"{self.rate:,.1f}/s"]
        if not counts.done:
            parts.append(f"{ProgressLabel.ETA} {duration(self.eta_s)}")
        parts.append("cost ?" if counts.cost is None else dollars(counts.cost))
        parts.append(f"{self.refused:,} {ProgressLabel.REFUSED}")
        parts.append(f"{counts.failed:,} {ProgressLabel.FAILED}")
        if stops := shown(counts.stop_reasons):
            parts.append(stops)
        parts.append(f"{counts.in_flight:,} {ProgressLabel.IN_FLIGHT}")
        tokens = f"{short(counts.input_tokens)} in + {short(counts.output_tokens)} out"
        parts.append(f"{tokens} {ProgressLabel.TOKENS}")
        return SEPARATOR.join(parts)


def remaining_s(counts: Counts, rate: float | None) -> float | None:
    """Return the seconds until a batch is done at `rate` jobs a second; None when not known."""
    if counts.total is None:
        return None
    left = max(counts.total - counts.terminal, counts.waiting + counts.in_flight)
    if not left:
        return 0.0
    return left / rate if rate else None


def counted(number: int, noun: str) -> str:
    """Return "1 job" or "1,200 jobs"; `noun` is the singular."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short(number: int) -> str:
    """Return a number as 999, 1.2k or 34.5M."""
    size = float(number)
    for unit in ("", "k", "M"):
        if size < 999.95:  # noqa: PLR2004 - what rounds to 1000.0 belongs to the next unit
            return f"{size:.1f}{unit}" if unit else str(number)
        size /= 1000
    return f"{size:,.1f}G"


def dollars(amount: float | None) -> str:
    """Return an amount as $0.0123, $1.23 or $1,234; None, an unknown amount, as "?"."""
    if amount is None:
        return "?"
    digits = 4 if 0 < amount < 1 else 2 if amount < 100 else 0  # noqa: PLR2004 - see above
    return f"${amount:,.{digits}f}"


def wasted(counts: Counts) -> str:
    """Return what was paid for nothing, such as "$0.03 of it wasted (failed $0.03)", else ""."""
    kinds = {kind: amount for kind, amount in dollars_of(counts.wasted).items() if amount}
    if not kinds:
        return ""
    parts = ", ".join(f"{kind} {dollars(amount)}" for kind, amount in kinds.items())
    return f"{dollars(sum(kinds.values()))} of it wasted ({parts})"


def duration(seconds: float | None) -> str:
    """Return 42s, 3m 05s, 2h 07m or 3d 04h: the two largest units; None as "?"."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    for size, smaller, names in ((_DAY, _HOUR, "dh"), (_HOUR, _MINUTE, "hm"), (_MINUTE, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{names[0]} {whole % size // smaller:02d}{names[1]}"
    return f"{whole}s"
