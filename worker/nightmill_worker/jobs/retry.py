"""The retry rule, pure: from an outcome and the job's history to what happens to the job next."""

from __future__ import annotations

import random
from typing import Final, TypeAlias

import msgspec

from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from nightmill_worker.messages.outcome import (
    SUCCESS,
    Fail,
    Outcome,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
    Suspect,
    Unsuccessful,
)

BACKOFF_S: Final = 1.0  # wait after the first failed attempt; doubles with each
BACKOFF_MAX_S: Final = 60.0
SNOOZE_S: Final = (1.0, 2.0, 4.0)  # by the number of 429s in a row, the last one for all further
STOPPED_S: Final = 1.0  # jobs of a stopped account or lane are held back by it, not by this wait
JITTER: Final = (0.5, 1.5)  # factors, uniform
AWAY: Final = 20  # calls of a job that an outage leaves uncounted
REFUSALS: Final = 5  # 429s in a row of a job that is larger than the limit: it never fits


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The job ends: succeeded, or failed with `error`."""

    status: JobState
    error: ErrorInfo | None = None


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """The job goes back as `state` (retrying or snoozed) and is due again in `wait_ms`.

    `counted` says whether the attempt counts towards max_attempts.
    """

    state: JobState
    wait_ms: int
    counted: bool


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A job's calls so far, all numbers with the call that has just ended."""

    attempts: int
    """Counted ones."""
    refusals: int
    """429s in a row."""
    outages: int
    """Calls that found the endpoint away."""
    failed_ms: int
    """How long ago the first call failed, by Redis's clock, milliseconds; 0 for this one."""


NextStep: TypeAlias = End | Again


def next_step(  # noqa: PLR0913 - a rule over a history and three bounds
    outcome: Outcome,
    past: Past,
    *,
    excess: str,
    max_attempts: int,
    outage_ms: int,
    rng: random.Random,
) -> NextStep:
    """Decide what follows `outcome`.

    `excess` says by how much the job exceeds a known limit, "" when it does not. `outage_ms` is how
    long a job does not fail by its attempts, from its first failure on, milliseconds.
    """
    match outcome:
        case Succeeded():
            return End(status=JobState.SUCCEEDED)
        case Fail():
            return _failed(outcome.error)
        case StopAccount() | Suspect():
            return _release(outcome, JobState.SNOOZED, STOPPED_S, rng)
        case Snooze() if excess and past.refusals >= REFUSALS:
            return _failed(_exceeds_limit(outcome.error, past.refusals, excess))
        case Snooze():
            return _release(outcome, JobState.SNOOZED, snooze_s(past.refusals), rng)
        case Retry():
            lately = past.failed_ms < outage_ms
            return _tried(outcome, past, max_attempts, lately=lately, rng=rng)


def _tried(
    outcome: Retry, past: Past, max_attempts: int, *, lately: bool, rng: random.Random
) -> NextStep:
    """Try again in a short outage and while the job has attempts left, else end it.

    A 2xx that cannot be used may be paid, and is no outage: the attempts alone decide about it.
    """
    if lately and outcome.away and past.outages <= AWAY:
        wait_s = backoff_s(past.attempts - 1 + past.outages)
        return _release(outcome, JobState.SNOOZED, wait_s, rng)
    if past.attempts >= max_attempts and (outcome.status in SUCCESS or not lately):
        return _failed(_given_up(outcome.error, past.attempts))
    return _release(outcome, JobState.RETRYING, backoff_s(past.attempts), rng)


def snooze_s(refusals: int) -> float:
    """Return the wait before jitter after `refusals` 429s in a row, in seconds: 1, 2, 4, 4 .."""
    return SNOOZE_S[min(max(refusals, 1), len(SNOOZE_S)) - 1]


def backoff_s(attempts: int) -> float:
    """Return the wait before jitter after `attempts` counted ones, in seconds: 1, 2, 4 .. 60."""
    return min(BACKOFF_S * 2.0 ** (max(attempts, 1) - 1), BACKOFF_MAX_S)


def _release(outcome: Unsuccessful, state: JobState, wait_s: float, rng: random.Random) -> Again:
    """Give the job back after a jittered `wait_s`, but not before the endpoint's retry-after."""
    wait_s = max(wait_s * rng.uniform(*JITTER), outcome.retry_after_s or 0.0)
    counted = state is JobState.RETRYING
    return Again(state=state, wait_ms=round(wait_s * 1000), counted=counted)


def _failed(error: ErrorInfo) -> End:
    """End the job as failed."""
    return End(status=JobState.FAILED, error=error)


def _given_up(error: ErrorInfo, attempts: int) -> ErrorInfo:
    """Return the last error with the number of attempts in its message."""
    times = "attempt" if attempts == 1 else "attempts"
    return msgspec.structs.replace(error, message=f"{error.message} (after {attempts} {times})")


def _exceeds_limit(error: ErrorInfo, refusals: int, excess: str) -> ErrorInfo:
    """Say that this one request is larger than the limit, whatever else runs."""
    return ErrorInfo(
        type="exceeds_limit",
        message=f"refused {refusals} times in a row, and {excess}: {error.message}",
        fix="make the request smaller, or have the endpoint's rate limit raised",
    )
