"""The retry rule, with its randomness seeded."""

from __future__ import annotations

import random

import pytest

from nightmill.records.result import ErrorInfo, Usage
from nightmill.records.state import JobState
from nightmill_worker.jobs.retry import AWAY, Again, End, NextStep, Past, next_step
from nightmill_worker.messages.outcome import (
    Fail,
    Outcome,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
    Suspect,
)

ERROR = ErrorInfo(type="api_error", message="oops", fix="wait")


OUTAGE_MS = 120_000


def decided(  # noqa: PLR0913 - a history
    outcome: Outcome,
    *,
    attempts: int = 1,
    refusals: int = 0,
    outages: int = 1,
    failed_ms: int = OUTAGE_MS,
    excess: str = "",
    seed: int = 0,
) -> NextStep:
    """Decide after one attempt of five, the first one long ago, unless a test says otherwise."""
    return next_step(
        outcome,
        Past(attempts=attempts, refusals=refusals, outages=outages, failed_ms=failed_ms),
        excess=excess,
        max_attempts=5,
        outage_ms=OUTAGE_MS,
        rng=random.Random(seed),
    )


def waits(
    outcome: Outcome,
    *,
    attempts: int = 1,
    refusals: int = 0,
    outages: int = 1,
    failed_ms: int = OUTAGE_MS,
) -> list[float]:
    """Return the waits, in seconds, that 200 seeds give a job with attempts to spare."""
    found = []
    for seed in range(200):
        rng = random.Random(seed)
        decision = next_step(
            outcome,
            Past(attempts=attempts, refusals=refusals, outages=outages, failed_ms=failed_ms),
            excess="",
            max_attempts=100,
            outage_ms=OUTAGE_MS,
            rng=rng,
        )
        assert isinstance(decision, Again)
        found.append(decision.wait_ms / 1000)
    return found


def test_a_success_is_stored() -> None:
    """Nothing else happens to it."""
    outcome = Succeeded(message=b"{}", usage=Usage(), model="m")
    assert decided(outcome) == End(status=JobState.SUCCEEDED)


def test_a_wrong_request_fails_at_once_with_its_fix() -> None:
    """A second try would be paid for without use."""
    assert decided(Fail(error=ERROR)) == End(status=JobState.FAILED, error=ERROR)


@pytest.mark.parametrize(
    ("attempts", "base_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (99, 60)]
)
def test_backoff_doubles_up_to_a_minute_with_jitter(attempts: int, base_s: float) -> None:
    """Jitter of half to one and a half keeps a fleet from coming back in step."""
    found = waits(Retry(error=ERROR), attempts=attempts)
    assert 0.5 * base_s <= min(found) < 0.6 * base_s
    assert 1.4 * base_s < max(found) <= 1.5 * base_s


@pytest.mark.parametrize(("refusals", "base_s"), [(0, 1), (1, 1), (2, 2), (3, 4), (40, 4)])
def test_a_snooze_waits_one_two_four_seconds(refusals: int, base_s: float) -> None:
    """The lane regulates the rate; the wait only spreads the refused jobs."""
    found = waits(Snooze(error=ERROR), refusals=refusals)
    assert 0.5 * base_s <= min(found) < 0.6 * base_s
    assert 1.4 * base_s < max(found) <= 1.5 * base_s


@pytest.mark.parametrize("kind", [Retry, Snooze, StopAccount, Suspect])
def test_retry_after_is_a_lower_bound(kind: type[Retry | Snooze | StopAccount | Suspect]) -> None:
    """A call before that time is refused for certain; 0 asks for nothing."""
    assert min(waits(kind(error=ERROR, retry_after_s=30.5), refusals=1)) == 30.5
    assert min(waits(kind(error=ERROR, retry_after_s=0.0), refusals=1)) >= 0.5


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Retry(error=ERROR), JobState.RETRYING),
        (Snooze(error=ERROR), JobState.SNOOZED),
        (StopAccount(error=ERROR), JobState.SNOOZED),
        (Suspect(error=ERROR, kind="403 text"), JobState.SNOOZED),
    ],
)
def test_only_failed_attempts_count(outcome: Outcome, state: JobState) -> None:
    """A refusal or a stopped account is not the job's fault."""
    decision = decided(outcome, refusals=1)
    assert isinstance(decision, Again)
    assert (decision.state, decision.counted) == (state, state is JobState.RETRYING)


