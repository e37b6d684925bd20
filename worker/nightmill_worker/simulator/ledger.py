"""Counts of calls and their answers, per prompt and in total."""

from collections import Counter

import msgspec


class Counts(msgspec.Struct):
    """How the calls of one prompt ended."""

    calls: int = 0
    """The sum of the other counts and of the calls in flight."""
    answered: int = 0
    """A whole 200."""
    refused: int = 0
    """A 429."""
    failed: int = 0
    """Any other answer, or one that was cut."""
    abandoned: int = 0
    """The client closed the connection before the answer."""

    def add(self, status: int, *, whole: bool) -> None:
        """Count an answer; `whole` is False for one that was cut."""
        if status == 429:  # noqa: PLR2004 (the status is its own name)
            self.refused += 1
        elif status < 400 and whole:  # noqa: PLR2004
            self.answered += 1
        else:
            self.failed += 1


class Ledger:
    """All counts since the start or the last reset; times are of the caller's clock, seconds."""

    def __init__(self) -> None:
        """Start with all counts at zero."""
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero; calls in flight are counted when they end."""
        self.prompts: dict[str, Counts] = {}
        self.totals = Counts()
        self.statuses: Counter[int] = Counter()
        self.billed: Counter[str] = Counter()
        self.answered_more_than_once = 0
        self.first_request_at: float | None = None
        self.last_response_at: float | None = None

    def received(self, now: float) -> None:
        """Count a call when it arrives, before its body is read."""
        self.totals.calls += 1
        if self.first_request_at is None:
            self.first_request_at = now

    def recognised(self, key: str) -> int:
        """Count a valid call of the prompt `key`; return how many there were, with this one."""
        counts = self._of(key)
        counts.calls += 1
        return counts.calls

    def ended(self, key: str | None, status: int, now: float, *, whole: bool = True) -> None:
        """Count an answer; `key` is None for a request that was not valid."""
        self.last_response_at = now
        self.statuses[status] += 1
        self.totals.add(status, whole=whole)
        if key is not None:
            counts = self._of(key)
            before = counts.answered
            counts.add(status, whole=whole)
            self.answered_more_than_once += before == 1 and counts.answered > 1

    def bill(self, usage: object) -> None:
        """Add the usage of an answer that was sent to its end."""
        if isinstance(usage, dict):
            for part in (usage, *(each for each in usage.values() if isinstance(each, dict))):
                self.billed.update(
                    {n: count for n, count in part.items() if isinstance(count, int)}
                )

    def abandoned(self, key: str | None) -> None:
        """Count a call whose client closed the connection."""
        self.totals.abandoned += 1
        if key is not None:
            self._of(key).abandoned += 1

    def answered_per_s(self) -> float:
        """Return whole answers a second, from the first request to the last response."""
        if self.first_request_at is None or self.last_response_at is None:
            return 0.0
        elapsed = self.last_response_at - self.first_request_at
        return self.totals.answered / elapsed if elapsed > 0 else 0.0

    def _of(self, key: str) -> Counts:
        counts = self.prompts.get(key)
        if counts is None:
            counts = self.prompts[key] = Counts()
        return counts
