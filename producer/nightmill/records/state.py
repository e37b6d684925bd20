"""The life of a job: its states and the one table of transitions between them.

Read this first. docs/state_machine.md draws the same table; a test keeps the two in step.
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
    (JobState.IN_FLIGHT, JobState.SNOOZED): "refused (429), account stopped, shutdown; not counted",
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
