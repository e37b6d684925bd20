"""From samples of a batch's counts to its rate, its remaining time, and one line about both."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nightmill.records.counts import Counts

SPAN_S: Final = 10.0
"""The rate is that of the last SPAN_S seconds."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


class Progress:
    """How a batch is getting on; pure, times are seconds of any steady clock.

    `refused` counts 429s since the first sample: the lanes' own counters never start again.
    """

    def __init__(self, counts: Counts, now: float, *, refused: int = 0) -> None:
        """Start from a first sample."""
        self.counts = counts
        self.refused = 0
        self._refused_before = refused
        self._ended: deque[tuple[float, int]] = deque([(now, counts.terminal)])

    def __repr__(self) -> str:
        """Show the line."""
        return f"<Progress {self.line()}>"

    def add(self, counts: Counts, now: float, *, refused: int = 0) -> None:
        """Take another sample, not older than the last."""
        self.counts = counts
        self.refused = max(0, refused - self._refused_before)
        self._ended.append((now, counts.terminal))
        while len(self._ended) > 2 and self._ended[1][0] <= now - SPAN_S:  # noqa: PLR2004 - a pair
            self._ended.popleft()

    @property
    def rate(self) -> float:
        """Jobs that ended a second, lately."""
        (since, before), (now, after) = self._ended[0], self._ended[-1]
        return max(0, after - before) / (now - since) if now > since else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until all is done at this rate, None while nobody can know."""
        counts = self.counts
        if counts.total is None:
            return None
        left = max(counts.total - counts.terminal, counts.waiting + counts.in_flight)
        if not left:
            return 0.0
        return left / self.rate if self.rate else None

    def line(self) -> str:
        """Return the one line a person watches."""
        counts = self.counts
        total = "" if counts.total is None else f"/{counts.total:,}"
        parts = [
            f"{counts.terminal:,}{total} done",
            f"{counts.failed:,} failed",
            f"{counts.in_flight:,} in flight",
            f"{self.rate:,.1f}/s",
            f"{short(counts.input_tokens)} in + {short(counts.output_tokens)} out tokens",
            f"{self.refused:,} 429s",
        ]
        if counts.cost:
            parts.insert(-1, dollars(counts.cost))
        if not counts.done:
            parts.append(f"ETA {duration(self.eta_s)}")
        return " · ".join(parts)


def short(number: int) -> str:
    """Return 999, 1.2k, 34.5M: three figures of a large number."""
    size = float(number)
    for unit in ("", "k", "M"):
        if size < 999.95:  # noqa: PLR2004 - what rounds to 1000.0 belongs to the next unit
            return f"{size:.1f}{unit}" if unit else str(number)
        size /= 1000
    return f"{size:,.1f}G"


def dollars(amount: float | None) -> str:
    """Return $0.0123, $1.23, $1,234: what is worth showing of an amount; "?" for None."""
    if amount is None:
        return "?"
    digits = 4 if 0 < amount < 1 else 2 if amount < 100 else 0  # noqa: PLR2004 - see above
    return f"${amount:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return 42s, 3m 05s, 2h 07m, 3d 04h: the two largest units; "?" for None."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    for size, smaller, names in ((_DAY, _HOUR, "dh"), (_HOUR, _MINUTE, "hm"), (_MINUTE, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{names[0]} {whole % size // smaller:02d}{names[1]}"
    return f"{whole}s"
