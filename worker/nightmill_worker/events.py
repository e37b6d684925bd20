"""What happens in a worker, as frozen events; logs and metrics subscribe to them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something an operator may want to know; the class name says what."""


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker process begins to claim."""

    worker: str


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker process ended; everything it held was finished or given back."""

    worker: str
    given_back: int


class JobsFinished(Event, frozen=True, kw_only=True):
    """Jobs whose rows are committed and that are out of the queue: job_id -> how each ended.

    One event for all that were committed together; each job its own would cost as much as its row.
    """

    jobs: dict[str, str]


class CallRefused(Event, frozen=True, kw_only=True):
    """The endpoint answered 429; the whole fleet pauses."""

    job_id: str
    message: str
    wait_ms: int


class CallFailed(Event, frozen=True, kw_only=True):
    """An attempt failed and counts."""

    job_id: str
    error_type: str
    message: str
    wait_ms: int | None


class AccountStopped(Event, frozen=True, kw_only=True):
    """Nobody can be served with this credential: nothing more is claimed until somebody acts."""

    reason: str


class LeaseLost(Event, frozen=True, kw_only=True):
    """Another worker took a job over while this one was cut off or blocked."""

    job_id: str


class FinishRefused(Event, frozen=True, kw_only=True):
    """A finish or release came too late: the job was somebody else's by then."""

    job_id: str


class JobQuarantined(Event, frozen=True, kw_only=True):
    """A job took its process down three times while alone, or is not a job at all."""

    job_id: str
    reason: str


class JobsCancelled(Event, frozen=True, kw_only=True):
    """Queued jobs of a batch that was cancelled, or whose deadline passed, became rows."""

    batch: str
    rows: int


class RedisAway(Event, frozen=True, kw_only=True):
    """Redis does not answer; nothing is claimed, answers are kept."""

    problem: str


class RedisBack(Event, frozen=True, kw_only=True):
    """Redis answers again."""

    after_s: float


class StoreAway(Event, frozen=True, kw_only=True):
    """The results store does not take rows; nothing is claimed, answers are kept."""

    problem: str


class SpoolFailed(Event, frozen=True, kw_only=True):
    """The store is away and the spool cannot be written: `held` answers are only in memory."""

    problem: str
    held: int


class SpoolDamaged(Event, frozen=True, kw_only=True):
    """Lines of a spool could not be read or stored; they were moved to `file`, the rest is stored.

    Their jobs are called again when their leases end.
    """

    file: str
    lines: int


class ModelUnpriced(Event, frozen=True, kw_only=True):
    """No price is known for a model, so its rows have no cost; said once a process."""

    model: str


class WebhookDelivered(Event, frozen=True, kw_only=True):
    """Somebody was told that a batch is done, at the `tries`-th try."""

    batch: str
    tries: int


class WebhookFailed(Event, frozen=True, kw_only=True):
    """Nobody could be told that a batch is done; None seconds until the next try: given up."""

    batch: str
    reason: str
    again_s: float | None


class StoreBack(Event, frozen=True, kw_only=True):
    """The results store takes rows again."""

    after_s: float


Emit = Callable[[Event], None]


class Events:
    """Where components emit and listeners subscribe; calls them in order, at once."""

    def __init__(self) -> None:
        """Start without listeners."""
        self._listeners: list[Emit] = []

    def subscribe(self, listener: Emit) -> None:
        """Call `listener` with every event from now on; it must not raise or block."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener(event)
