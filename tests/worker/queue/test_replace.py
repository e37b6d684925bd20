"""A request that is replaced while its job is in flight: what each script does with it."""

from __future__ import annotations

import pytest

from nightmill.queue import keys, wire
from tests.worker.queue.desk import GOOD, Desk, finished, released

NEW = GOOD.replace(b'"max_tokens":5', b'"max_tokens":6')


def replace(desk: Desk, payload: bytes = NEW, model: str = "m", answered_as: str = "") -> bytes:
    """Replace the request of the job "b:1"."""
    script = desk.redis.register_script(wire.script("replace"))
    code: bytes = script(args=["b", "b:1", keys.batch_queue("b", model), payload, answered_as, ""])
    return code


def payload(desk: Desk) -> object:
    """Return the job's payload."""
    return desk.redis.get(keys.PAYLOAD + "b:1")


def counts(desk: Desk) -> dict[bytes, bytes]:
    """Return the batch's counts that are not 0."""
    found: dict[bytes, bytes] = desk.redis.execute_command("HGETALL", keys.BATCH + "b")
    return {name: value for name, value in found.items() if value != b"0"}


def test_a_claim_keeps_the_request_that_it_took(desk: Desk) -> None:
    """The claim came first: the new request waits in the record."""
    desk.enqueue("b:1")
    job = desk.claim()["b:1"]
    assert replace(desk) == b"2"
    assert payload(desk) == GOOD
    assert desk.finish([finished(job)]) == []
    assert payload(desk) == NEW
    assert counts(desk)[b"nanodollars"] == b"7", "the old call is paid for"
    assert b"succeeded" not in counts(desk)
    again = desk.claim()["b:1"]
    assert (again["verdict"], again["counts"]) == ("run", [0, 0, 0, 1])
    assert desk.finish([finished(again)]) == []
    assert (counts(desk)[b"succeeded"], counts(desk)[b"nanodollars"]) == (b"1", b"14")


@pytest.mark.parametrize("model", ["m", "other"])
def test_a_release_gives_back_the_new_request(desk: Desk, model: str) -> None:
    """A refused or failed call of the old request is not made again, and there is no wait."""
    desk.enqueue("b:1")
    job = desk.claim()["b:1"]
    assert replace(desk, model=model) == b"2"
    item = released(job, state="retrying", counted=1, wait_ms=60_000, attempt='{"n":1}')
    assert desk.send("release", [item]) == []
    assert (payload(desk), counts(desk)) == (NEW, {})
    again = desk.claim()["b:1"]
    assert (again["model"], again["counts"]) == (model, [0, 0, 0, 2])


def test_a_job_whose_worker_died_gets_the_new_request(desk: Desk) -> None:
    """The lost call stays in its history."""
    desk.enqueue("b:1")
    desk.claim()
    assert replace(desk) == b"2"
    desk.redis.delete(keys.IN_PROGRESS + "b:1")
    desk.redis.zadd(keys.batch_queue("b", "m"), {"b:1": 1})
    assert desk.claim() == {}
    assert counts(desk) == {}
    assert desk.claim()["b:1"]["verdict"] == "run"
    assert payload(desk) == NEW
    assert desk.redis.llen(keys.ATTEMPTS + "b:1") == 1


def test_a_waiting_job_has_all_its_attempts_again(desk: Desk) -> None:
    """Refusals and failures of the old request say nothing about the new one."""
    desk.enqueue("b:1")
    item = released(desk.claim()["b:1"], state="retrying", counted=1, wait_ms=60_000)
    desk.send("release", [item])
    desk.redis.hset(keys.RECORD + "b:1", mapping={"judged": 1, "refused_at": 5, "deaths": 2})
    assert replace(desk) == b"1"
    again = desk.claim()["b:1"]
    assert (again["verdict"], again["counts"][:2]) == ("run", [0, 0])
    assert counts(desk) == {b"in_flight": b"1"}


def test_a_cancelled_job_does_not_run_again(desk: Desk) -> None:
    """A person ended it, or the whole batch, after the replacement."""
    desk.enqueue("b:1")
    job = desk.claim()["b:1"]
    replace(desk)
    assert desk.finish([finished(job, status="cancelled")]) == []
    assert (payload(desk), counts(desk)[b"cancelled"]) == (None, b"1")
    desk.enqueue("b:2")
    job = desk.claim()["b:2"]
    desk.redis.hset(keys.RECORD + "b:2", mapping={"next": NEW, "next_queue": job["queue"]})
    desk.redis.hset(keys.BATCH + "b", "flag", "cancelled")
    assert desk.finish([finished(job)]) == []
    assert counts(desk)[b"succeeded"] == b"1"
    assert replace(desk) == b"cancelled"


def test_a_job_that_is_gone_is_not_made_anew(desk: Desk) -> None:
    """Its row is there by now: the feeder enqueues its next run."""
    assert replace(desk) == b"0"
    assert payload(desk) is None


def test_a_job_whose_row_answers_the_new_request_is_taken_out(desk: Desk) -> None:
    """Its row counts again, and nothing of it is left."""
    desk.enqueue("b:1")
    assert replace(desk, answered_as="succeeded") == b"3"
    assert (payload(desk), counts(desk)) == (None, {b"succeeded": b"1"})
    assert desk.claim() == {}


def test_a_late_answer_is_paid_for_as_well(desk: Desk) -> None:
    """Its worker was slow, and another one has claimed the job: both calls were made."""
    desk.enqueue("b:1")
    slow = desk.claim()["b:1"]
    desk.redis.delete(keys.IN_PROGRESS + "b:1")
    desk.redis.zadd(keys.batch_queue("b", "m"), {"b:1": 1})
    other = desk.claim()["b:1"]
    assert desk.finish([finished(slow)]) == [b"b:1"]
    assert (counts(desk)[b"nanodollars"], counts(desk)[b"in_flight"]) == (b"7", b"1")
    assert desk.finish([finished(other)]) == []
    assert (counts(desk)[b"nanodollars"], counts(desk)[b"succeeded"]) == (b"14", b"1")
    assert counts(desk)[b"answers"] == b"2"


def test_a_late_answer_whose_row_is_found_is_counted_once(desk: Desk) -> None:
    """The other worker finds the row of the late answer, and makes no call."""
    desk.enqueue("b:1")
    slow = desk.claim()["b:1"]
    desk.redis.delete(keys.IN_PROGRESS + "b:1")
    desk.redis.zadd(keys.batch_queue("b", "m"), {"b:1": 1})
    other = desk.claim()["b:1"]
    desk.finish([finished(slow)])
    assert desk.finish([finished(other, again=1)]) == []
    assert (counts(desk)[b"nanodollars"], counts(desk)[b"succeeded"]) == (b"7", b"1")
    assert desk.finish([finished(other)]) == [b"b:1"], "sent again: its answer was lost"
    assert counts(desk)[b"nanodollars"] == b"7"
