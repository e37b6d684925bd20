"""A corrected prompt: jobs that are queued or in flight are compared as stored rows are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nightmill.enqueue.changes import Changed, Changes, cause_of
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.errors import BatchChangedError
from nightmill.maintenance.verify import verify
from nightmill.params import Defaults, check
from nightmill.queue import keys, wire
from nightmill.queue.batches import Batches
from nightmill.sources import Line
from nightmill_worker.simulator import SimulatorConfig
from tests.rig import Rig, hello, rigged, until

DEFAULTS = Defaults(model="model", max_tokens=50, max_payload_bytes=1 << 20)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def lines(number: int, text: str, **fields: object) -> Iterator[Line]:
    """Yield `number` lines with the same ids and a prompt of `text`."""
    for i in range(1, number + 1):
        messages = [{"role": "user", "content": f"{text} {i}"}]
        checked = check({"messages": messages, **fields}, DEFAULTS)
        yield Line(number=i, custom_id=f"c{i}", body=checked.body, model=checked.model)


def feeder(rig: Rig, changed: Changed | None = None) -> Feeder:
    """Return a feeder of the batch "night"."""
    return Feeder("night", rig.producer, Batches(rig.redis), rig.store, changed)


async def fed(rig: Rig, source: Iterator[Line], changed: Changed | None = None) -> Fed:
    """Feed `source` with a feeder of its own."""
    async with feeder(rig, changed) as one:
        return await one.feed(source)


async def prompts(rig: Rig) -> list[str]:
    """Return the requests that have rows, each as the first word of its prompt."""
    found = []
    async for row in rig.store.stream("night", ordered=True):
        body = bytes(row.params or b"").decode()
        found.append(next(word for word in ("old", "new", "third") if f'"{word} ' in body))
    return found


async def test_a_queued_job_with_another_request_is_refused_before_anything_is_fed(
    rig: Rig,
) -> None:
    """Enqueued with prompt A, run with prompt B: 40 answers to A, and exit code 0."""
    await fed(rig, lines(40, "old"))
    async with feeder(rig) as one:
        with pytest.raises(BatchChangedError) as refused:
            await one.check([*lines(40, "new"), *lines(41, "new")])
    text = str(refused.value)
    for part in ('line 1: "c1" is queued in batch "night" with another request', "80 such jobs"):
        assert part in text
    for choice in ("--changed rerun", "--changed keep", "--batch NAME"):
        assert choice in text
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.total) == (40, 40)
    with pytest.raises(BatchChangedError, match="c1"):
        await fed(rig, lines(40, "new"))


async def test_rerun_replaces_queued_requests(rig: Rig) -> None:
    """Also those whose new request has another model, which is another queue."""
    await fed(rig, lines(3, "old"))
    assert await fed(rig, lines(3, "new", model="other"), "rerun") == Fed(
        queued_already=3, changed=3
    )
    assert await rig.redis.zcard(keys.batch_queue("night", "other")) == 3
    assert not await rig.redis.zcard(keys.batch_queue("night", "model"))
    await rig.work_off()
    assert await prompts(rig) == ["new"] * 3
    counts = await Batches(rig.redis).counts("night")
    assert (rig.calls(), counts.succeeded, counts.drained, counts.done) == (3, 3, True, True)
    assert await fed(rig, lines(3, "new", model="other")) == Fed(stored_already=3)


async def test_keep_leaves_queued_requests(rig: Rig) -> None:
    """The old request runs, and new lines are fed."""
    await fed(rig, lines(3, "old"))
    assert await fed(rig, lines(4, "new"), "keep") == Fed(new=1, queued_already=3, changed=3)
    await rig.work_off()
    assert await prompts(rig) == ["old"] * 3 + ["new"]


async def test_the_producer_says_so_too(rig: Rig) -> None:
    """`Producer.feed(changed=...)` has the same three choices as the command line."""
    await rig.producer.feed([{"custom_id": "c1", "prompt": "old 1"}], batch="night")
    rows = [{"custom_id": "c1", "prompt": "new 1"}]
    with pytest.raises(BatchChangedError, match='"c1" is queued in batch "night"'):
        await rig.producer.feed(rows, batch="night")
    await rig.producer.feed(rows, batch="night", changed="rerun")
    await rig.work_off()
    assert await prompts(rig) == ["new"]


async def test_a_receipt_says_that_the_queued_job_has_another_request(rig: Rig) -> None:
    """`enqueue` of an id that is queued said only that it is queued: the old request ran."""
    old = await rig.producer.enqueue(hello("old"), job_id="one")
    same = await rig.producer.enqueue(hello("old"), job_id="one")
    other = await rig.producer.enqueue(hello("new"), job_id="one")
    assert [(each.new, each.differs) for each in (old, same, other)] == [
        (True, False),
        (False, False),
        (False, True),
    ]


async def test_a_job_in_flight_runs_again_when_its_call_has_ended(
    redis_url: str, tmp_path: Path
) -> None:
    """Each request is called once, the row is that of the new one, and all counts add up."""
    async with rigged(redis_url, tmp_path, SimulatorConfig(latency_s=0.5)) as rig:
        batches = Batches(rig.redis)
        await fed(rig, lines(2, "old"))

        async def in_flight() -> bool:
            return (await batches.counts("night")).in_flight == 2

        async with rig.working():
            await until(in_flight)
            with pytest.raises(BatchChangedError, match='"c1" is in flight in batch'):
                await fed(rig, lines(2, "new"))
            assert (await fed(rig, lines(2, "new"), "rerun")).changed == 2
            assert (await fed(rig, lines(2, "new"))).queued_already == 2, "it is asked for by now"
            await until(lambda: _is_done(batches))
        counts = await batches.counts("night")
        assert await prompts(rig) == ["new"] * 2
        assert (rig.calls(), counts.succeeded, counts.failed, counts.retrying) == (4, 2, 0, 0)
        assert (await verify("night", rig.store, batches, lines(2, "new"))).holds


async def _is_done(batches: Batches) -> bool:
    return (await batches.counts("night")).done


async def test_a_request_that_is_given_up_again_is_not_paid_for(rig: Rig) -> None:
    """Answered as A, queued as B, fed as A again: the answer is there."""
    await fed(rig, lines(2, "old"))
    await rig.work_off()
    await fed(rig, lines(2, "new"), "rerun")
    with pytest.raises(BatchChangedError, match="queued"):
        await fed(rig, lines(2, "old"))
    await fed(rig, lines(2, "old"), "rerun")
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.succeeded, counts.done) == (0, 2, True)
    await rig.work_off()
    assert (rig.calls(), await prompts(rig)) == (2, ["old"] * 2)


async def test_a_queued_rerun_is_not_asked_about_again(rig: Rig) -> None:
    """`--changed rerun` was interrupted: the same command without it goes on."""
    await fed(rig, lines(2, "old"))
    await rig.work_off()
    await fed(rig, lines(2, "new"), "rerun")
    assert await fed(rig, lines(2, "new")) == Fed(queued_already=2)


async def test_a_job_that_ends_while_it_is_replaced_runs_again(rig: Rig) -> None:
    """Between the look and the replacement, its old request was answered and stored."""
    await fed(rig, lines(1, "old"))
    async with feeder(rig, "rerun") as one:
        one._in_redis = True
        (line,) = lines(1, "new")
        known = await one._known([line])
        await rig.work_off()
        await one._send(one._planner.plan([line], *known, Changes()))
    await rig.work_off()
    counts = await Batches(rig.redis).counts("night")
    assert (rig.calls(), await prompts(rig), counts.succeeded) == (2, ["new"], 1)


async def test_a_payload_of_another_producer_is_compared_as_it_will_be_sent(rig: Rig) -> None:
    """Without a model, or as arq's first argument, it is the same request."""
    body = b'{"messages":[{"role":"user","content":"old 1"}],"max_tokens":50}'
    checked = check(body, rig.producer.defaults)
    line = Line(number=1, custom_id="c1", body=checked.body, model=checked.model)
    payload = b'{"f":"generate","a":[' + body + b'],"k":{},"et":1}'
    await rig.redis.set(keys.PAYLOAD + "night:c1", payload)
    queue = keys.batch_queue("night", rig.settings.model)
    await rig.redis.zadd(queue, {"night:c1": 1})
    await rig.redis.sadd(keys.QUEUES_OF + "night", queue)  # type: ignore[misc]
    assert await fed(rig, iter([line])) == Fed(queued_already=1)


