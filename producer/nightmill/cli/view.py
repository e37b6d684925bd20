"""What `status` shows: the counts of batches, and why their jobs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.queue import crashes, webhooks
from nightmill.queue.keys import SINGLES
from nightmill.queue.stops import Stops, read_stops
from nightmill.records.counts import Counts
from nightmill.records.limits import Limits

if TYPE_CHECKING:
    from nightmill.client.corrected import Corrections
    from nightmill.queue.batches import Batches
    from nightmill.queue.stops import HeldLane


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one or all batches at one moment."""

    counts: dict[str, Counts]
    """By batch name; "" holds the single jobs."""
    only: str | None
    """The batch that the user named, None for all."""
    stops: Stops = Stops()
    """What is stopped or held."""
    crashes: tuple[str, ...] = ()
    """One line for each supervisor whose workers keep dying at start."""
    troubles: tuple[str, ...] = ()
    """One line for each trouble that keeps workers from going on."""

    @property
    def done(self) -> bool:
        """Whether every job has its result and no feeder is at work."""
        return all(counts.over and not counts.feeding for counts in self.counts.values())

    def stopped(self, batch: str) -> str:
        """Return why none of the batch's waiting jobs can be called, "" when one can."""
        return self.stops.reason(batch) if self.counts[batch].waiting else ""

    def held(self, batch: str) -> tuple[HeldLane, ...]:
        """Return the held and stopped lanes that the batch's waiting jobs need."""
        return self.stops.held(batch) if self.counts[batch].waiting else ()

    def state(self, batch: str) -> str:
        """Return the batch's state; "stopped" when no running worker can call its jobs."""
        return "stopped" if self.stopped(batch) else self.counts[batch].state

    def webhook(self, batch: str) -> str:
        """Return the state of the batch's webhook, "" when it has none."""
        raw = self.counts[batch].webhook
        return webhooks.describe(webhooks.decode(raw)) if raw else ""

    def to_json(self) -> bytes:
        """Return the one batch, or {"batches": {name: ...}, "single": ...}."""
        if self.only is not None:
            return msgspec.json.encode(self._fields(self.only))
        batches = {name: self._fields(name) for name in self.counts if name != SINGLES}
        return msgspec.json.encode({"batches": batches, "single": self._fields(SINGLES)})

    def _fields(self, batch: str) -> dict[str, object]:
        counts = self.counts[batch]
        fields: dict[str, object] = {
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
            fields["limits"] = counts.limits
        if reason := self.stopped(batch):
            fields["line"] = reason
        if held := self.held(batch):
            fields["lanes"] = [
                {"model": lane.model, "state": lane.state, "reason": lane.reason} for lane in held
            ]
        if self.crashes:
            fields["crashes"] = self.crashes
        if self.troubles:
            fields["troubles"] = self.troubles
        if counts.webhook:
            fields["webhook"] = self.webhook(batch)
        if reason := counts.reason or counts.gap:
            fields["reason"] = reason
        return fields


async def look(batches: Batches, batch: str | None, corrections: Corrections) -> View:
    """Read `batch`; None reads all batches and the single jobs.

    Raises BatchNotFoundError, which lists the known batches.
    """
    if batch is None:
        counts = {**await corrections.all(), SINGLES: await batches.counts(SINGLES)}
    elif batch == SINGLES:
        counts = {batch: await batches.counts(batch)}
    else:
        counts = {batch: await corrections.one(batch)}
    stops = await read_stops(batches.redis, list(counts))
    crashing = tuple(str(crash) for crash in await crashes.read(batches.redis))
    troubles = tuple(await crashes.read_troubles(batches.redis))
    return View(counts=counts, only=batch, stops=stops, crashes=crashing, troubles=troubles)
