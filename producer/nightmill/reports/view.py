"""What `status` and the console show: the counts of batches, and why their jobs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.queue import crashes, webhooks
from nightmill.queue.keys import SINGLES
from nightmill.queue.stops import Stops, read_stops
from nightmill.records.counts import Counts
from nightmill.records.limits import Limits
from nightmill.records.waste import dollars_of
from nightmill.reports.progress import remaining_s

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
    """What is stopped or held, and which workers run."""
    rates: dict[str, float] = {}
    """Batch -> its jobs that ended a second, lately; without those whose rate is not known."""
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
        """Return the batch's state.

        "stopped": no running worker can call its jobs; "waiting": no worker is running for them.
        """
        if self.stopped(batch):
            return "stopped"
        state = self.counts[batch].state
        return "waiting" if state == "running" and self.idle(batch) else state

    def workers(self, batch: str) -> int:
        """Return the number of running workers that claim jobs of the batch."""
        return len(self.stops.serving(batch))

    def idle(self, batch: str) -> bool:
        """Tell whether jobs of the batch wait, and no worker is running for them."""
        return self.stops.no_worker(batch, self.counts[batch])

    def eta_s(self, batch: str) -> float | None:
        """Return the seconds until the batch is done at its rate, None when that is not known."""
        return remaining_s(self.counts[batch], self.rates.get(batch))

    def webhook(self, batch: str) -> str:
        """Return the state of the batch's webhook, "" when it has none."""
        raw = self.counts[batch].webhook
        return webhooks.describe(webhooks.decode(raw)) if raw else ""

    def to_json(self) -> bytes:
        """Return the one batch, or {"batches": {name: ...}, "single": ...}."""
        if self.only is not None:
            return msgspec.json.encode(self._fields(self.only))
        batches = {name: self._fields(name) for name in self.counts if name != SINGLES}
        workers = len(self.stops.workers)
        everything = {"batches": batches, "single": self._fields(SINGLES), "workers": workers}
        return msgspec.json.encode(everything)

    def _fields(self, batch: str) -> dict[str, object]:
        counts = self.counts[batch]
        fields: dict[str, object] = {
            "batch": batch or None,
            "state": self.state(batch),
            "workers": self.workers(batch),
            "total": counts.total,
            "queued": counts.queued,
            "in_flight": counts.in_flight,
            "retrying": counts.retrying,
            "snoozed": counts.snoozed,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "expired": counts.expired,
            "stop_reasons": counts.stop_reasons,
            "rate": self.rates.get(batch),
            "eta_s": self.eta_s(batch),
            "refused": counts.refused,
            "utilisation": None if counts.utilisation is None else round(counts.utilisation, 4),
            "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
            "cost": {
                "usd": counts.cost,
                "projected_usd": counts.projected_cost,
                "wasted_usd": dollars_of(counts.wasted),
            },
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

    Rates are those of the last RATE_S seconds, from the rows in the store.

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
    running = [name for name, each in counts.items() if each.in_flight]
    return View(
        counts=counts,
        only=batch,
        stops=stops,
        rates=await corrections.rates(running),
        crashes=crashing,
        troubles=troubles,
    )