async def test_nothing_is_read_from_redis_while_none_of_the_batch_is_there(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first feeding must not become slower."""

    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("nightmill.enqueue.feeder.unfinished", never)
    assert (await fed(rig, lines(3, "old"))).new == 3


async def test_verify_says_that_requests_are_not_those_of_the_source(rig: Rig) -> None:
    """`verify` with prompt B said that all is well, with 40 answers to A."""
    batches = Batches(rig.redis)
    await fed(rig, lines(3, "old"))
    queued = await verify("night", rig.store, batches, lines(3, "new"))
    assert (queued.changed, queued.holds) == (3, False)
    assert "3 such jobs: 3 queued" in queued.problems[0]
    await rig.work_off()
    stored = await verify("night", rig.store, batches, lines(3, "new"))
    assert (stored.changed, stored.missing) == (3, 0)
    assert '"c1" is stored in batch "night" with another request' in stored.problems[0]
    assert "--changed rerun" in stored.problems[0]
    assert (await verify("night", rig.store, batches, lines(3, "old"))).holds


async def test_an_ended_batch_is_not_changed(rig: Rig) -> None:
    """Rows of its jobs are being written."""
    await fed(rig, lines(1, "old"))
    async with feeder(rig, "rerun") as one:
        await Batches(rig.redis).cancel("night")
        assert (await one.feed(lines(1, "new"))).cut_short
    payload = await rig.redis.get(keys.PAYLOAD + "night:c1")
    assert b"old 1" in bytes(wire.decode_job(payload or b"")[0].params)


def test_the_cause_names_what_changed() -> None:
    """Short values are shown; a prompt is only named."""
    old = b'{"model":"a","max_tokens":5,"messages":[]}'
    assert cause_of(old, b'{"model":"b","max_tokens":5,"messages":[]}') == (
        "model was 'a' and is 'b' now"
    )
    assert cause_of(old, b'{"model":"a","max_tokens":5,"messages":[1],"system":"x"}') == (
        "its messages and system changed"
    )
    assert "not kept" in cause_of(b"", old)
