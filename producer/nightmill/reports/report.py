"""What `nightmill report` says of a batch: from the store and, where it answers, from Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.estimate import Estimate, from_text
from nightmill.enqueue.known import spent_fields
from nightmill.pricing.cost import LIST, Prices
from nightmill.records import acceptance
from nightmill.records.counts import Counts
from nightmill.records.job import now_ms
from nightmill.records.limits import NANO, Limits
from nightmill.records.result import Usage
from nightmill.reports.failures import failures, not_whole_answers
from nightmill.reports.history import read_history
from nightmill.reports.sums import FIRST, Sums

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.acceptance import Acceptance
    from nightmill.reports.failures import Failure
    from nightmill.reports.history import History
    from nightmill.store import ResultStore

DAY_S: Final = 86_400.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one page."""

    batch: str
    version: str
    made_at: int
    """Epoch ms."""
    sums: Sums
    counts: Counts | None
    """As `status` has them; None when Redis did not answer."""
    total: int | None
    used: Usage
    """Tokens of all calls ever made for the batch."""
    spent_usd: float
    """All calls ever made for the batch."""
    unpriced: int
    """Answers without a known price."""
    failures: list[Failure]
    not_whole: list[Failure]
    limits: Limits = Limits()
    accept: Acceptance
    history: History | None = None
    estimate: Estimate | None = None
    """What a dry run of the source that was fed last shows; None: it is not known."""
    estimate_usd: float | None = None
    """Its cost at most, US dollars; None when a model has no known price."""

    @property
    def running(self) -> bool:
        """Whether the figures are those so far."""
        return self.counts is not None and not (self.counts.over or self.counts.ended)

    @property
    def gone_usd(self) -> float:
        """Paid for answers that are no rows: replaced runs, repeated and broken-off calls."""
        gone = self.spent_usd - self.sums.cost
        # What is spent is summed in nano-dollars: each row may differ by one from its cost.
        return gone if gone * NANO > max(1, self.sums.rows) else 0.0

    @property
    def first_estimate(self) -> float | None:
        """The cost in all as the first FIRST jobs let expect it, US dollars; None if not known."""
        mean = self.sums.first_estimate
        if mean is None or self.total is None or self.sums.rows < min(FIRST, self.total):
            return None
        return mean * self.total


async def read_report(  # noqa: PLR0913 - where from, of what, and two facts of this process
    store: ResultStore,
    redis: Redis | None,
    batch: str,
    counts: Counts | None,
    *,
    version: str,
    prices: Prices = LIST,
) -> Report:
    """Read the report of a batch that has rows. Raises what the store raises."""
    first, last = await store.period(batch) or (0, 0)
    sums = Sums(first, last)
    async for page in store.report_rows(batch):
        sums.add(page)
    known = await store.known(batch)
    spent = await store.spent(batch)
    fields = spent_fields(spent)
    total = counts.total if counts else None
    estimate = from_text(known.estimate if known else None)
    return Report(
        batch=batch,
        version=version,
        made_at=now_ms(),
        sums=sums,
        counts=counts,
        total=known.total if total is None and known else total,
        used=spent.usage,
        spent_usd=fields["nanodollars"] / NANO,
        unpriced=fields["unpriced"],
        failures=await failures(store, batch),
        not_whole=await not_whole_answers(store, batch),
        limits=counts.limits if counts else Limits(),
        accept=acceptance.from_text(known.accept if known else ""),
        estimate=estimate,
        estimate_usd=_priced(estimate, prices, sums.first_enqueued),
        history=await _history(redis, batch, sums.first_started / 1000),
    )


def _priced(estimate: Estimate | None, prices: Prices, enqueued: int) -> float | None:
    """Return the cost of an estimate at the prices of the day it was made, if all are known."""
    if estimate is None:
        return None
    at = datetime.fromtimestamp(enqueued / 1000, UTC) if enqueued else None
    dollars, unpriced = estimate.cost(prices, at)
    return None if unpriced else dollars


async def _history(redis: Redis | None, batch: str, since: float) -> History | None:
    """Return the batch over time; None when it is older than what is kept."""
    if redis is None or not since or time.time() - since > DAY_S:
        return None
    return await read_history(redis, since=since, batches=[batch])
