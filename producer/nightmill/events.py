"""What happens in workers, for programs of one's own: docs/plug-points.md shows how to subscribe.

The set is frozen: within a VERSION, no class and no field is changed or taken away. New classes and
new fields may come, so a subscriber passes over what it does not know.
"""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = 1
"""The version of this set."""
GROUP: Final = "nightmill.events"
"""The entry points that are subscribers: each is called with one Event."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all events. The class name says what happened."""

    at: int
    """When, epoch ms by the clock of the worker's machine."""


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker process begins to claim jobs."""

    worker: str
    """Its name."""


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker process ended in order."""

    worker: str
    given_back: int
    """Jobs that went back to the queue unfinished."""


class JobsEnded(Event, frozen=True, kw_only=True):
    """Jobs ended, and their rows are in the results store. One event covers a whole commit."""

    jobs: dict[str, str]
    """Job id -> final state: `succeeded`, `failed`, `cancelled` or `expired`."""


class CallRefused(Event, frozen=True, kw_only=True):
    """The endpoint answered 429. The lane pauses for the whole fleet."""

    job_id: str
    message: str
    wait_ms: int


class CallFailed(Event, frozen=True, kw_only=True):
    """A call failed."""

    job_id: str
    error_type: str
    message: str
    wait_ms: int | None
    """Wait before the next attempt; None: there is none."""


class JobQuarantined(Event, frozen=True, kw_only=True):
    """A job is not called: its payload is no job, or it ended its process three times."""

    job_id: str
    reason: str


class AccountStopped(Event, frozen=True, kw_only=True):
    """The endpoint refuses the account. No job is claimed until an operator resumes it."""

    reason: str


class LaneStopped(Event, frozen=True, kw_only=True):
    """Different jobs of a lane were refused alike. None is claimed until it is resumed."""

    model: str
    reason: str


class ServiceAway(Event, frozen=True, kw_only=True):
    """Redis or the results store does not answer. Nothing is lost, and nothing is claimed."""

    service: str
    """`redis` or `store`."""
    problem: str


class ServiceBack(Event, frozen=True, kw_only=True):
    """It answers again."""

    service: str
    after_s: float
    """How long it did not, seconds."""


EVENTS: Final = (
    *(WorkerStarted, WorkerStopped, JobsEnded, CallRefused, CallFailed, JobQuarantined),
    *(AccountStopped, LaneStopped, ServiceAway, ServiceBack),
)
"""All classes of this version."""
