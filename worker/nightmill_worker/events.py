"""What happens in a worker, as frozen events. The logs subscribe to them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NotRequired, TypedDict

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all events. The class name says what happened."""


class JobFacts(TypedDict):
    """What names a job and its call in an event, as far as it is known."""

    job_id: str
    batch: NotRequired[str]
    attempt: NotRequired[int]
    request_id: NotRequired[str]
    account: NotRequired[str]
    lane: NotRequired[str]


class JobEvent(Event, frozen=True, kw_only=True):
    """The base of the events of one job. Logs bind all that it belongs to."""

    job_id: str
    batch: str = ""
    """"" for a single job."""
    attempt: int = 0
    """Number of the call, from 1; 0 before the first."""
    request_id: str = ""
    """Of the endpoint, "" when it gave none."""
    account: str = ""
    lane: str = ""


class Away(Event, frozen=True, kw_only=True):
    """The base of the events of a service that stopped answering."""

    problem: str
    """The error of the last request."""


class Back(Event, frozen=True, kw_only=True):
    """The base of the events of a service that answers again."""

    after_s: float
    """How long it did not answer, seconds."""


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker process begins to claim jobs."""

    worker: str


class WorkerDied(Event, frozen=True, kw_only=True):
    """A worker process ended that was not stopped; its supervisor starts another."""

    pid: int
    signal: str | None
    """Name of the signal that killed it, None when it exited by itself."""
    exit_code: int | None
    problem: str
    """The exception that ended it, "" when it is not known."""
    restart_in_s: float


class WorkersCrash(Event, frozen=True, kw_only=True):
    """Worker processes keep dying soon after their start."""

    problem: str
    deaths: int
    """Deaths in a row, each within a minute of the start."""


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker process ended. It holds no jobs any more."""

    worker: str
    given_back: int
    """Jobs that went back to the queue unfinished."""


class WorkerFailed(Event, frozen=True, kw_only=True):
    """A worker process raised outside of a job. It saves its answers and ends."""

    problem: str
    """The exception's type and text."""


class JobsFinished(Event, frozen=True, kw_only=True):
    """Jobs whose rows are committed and that are out of the queue.

    One event covers all jobs of a commit: an event for each job would cost as much as its row.
    """

    jobs: dict[str, str]
    """job_id -> final state."""


class CallRefused(JobEvent, frozen=True, kw_only=True):
    """The endpoint answered 429. The lane pauses for the whole fleet."""

    message: str
    wait_ms: int


class CallFailed(JobEvent, frozen=True, kw_only=True):
    """A call failed. It counts against max_attempts, except in a short outage."""

    error_type: str
    message: str
    wait_ms: int | None
    """Wait before the next attempt, None when there is none."""


class AccountStopped(Event, frozen=True, kw_only=True):
    """The endpoint refuses the account. No job is claimed until an operator resumes it."""

    account: str
    reason: str


class LaneHeld(Event, frozen=True, kw_only=True):
    """A refusal may concern the model or one request: jobs of the lane are tried one at a time."""

    account: str
    model: str
    reason: str


class LaneStopped(Event, frozen=True, kw_only=True):
    """Different jobs of a lane were refused alike. None is claimed until an operator resumes it."""

    account: str
    model: str
    reason: str


class LeaseLost(JobEvent, frozen=True, kw_only=True):
    """A lease ended while this worker was cut off or blocked, and another worker has the job."""


class JobsRestored(Event, frozen=True, kw_only=True):
    """Redis had lost jobs whose calls are in flight here. They are in it again."""

    jobs: int
    """How many."""


class LeasesReleased(Event, frozen=True, kw_only=True):
    """The leases of a worker whose process has ended were ended: its jobs are claimed at once."""

    worker: str
    jobs: int
    """How many."""


class FinishRefused(JobEvent, frozen=True, kw_only=True):
    """Redis refused a finish or a release because another worker has the job by now."""


class JobQuarantined(JobEvent, frozen=True, kw_only=True):
    """A job killed its process three times while it ran alone, or its payload is not a job."""

    reason: str


class JobsCancelled(Event, frozen=True, kw_only=True):
    """Queued jobs became rows: their batch was cancelled or its deadline passed."""

    batch: str
    rows: int


