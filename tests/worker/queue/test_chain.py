"""What a chain of calls counts in Redis, where its job waits, and jobs of a batch that is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.queue import keys
from tests.worker.queue.desk import GOOD, finished, released
from tests.worker.queue.test_replace import counts

if TYPE_CHECKING:
    from tests.worker.queue.desk import Desk


def test_a_chain_counts_what_it_used_once(desk: Desk) -> None:
    """A turn counts when its job is released; the finish counts the rest of the whole run."""
    desk.enqueue("b:1")
    used = {"chain": 1, "input": 10, "output": 3, "cost": 70}
    desk.send("release", [released(desk.claim()["b:1"], **used, attempt='{"n":1}')])
    found = counts(desk)
    assert found[b"snoozed"] == b"1"
    assert (found[b"input_tokens"], found[b"output_tokens"]) == (b"10", b"3")
    again = desk.claim()["b:1"]
    assert desk.finish([finished(again, input=30, output=9, cost=200)]) == []
    found = counts(desk)
    assert (found[b"input_tokens"], found[b"output_tokens"]) == (b"30", b"9")
    assert found[b"nanodollars"] == b"200"
    assert b"unpriced" not in found


def test_a_turn_whose_release_was_lost_is_counted_by_the_finish(desk: Desk) -> None:
    """Its worker died between the commit and the release."""
    desk.enqueue("b:1")
    desk.claim()
    desk.redis.delete(keys.IN_PROGRESS + "b:1")
    desk.redis.zadd(keys.batch_queue("b", "m"), {"b:1": 1})
    again = desk.claim()["b:1"]
    assert desk.finish([finished(again, input=30, output=9, cost=-1)]) == []
    found = counts(desk)
    assert (found[b"input_tokens"], found[b"unpriced"]) == (b"30", b"1")


def test_a_job_goes_to_the_queue_of_another_model(desk: Desk) -> None:
    """Its next call is held to that model's limits, with its payload as it was."""
    desk.enqueue("b:1")
    other = keys.batch_queue("b", "other")
    desk.send("release", [released(desk.claim()["b:1"], chain=1, to=other, attempt='{"n":1}')])
    job = desk.claim()["b:1"]
    assert (job["queue"], job["model"]) == (other, "other")
    assert desk.redis.get(keys.PAYLOAD + "b:1") == GOOD
    assert desk.redis.zcard(keys.batch_queue("b", "m")) == 0


def test_a_single_job_goes_to_the_single_jobs_of_another_model(desk: Desk) -> None:
    """The shared queue's payload names the first model."""
    desk.enqueue("one", batch="")
    other = f"{keys.QUEUE}::other"
    desk.send("release", [released(desk.claim()["one"], chain=1, to=other, attempt='{"n":1}')])
    job = desk.claim()["one"]
    assert (job["queue"], job["model"]) == (other, "other")


def test_a_full_batch_goes_on_when_its_workers_have_died(desk: Desk) -> None:
    """The jobs of dead workers filled its concurrency, and no worker claimed them ever again."""
    desk.redis.hset(keys.BATCH + "b", "limits", '{"concurrency":1}')
    desk.enqueue("b:1")
    desk.enqueue("b:2")
    assert list(desk.claim()) == ["b:1"]
    assert desk.claim() == {}
    desk.redis.delete(keys.IN_PROGRESS + "b:1")
    desk.redis.zadd(keys.batch_queue("b", "m"), {"b:1": 1})
    assert list(desk.claim()) == ["b:1"]
    assert counts(desk)[b"in_flight"] == b"1"
