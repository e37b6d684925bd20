"""The lives of a job and of a batch: their states, and one table of transitions for each.

Read this first. docs/state_machine.md shows the same tables; a test keeps the two in step.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job. In the first four it is in Redis; the last four are rows in the store."""

    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    RETRYING = "retrying"
    SNOOZED = "snoozed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})

# (from, to) -> when it happens. From a terminal state to queued: the job's next run starts.
TRANSITIONS: dict[tuple[JobState, JobState], str] = {
    (JobState.QUEUED, JobState.IN_FLIGHT): "claimed by a worker",
    (JobState.IN_FLIGHT, JobState.SUCCEEDED): "a complete message was stored",
    (JobState.IN_FLIGHT, JobState.FAILED): "the request is wrong, or its attempts are spent",
    (JobState.IN_FLIGHT, JobState.RETRYING): "the attempt failed and counts; another follows",
    (JobState.IN_FLIGHT, JobState.SNOOZED): (
        "refused (429), account stopped, lane held, short outage, shutdown; not counted"
    ),
    (JobState.IN_FLIGHT, JobState.IN_FLIGHT): "its worker died and another claimed it",
    (JobState.IN_FLIGHT, JobState.CANCELLED): "aborted during its call",
    (JobState.IN_FLIGHT, JobState.EXPIRED): "its deadline had passed when it was claimed",
    (JobState.RETRYING, JobState.IN_FLIGHT): "backoff over, claimed again",
    (JobState.SNOOZED, JobState.IN_FLIGHT): "snooze over, claimed again",
    (JobState.QUEUED, JobState.CANCELLED): "cancelled before a call",
    (JobState.RETRYING, JobState.CANCELLED): "cancelled between calls",
    (JobState.SNOOZED, JobState.CANCELLED): "cancelled between calls",
    (JobState.QUEUED, JobState.EXPIRED): "its deadline passed in the queue",
    (JobState.RETRYING, JobState.EXPIRED): "its deadline passed between calls",
    (JobState.SNOOZED, JobState.EXPIRED): "its deadline passed between calls",
    (JobState.FAILED, JobState.QUEUED): "requeued as its next run, patched if asked",
    (JobState.SUCCEEDED, JobState.QUEUED): "its request changed, and is to be run again",
    (JobState.CANCELLED, JobState.QUEUED): "requeued as its next run",
    (JobState.EXPIRED, JobState.QUEUED): "requeued as its next run",
}


def allowed(before: JobState, after: JobState) -> bool:
    """Return whether the table has the transition `before -> after`."""
    return (before, after) in TRANSITIONS


class BatchState(StrEnum):
    """The state of a batch itself: whether its jobs may be claimed, and whether it takes more.

    It is the field `flag` of the batch's hash in Redis; an open batch has no flag.
    """

    OPEN = "open"
    PAUSED = "paused"
    BUDGET = "budget"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class BatchMove(StrEnum):
    """What changes the state of a batch."""

    PAUSE = "pause"
    SPEND = "spend"
    CANCEL = "cancel"
    EXPIRE = "expire"
    RESUME = "resume"
    ADJUST = "adjust"
    REOPEN = "reopen"


# (state, move) -> (the state after it, and why). What is not in the table changes nothing: a
# batch that was cancelled goes on only when its cancelled jobs are retried, and an expired one only
# after its limits were changed.
# flag.lua holds every script to this table.
BATCH_TRANSITIONS: dict[tuple[BatchState, BatchMove], tuple[BatchState, str]] = {
    (BatchState.OPEN, BatchMove.PAUSE): (BatchState.PAUSED, "by a person, or by the canary"),
    (BatchState.OPEN, BatchMove.SPEND): (BatchState.BUDGET, "the next call may exceed the budget"),
    (BatchState.OPEN, BatchMove.CANCEL): (BatchState.CANCELLED, "by a person"),
    (BatchState.OPEN, BatchMove.EXPIRE): (BatchState.EXPIRED, "its deadline has passed"),
    (BatchState.PAUSED, BatchMove.RESUME): (BatchState.OPEN, "by a person, or a second run"),
    (BatchState.PAUSED, BatchMove.PAUSE): (BatchState.PAUSED, "paused again, for another reason"),
    (BatchState.PAUSED, BatchMove.CANCEL): (BatchState.CANCELLED, "by a person"),
    (BatchState.PAUSED, BatchMove.EXPIRE): (BatchState.EXPIRED, "its deadline has passed"),
    (BatchState.BUDGET, BatchMove.RESUME): (BatchState.OPEN, "by a person, or a second run"),
    (BatchState.BUDGET, BatchMove.ADJUST): (BatchState.OPEN, "its limits were changed"),
    (BatchState.BUDGET, BatchMove.PAUSE): (BatchState.PAUSED, "by a person, or by the canary"),
    (BatchState.BUDGET, BatchMove.CANCEL): (BatchState.CANCELLED, "by a person"),
    (BatchState.BUDGET, BatchMove.EXPIRE): (BatchState.EXPIRED, "its deadline has passed"),
    (BatchState.EXPIRED, BatchMove.ADJUST): (BatchState.OPEN, "its limits were changed"),
    (BatchState.CANCELLED, BatchMove.REOPEN): (BatchState.OPEN, "its cancelled jobs are retried"),
}
BATCH_ENDED = frozenset({BatchState.CANCELLED, BatchState.EXPIRED})
"""States of a batch that takes no more jobs."""


def batch_after(before: BatchState, move: BatchMove) -> BatchState:
    """Return the state of a batch after `move`; what the table does not have changes nothing."""
    found = BATCH_TRANSITIONS.get((before, move))
    return before if found is None else found[0]