class RedisAway(Away, frozen=True, kw_only=True):
    """Redis does not answer. The worker claims nothing and keeps its answers."""


class RedisBack(Back, frozen=True, kw_only=True):
    """Redis answers again."""


class StoreAway(Away, frozen=True, kw_only=True):
    """The results store does not take rows. The worker claims nothing and keeps its answers."""


class StoreBack(Back, frozen=True, kw_only=True):
    """The results store takes rows again."""


class SpoolFailed(Event, frozen=True, kw_only=True):
    """The store is away and the spool cannot be written."""

    problem: str
    held: int
    """Answers that are only in this process's memory."""


class SpoolDamaged(Event, frozen=True, kw_only=True):
    """Lines of a spool could not be read or stored. Their jobs are called again.

    All other lines of the spool are stored.
    """

    file: str
    """Where the damaged lines were moved to."""
    lines: int


class ModelUnpriced(Event, frozen=True, kw_only=True):
    """No price is known for a model, so its rows have no cost. Emitted once a process."""

    model: str


class MediaTypeCorrected(Event, frozen=True, kw_only=True):
    """A file is not of the type that its request names. It is sent as what it is.

    Emitted once a process for each pair of types.
    """

    named: str
    actual: str
    file: str
    """The first such file."""


class WebhookDelivered(Event, frozen=True, kw_only=True):
    """A receiver accepted a webhook; `batch` is "" when it is about no batch."""

    batch: str
    about: str = "batch.completed"
    """The type of the webhook, and what it is about."""
    tries: int
    """Posts that it took, from 1."""


class WebhookFailed(Event, frozen=True, kw_only=True):
    """A post of a webhook failed; see WebhookDelivered."""

    batch: str
    about: str = "batch.completed"
    reason: str
    again_s: float | None
    """Wait before the next try, seconds. None: the webhook is given up."""


class JobFaulted(JobEvent, frozen=True, kw_only=True):
    """nightmill itself raised while it worked on a job; other jobs go on."""

    problem: str
    """The exception's type and text."""
    traceback: str


class LoopFailed(Event, frozen=True, kw_only=True):
    """A background loop raised; it goes on after a wait."""

    loop: str
    """Its name: renew, listen, govern, sweep, deliver, claim."""
    problem: str
    traceback: str
    again_s: float
    """When it goes on, seconds from now."""


class ClaimsHeld(Event, frozen=True, kw_only=True):
    """The same exception met three jobs in a row: this worker claims one job at a time."""

    problem: str
    """The exception's type and place."""


class SubscriberFailed(Event, frozen=True, kw_only=True):
    """A subscriber to the public events cannot be loaded, raised, or is too slow."""

    subscriber: str
    """The name of its entry point."""
    problem: str
    lost: int
    """Events that it did not get so far, since it was too slow."""


class TelemetryMissing(Event, frozen=True, kw_only=True):
    """OTEL_* variables ask for OpenTelemetry, which is not installed. Nothing is sent."""

    fix: str


class RowReduced(JobEvent, frozen=True, kw_only=True):
    """The store refused a row for what it holds; a reduced row was stored in its place."""

    problem: str


class AnswersUnsaved(Event, frozen=True, kw_only=True):
    """A process that is to stop can put its answers neither in the store nor in the spool.

    It waits until one of them does, or until it is stopped again.
    """

    answers: int
    problem: str
    """Why the spool cannot be written."""


def failed_loop(loop: str, error: BaseException, again_s: float) -> LoopFailed:
    """Return the event of a loop that raised `error` and goes on in `again_s` seconds."""
    return LoopFailed(
        loop=loop,
        problem=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
        again_s=again_s,
    )


Emit = Callable[[Event], None]


class Events:
    """Components emit here. Listeners are called at once, in the order they subscribed."""

    def __init__(self) -> None:
        """Start without listeners."""
        self._listeners: list[Emit] = []

    def subscribe(self, listener: Emit) -> None:
        """Call `listener` with every event from now on; it must not raise or block."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Call every listener with `event`."""
        for listener in self._listeners:
            listener(event)
