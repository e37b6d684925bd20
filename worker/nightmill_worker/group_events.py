"""Events of groups, which metrics and logs count: calls, rows, claims; what a minute brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nightmill_worker.events import Event, JobEvent

if TYPE_CHECKING:
    from nightmill.records.result import Result, Usage


class CallEnded(JobEvent, frozen=True, kw_only=True):
    """A call has its answer, or broke off, and it is decided what follows."""

    model: str
    """The one that was asked for."""
    state: str
    """What the job is now: an end, retrying, snoozed, continued, or lost to another worker."""
    status: int | None
    """HTTP status, None when no answer began."""
    error_type: str
    """"" for a call that succeeded."""
    started_at: int
    """Epoch ms."""
    duration_ms: int
    usage: Usage
    response_model: str
    """As the endpoint named it, "" when it did not."""
    finish_reason: str
    """The stop reason, "" for none."""
    traceparent: str
    """The span that enqueued the job, "" for none."""


class CallsEnded(Event, frozen=True, kw_only=True):
    """A group of calls that ended. Listeners that need each call ask for it."""

    calls: Callable[[], Iterator[CallEnded]]


class JobsClaimed(Event, frozen=True, kw_only=True):
    """Redis has answered a claim."""

    jobs: int
    seconds: float


class RowsCommitted(Event, frozen=True, kw_only=True):
    """The store has taken a group of rows."""

    rows: Sequence[Result]
    refused: int
    """Rows of jobs that have a row of this run already."""
    seconds: float


class WorkerProgress(Event, frozen=True, kw_only=True):
    """A minute has passed."""

    worker: str
    running: int
    """Calls in flight."""
    held: int
    """Claimed jobs, with those whose answers wait for the store."""


class BatchChanged(Event, frozen=True, kw_only=True):
    """A batch has another state, or is new. One worker of the fleet emits it."""

    batch: str
    state: str
    succeeded: int
    failed: int
    total: int | None
