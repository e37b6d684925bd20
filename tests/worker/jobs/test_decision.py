"""One decision from each answer, also from an answer that nightmill cannot interpret."""

from __future__ import annotations

import random

import msgspec
import pytest

from nightmill import load_settings
from nightmill.enqueue.prepare import defaults_of
from nightmill.queue.wire import encode_job
from nightmill.records.job import Job, now_ms
from nightmill.records.result import Attempt
from nightmill.records.state import JobState
from nightmill_worker.events import JobFaulted
from nightmill_worker.jobs import claimed_job
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.jobs.decision import INTERNAL, Answered, Decider
from nightmill_worker.jobs.defects import Verdict
from nightmill_worker.messages.outcome import Reply
from nightmill_worker.queue.records import GrantedJob

DAY_MS = 86_400_000
MESSAGE = (
    b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text",'
    b'"text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}'
)


def claimed(text: str = "hi", **changed: object) -> ClaimedJob:
    """Return a job as a claim grants it; `changed` are fields of the grant that differ."""
    params = {"messages": [{"role": "user", "content": text}], "max_tokens": 5, "model": "m"}
    job = Job(params=msgspec.Raw(msgspec.json.encode(params)), batch="b", custom_id="c")
    granted = GrantedJob(
        id="b:c",
        token="t",  # noqa: S106 - the token of a lease, no secret
        payload=encode_job(job, now_ms()),
        queue="q",
        model="m",
        lane="m",
        counted=0,
        refusals=0,
        snoozes=0,
        calls=1,
        verdict="run",
        reservation=b'{"at":1,"guess":{"requests":1,"input":30.5,"output":200}}',
        attempts=b"[]",
        cut=b"",
        claimed_at=now_ms(),
    )
    granted = msgspec.structs.replace(granted, **changed)
    return ClaimedJob(granted, "w", "account", defaults_of(load_settings()))


def decider() -> Decider:
    """Return a decider of one process."""
    return Decider(load_settings(), random.Random(0))


def test_an_answer_becomes_a_row_and_a_settlement() -> None:
    """One value says all that Redis and the store must learn."""
    job = claimed()
    job.end()
    decision = decider().after_call(Answered(job, Reply(status=200, body=MESSAGE)), 0.0)
    assert decision.settlement.outcome == "ok"
    assert decision.release is None
    assert decision.ending is not None
    assert decision.ending.row is not None
    assert decision.ending.row.status is JobState.SUCCEEDED
    assert decision.ending.finish.status == "succeeded"


def test_an_answer_without_usage_is_charged_what_was_reserved() -> None:
    """It succeeded and was paid; a budget or a bucket must not take it for free."""
    body = MESSAGE.replace(b'{"input_tokens":1,"output_tokens":2}', b"null")
    decision = decider().after_call(Answered(claimed(), Reply(status=200, body=body)), 0.0)
    assert (decision.settlement.input, decision.settlement.output) == (30, 200)
    assert decision.ending is not None
    row, finish = decision.ending.row, decision.ending.finish
    assert row is not None
    assert (row.status, row.usage_unknown) == (JobState.SUCCEEDED, True)
    assert (row.usage.input_tokens, row.usage.output_tokens) == (0, 0)
    assert (finish.input, finish.output) == (30, 200)


@pytest.mark.parametrize("named", [b"", b'"model":"",', b'"model":null,'])
def test_an_answer_that_names_no_model_is_priced_by_the_one_that_was_asked(named: bytes) -> None:
    """Some gateways leave it out: the row had model "" and no cost, so no budget held."""
    body = MESSAGE.replace(b'"model":"m",', named)
    job = claimed(model="claude-opus-4-6")
    decision = decider().after_call(Answered(job, Reply(status=200, body=body)), 0.0)
    assert decision.ending is not None
    row = decision.ending.row
    assert row is not None
    assert row.model == "claude-opus-4-6"
    assert row.cost


def test_an_answer_that_raises_is_stored_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is paid for: a second call would be paid again."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("nightmill_worker.jobs.decision.classify", broken)
    reply = Reply(status=200, body=b"\xff" + MESSAGE)
    decision = decider().after_call(Answered(claimed(), reply), 0.0)
    assert decision.release is None
    assert decision.ending is not None
    row = decision.ending.row
    assert row is not None
    assert row.error is not None
    assert (row.status, row.error.type) == (JobState.FAILED, INTERNAL)
    assert "ZeroDivisionError: a defect" in row.error.message
    assert row.message is not None
    assert MESSAGE.decode() in msgspec.json.decode(bytes(row.message))
    assert isinstance(decision.event, JobFaulted)
    assert "in broken" in decision.event.traceback


