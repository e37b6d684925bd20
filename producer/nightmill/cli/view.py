"""What `status` shows, taken together: the batches asked for, and a stopped line's reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.queue import webhooks
from nightmill.queue.keys import SINGLES
from nightmill.records.counts import Counts
from nightmill.records.limits import Limits

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Batches by name, "" being the single jobs; `only` is the one that was asked for, if any.

    `stopped` is why a line is stopped (its credential, say), None while none is.
    """

    counts: dict[str, Counts]
    only: str | None
    stopped: str | None

    @property
    def done(self) -> bool:
        """Whether nothing is on its way or still to be fed."""
        return all(
            not counts.feeding and (counts.done or (counts.total is None and counts.drained))
            for counts in self.counts.values()
        )

    def state(self, batch: str) -> str:
        """Return a batch's state in one word: "stopped" when its jobs wait for a stopped line."""
        counts = self.counts[batch]
        return "stopped" if self.stopped is not None and counts.waiting else counts.state

    def webhook(self, batch: str) -> str:
        """Return how far a batch's webhook is, "" when it has none."""
        raw = self.counts[batch].webhook
        return webhooks.describe(webhooks.decode(raw)) if raw else ""

    def to_json(self) -> bytes:
        """Return the one batch, or {"batches": {name: ...}, "single": ...}."""
        if self.only is not None:
            return msgspec.json.encode(self._told(self.only))
        batches = {name: self._told(name) for name in self.counts if name != SINGLES}
        return msgspec.json.encode({"batches": batches, "single": self._told(SINGLES)})

    def _told(self, batch: str) -> dict[str, object]:
        counts = self.counts[batch]
        told: dict[str, object] = {
            "batch": batch or None,
            "state": self.state(batch),
            "total": counts.total,
            "queued": counts.queued,
            "in_flight": counts.in_flight,
            "retrying": counts.retrying,
            "snoozed": counts.snoozed,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "expired": counts.expired,
            "utilisation": None if counts.utilisation is None else round(counts.utilisation, 4),
            "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
            "cost": {"usd": counts.cost, "projected_usd": counts.projected_cost},
        }
        if counts.limits != Limits():
            told["limits"] = counts.limits
        if self.state(batch) == "stopped":
            told["line"] = self.stopped
        if counts.webhook:
            told["webhook"] = self.webhook(batch)
        if counts.reason:
            told["reason"] = counts.reason
        return told


async def look(batches: Batches, batch: str | None) -> View:
    """Read `batch`, or all batches and the single jobs when it is None.

    Raises BatchNotFoundError that names the batches there are.
    """
    if batch:
        await batches.require(batch)
    if batch is None:
        counts = {**await batches.all(), SINGLES: await batches.counts(SINGLES)}
    else:
        counts = {batch: await batches.counts(batch)}
    lines = (await batches.accounts()).values()
    reasons = [line["reason"] for line in lines if line["state"] == "stopped"]
    return View(counts=counts, only=batch, stopped=reasons[0] if reasons else None)
