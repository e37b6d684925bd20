"""finish.lua and enqueue.lua count the stop reasons of a batch, each answer once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nightmill.queue import keys, wire
from nightmill.records.counts import read_counts
from nightmill.records.stop_reasons import MOST
from tests.worker.queue.desk import finished

if TYPE_CHECKING:
    from tests.worker.queue.desk import Desk


def stops(desk: Desk) -> dict[str, int]:
    """Return the counts of the batch "b"."""
    (found,) = desk.redis.register_script(wire.script("counts"))(args=["b"])
    return read_counts(*found).stop_reasons


def claimed(desk: Desk, *ids: str) -> list[dict[str, Any]]:
    """Enqueue and claim jobs."""
    for job_id in ids:
        desk.enqueue(job_id)
    return list(desk.claim(len(ids)).values())


def test_every_stop_reason_is_counted_by_name(desk: Desk) -> None:
    """Also one that is not known here; a job that failed has none."""
    jobs = claimed(desk, "w", "x", "y", "z")
    given = ("max_tokens", "max_tokens", "brand_new", "")
    items = [finished(job, stop=stop) for job, stop in zip(jobs, given, strict=True)]
    assert desk.finish(items) == []
    assert stops(desk) == {"max_tokens": 2, "brand_new": 1}


def test_an_answer_is_counted_once(desk: Desk) -> None:
    """A job whose row was stored by an earlier call was counted then."""
    (job,) = claimed(desk, "x")
    assert desk.finish([finished(job, stop="refusal", again=1)]) == []
    assert desk.finish([finished(job, stop="refusal")]) == [b"x"]
    assert stops(desk) == {}


@pytest.mark.parametrize("odd", [None, 7, {}, ["x"]])
def test_an_odd_stop_reason_does_not_fail_the_others(desk: Desk, odd: object) -> None:
    """Another version may send something else."""
    first, second = claimed(desk, "x", "y")
    assert desk.finish([finished(first, stop=odd), finished(second, stop="end_turn")]) == []
    assert stops(desk) == {"end_turn": 1}


def test_a_batch_counts_a_limited_number_of_names(desk: Desk) -> None:
    """`status` reads the whole hash: an endpoint that makes names up must not fill it."""
    for part in range(3):
        jobs = claimed(desk, *(f"{part}-{n}" for n in range(20)))
        desk.finish([finished(job, stop=f"name-{job['id']}") for job in jobs])
    found = stops(desk)
    assert len(found) == MOST + 1
    assert found["other"] == 60 - MOST


@pytest.mark.parametrize("name", ["max_tokens", "never_counted"])
def test_a_job_that_runs_again_leaves_its_stop_reason(desk: Desk, name: str) -> None:
    """A replaced answer is not counted twice; a name that is not known was counted as other."""
    (job,) = claimed(desk, "b:x")
    desk.finish([finished(job, stop="max_tokens")])
    desk.redis.hset(keys.BATCH + "b", "stop:other", "1")
    enqueue = desk.redis.register_script(wire.script("enqueue"))
    enqueue(args=[keys.batch_queue("b", "m"), "b", 0, 1, "succeeded", name, "b:x", b"{}"])
    left = ["other" if name == "max_tokens" else "max_tokens"]
    assert stops(desk) == dict.fromkeys(left, 1)
    assert desk.field(keys.BATCH + "b", "succeeded") == b"0"