@pytest.mark.parametrize("step", [DAY_MS, -DAY_MS])
def test_a_clock_step_does_not_change_how_long_a_call_took(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fleet's pace follows the duration: a day of it throttled 650 calls/s to 0.1 for good."""
    job = claimed()
    monkeypatch.setattr(claimed_job, "now_ms", lambda: now_ms() + step)
    job.end()
    decision = decider().after_call(Answered(job, Reply(status=200, body=MESSAGE)), 0.0)
    assert 0 <= decision.settlement.latency_ms < 60_000
    assert decision.ending is not None
    assert decision.ending.row is not None
    assert 0 <= decision.ending.row.call_ms < 60_000


@pytest.mark.parametrize("fail", [False, True])
def test_a_job_under_which_nightmill_raised_goes_back_or_fails(*, fail: bool) -> None:
    """An attempt says why, uncounted: the job did nothing wrong as far as is known."""
    job = claimed()
    verdict = Verdict(fail=fail, wait_ms=1000)
    decision = decider().faulted(job, TypeError("a defect"), verdict)
    assert decision.settlement.outcome == "unsent"
    if fail:
        assert decision.ending is not None
        assert decision.ending.row is not None
        assert decision.ending.row.error is not None
        assert decision.ending.row.error.type == INTERNAL
    else:
        assert decision.release is not None
        assert (decision.release.wait_ms, decision.release.counted) == (1000, 0)
        assert INTERNAL in decision.release.attempt


CREDIT = b'{"error":{"type":"invalid_request_error","message":"Your Credit Balance is too low"}}'


@pytest.mark.parametrize(
    ("status", "body", "text", "kind", "own"),
    [
        (403, b"<html>Blocked</html>", "hi", "403 text", True),
        (302, b"", "hi", "302 text", True),
        (400, CREDIT, "hi", "400 invalid_request_error", False),
        (400, CREDIT, "my credit balance", "400 invalid_request_error", True),
    ],
)
def test_a_suspect_refusal_goes_back_uncounted_and_names_its_job(
    status: int, body: bytes, text: str, kind: str, *, own: bool
) -> None:
    """Words about money may be the request's own only when the request has them."""
    decision = decider().after_call(Answered(claimed(text), Reply(status=status, body=body)), 0.0)
    settled, release = decision.settlement, decision.release
    assert (settled.outcome, settled.job, settled.kind, settled.own) == (
        "suspect",
        "b:c",
        kind,
        own,
    )
    assert decision.ending is None
    assert release is not None
    assert (release.state, release.counted, release.refused) == ("snoozed", 0, 0)


@pytest.mark.parametrize("kind", ["permission_error", "model_not_allowed"])
def test_a_refusal_inside_a_200_is_kept_when_its_job_fails(kind: str) -> None:
    """Its text was lost, and a 429 that came later stood in its place."""
    refusal = Attempt(
        n=1,
        started_at=1,
        outcome="snoozed",
        counted=False,
        status=200,
        error_type=kind,
        error_message="not this prompt",
    )
    others = [
        msgspec.structs.replace(refusal, n=2, error_type="overloaded_error", error_message="busy"),
        msgspec.structs.replace(refusal, n=3, status=429, error_type="rate_limit_error"),
        msgspec.structs.replace(refusal, n=4, counted=True, error_type="invalid_response"),
    ]
    past = msgspec.json.encode([refusal, *others])
    decision = decider().before_call(claimed(verdict="refused", attempts=past, calls=5))
    assert decision is not None
    assert decision.ending is not None
    row = decision.ending.row
    assert row is not None
    assert row.error is not None
    assert (row.error.type, row.error.message) == (kind, "not this prompt")


@pytest.mark.parametrize("attempts", ["with it", "unreadable"])
def test_a_job_that_was_refused_alone_fails_with_the_refusal(attempts: str) -> None:
    """No other call is made; attempts that nightmill cannot read do not keep it from ending."""
    refusal = Attempt(
        n=1,
        started_at=1,
        outcome="snoozed",
        counted=False,
        status=403,
        error_type="permission_error",
        error_message="<html>Blocked</html>",
        request_id="req_1",
    )
    lost = Attempt(n=2, started_at=2, outcome="lost", counted=False)
    past = msgspec.json.encode([refusal, lost]) if attempts == "with it" else b"["
    job = claimed(verdict="refused", attempts=past, calls=3)
    decision = decider().before_call(job)
    assert decision is not None
    assert decision.ending is not None
    assert decision.settlement.outcome == "unsent"
    row = decision.ending.row
    assert row is not None
    assert row.error is not None
    assert (row.status, row.error.type) == (JobState.FAILED, "permission_error")
    assert "requeue" in (row.error.fix or "")
    if attempts == "with it":
        assert row.error.message == "<html>Blocked</html>"
        assert (row.attempt_count, row.snooze_count) == (0, 2)


def test_a_job_keeps_the_request_id_of_its_last_call() -> None:
    """It ends without another call, and its id is what the endpoint's support asks for."""
    refusal = Attempt(n=1, started_at=1, outcome="snoozed", counted=False, request_id="req_1")
    job = claimed(verdict="refused", attempts=msgspec.json.encode([refusal]), calls=2)
    decision = decider().before_call(job)
    assert decision is not None
    assert decision.ending is not None
    assert decision.ending.row is not None
    assert decision.ending.row.request_id == "req_1"


def test_a_call_that_found_the_endpoint_overloaded_is_left_uncounted() -> None:
    """The release says that it failed, so that Redis notes the time of the first failure."""
    job = claimed()
    job.end()
    release = decider().after_call(Answered(job, Reply(status=503)), 0.0).release
    assert release is not None
    assert (release.state, release.counted, release.failed, release.refused) == ("snoozed", 0, 1, 0)


@pytest.mark.parametrize(("failed_at", "state"), [(-119_000, "retrying"), (-120_000, ""), (9, "")])
def test_the_first_failure_is_timed_by_the_clock_of_redis(failed_at: int, state: str) -> None:
    """Workers' clocks differ. A time that is still to come is of a clock that went back."""
    job = claimed(counted=4, claimed_at=10**12, failed_at=10**12 + failed_at)
    job.end()
    decision = decider().after_call(Answered(job, Reply(status=500)), 0.0)
    assert (decision.release.state if decision.release else "") == state


def test_a_job_of_an_older_worker_fails_by_its_attempts() -> None:
    """Its record has no time of the first failure: it must not be called for ever."""
    job = claimed(counted=4)
    job.end()
    assert decider().after_call(Answered(job, Reply(status=500)), 0.0).ending is not None
