"""Unexpected exceptions of jobs: one job's, or the whole deployment's."""

from __future__ import annotations

from nightmill_worker.jobs.defects import HOLD_S, Defects


def raised(error: Exception) -> Exception:
    """Return `error` with a traceback, from the same place each time."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_the_same_exception_on_three_jobs_holds_the_claims() -> None:
    """A broken deployment must not fail a million jobs: none of the three fails."""
    defects = Defects(max_attempts=5)
    for job in "abc":
        assert defects.claimable(100, 0, 0.0) == 100
        assert not defects.found(job, raised(TypeError(job)), 0, 0.0).fail
    assert "TypeError" in defects.problem
    assert defects.claimable(100, 0, 0.0) == 0
    assert defects.claimable(100, 0, HOLD_S[0]) == 1
    assert defects.claimable(100, 1, HOLD_S[0]) == 0


def test_a_hold_gets_longer_and_ends_when_a_job_passes() -> None:
    """The one job on trial met it again: the next trial waits twice as long."""
    defects = Defects(max_attempts=5)
    for job in "abcc":
        defects.found(job, raised(TypeError()), 0, 0.0)
    assert defects.retry_at == 2 * HOLD_S[0]
    defects.passed()
    assert defects.claimable(100, 5, 0.0) == 100


def test_a_job_fails_only_while_others_pass() -> None:
    """It met an exception three times, and other jobs got through meanwhile."""
    defects = Defects(max_attempts=5)
    assert not defects.found("bad", raised(TypeError()), 0, 0.0).fail
    assert not defects.found("bad", raised(TypeError()), 2, 0.0).fail
    defects.passed()
    assert not defects.found("bad", raised(TypeError()), 1, 0.0).fail
    assert defects.found("bad", raised(TypeError()), 2, 0.0).fail


def test_a_job_without_others_fails_in_the_end() -> None:
    """A batch of one job must end, too."""
    assert Defects(max_attempts=5).found("only", raised(TypeError()), 4, 0.0).fail


def test_waits_double_up_to_a_minute() -> None:
    """Whatever is wrong may pass."""
    defects = Defects(max_attempts=1000)
    waits = [defects.found("a", raised(TypeError()), n, 0.0).wait_ms for n in (0, 1, 2, 500)]
    assert waits == [1000, 2000, 4000, 60_000]