def test_the_last_attempt_fails_with_its_error_and_the_count() -> None:
    """The stored result has the last error and the number of attempts."""
    decision = decided(Retry(error=ERROR), attempts=5)
    error = ErrorInfo(type="api_error", message="oops (after 5 attempts)", fix="wait")
    assert decision == End(status=JobState.FAILED, error=error)


def test_refusals_and_stopped_accounts_never_use_up_a_job() -> None:
    """However long a limit lasts, every job is kept."""
    for outcome in (Snooze(error=ERROR), StopAccount(error=ERROR), Suspect(error=ERROR)):
        assert isinstance(decided(outcome, attempts=9, refusals=100), Again)


def test_five_refusals_of_a_job_that_exceeds_a_known_limit_mean_that_it_never_fits() -> None:
    """However many calls others make, a bucket never holds more than its limit."""
    refused, excess = Snooze(error=ERROR), "it has more than 200 input tokens, the limit is 100"
    assert isinstance(decided(refused, refusals=4, excess=excess), Again)
    decision = decided(refused, refusals=5, excess=excess)
    assert isinstance(decision, End)
    assert decision.status is JobState.FAILED
    assert decision.error is not None
    assert decision.error.type == "exceeds_limit"
    assert excess in decision.error.message
    assert "oops" in decision.error.message


AWAY_NOW = Retry(error=ERROR, status=503, away=True)


@pytest.mark.parametrize("status", [None, 408, 500, 502, 504])
def test_no_job_fails_by_attempts_in_a_short_outage(status: int | None) -> None:
    """A single job was failed after 16 s of outage, while 200 jobs outlasted a minute of it."""
    outcome = Retry(error=ERROR, status=status)
    early = decided(outcome, attempts=9, failed_ms=OUTAGE_MS - 1)
    assert isinstance(early, Again)
    assert (early.state, early.counted) == (JobState.RETRYING, True)
    assert isinstance(decided(outcome, attempts=9, failed_ms=OUTAGE_MS), End)
    assert isinstance(decided(outcome, attempts=4, failed_ms=OUTAGE_MS), Again)


def test_an_answer_that_may_be_paid_is_not_repeated_for_two_minutes() -> None:
    """A 2xx that cannot be used is no outage; each further call may be paid for."""
    assert isinstance(decided(Retry(error=ERROR, status=200), attempts=5, failed_ms=1), End)


def test_a_call_that_found_the_endpoint_away_does_not_count_for_two_minutes() -> None:
    """Nothing was paid, and the job is not the cause."""
    early = decided(AWAY_NOW, attempts=5, outages=7, failed_ms=OUTAGE_MS - 1)
    assert isinstance(early, Again)
    assert (early.state, early.counted) == (JobState.SNOOZED, False)
    assert isinstance(decided(AWAY_NOW, attempts=5, outages=7), End)
    later = decided(AWAY_NOW, attempts=1, outages=7)
    assert isinstance(later, Again)
    assert later.counted


def test_at_most_twenty_calls_of_a_job_are_left_uncounted() -> None:
    """A clock that stands still must not call for ever."""
    last = decided(AWAY_NOW, outages=AWAY, failed_ms=1)
    assert isinstance(last, Again)
    assert not last.counted
    counted = decided(AWAY_NOW, outages=AWAY + 1, failed_ms=1)
    assert isinstance(counted, Again)
    assert counted.counted


@pytest.mark.parametrize(("attempts", "outages", "base_s"), [(1, 1, 1), (1, 3, 4), (3, 2, 8)])
def test_the_backoff_of_an_outage_goes_by_all_failures(
    attempts: int, outages: int, base_s: float
) -> None:
    """An endpoint that is away is not called every second."""
    found = waits(AWAY_NOW, attempts=attempts, outages=outages, failed_ms=1)
    assert 0.5 * base_s <= min(found) < 0.6 * base_s
    assert 1.4 * base_s < max(found) <= 1.5 * base_s
