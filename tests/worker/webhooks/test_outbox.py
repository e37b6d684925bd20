"""Webhooks about one event: a batch is held, the account is stopped, a single job has ended."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill import InvalidParamsError
from nightmill.queue import keys, notices
from nightmill.queue.batches import Batches
from nightmill.setting_values import signing_key
from nightmill_worker.simulator import Fault
from nightmill_worker.webhooks.delivery import Delivery
from nightmill_worker.webhooks.outbox import Outbox
from nightmill_worker.webhooks.signature import sign
from tests.rig import Rig, hello, rigged, until
from tests.worker.webhooks.test_delivery import NIGHT, SECRET, Receiver, feed, receiver, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["receiver", "rig"]  # fixtures


def types(receiver: Receiver) -> list[str]:
    """Return the types of the webhooks received, in order."""
    return [json.loads(body)["type"] for _, body in receiver.got]


def got(receiver: Receiver, kind: str, count: int = 1) -> Callable[[], bool]:
    """Return a check whether `count` webhooks of a type have come."""
    return lambda: types(receiver).count(kind) >= count


def data_of(receiver: Receiver, kind: str) -> dict[str, Any]:
    """Return the data of the last webhook of a type; its signature must be right."""
    headers, body = [each for each in receiver.got if json.loads(each[1])["type"] == kind][-1]
    name, at = headers["webhook-id"], int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == sign(signing_key(SECRET), name, at, body)
    assert json.loads(body)["timestamp"].endswith("Z")
    found: dict[str, Any] = json.loads(body)["data"]
    return found


def outbox(rig: Rig) -> Outbox:
    """Return the outbox of a worker that does nothing else."""
    return Delivery(rig.settings, rig.redis, lambda _: None, random.Random(1))._outbox


async def test_a_batch_that_is_paused_tells_so_each_time_once(rig: Rig, receiver: Receiver) -> None:
    """A batch that its canary paused at night waited until somebody looked."""
    batches = Batches(rig.redis)
    await feed(rig, receiver.url)
    await batches.pause(NIGHT, "the canary")
    async with rig.working(), rig.working():
        await until(got(receiver, "batch.paused"))
        data = data_of(receiver, "batch.paused")
        assert (data["batch"], data["reason"], data["counts"]["total"]) == (NIGHT, "the canary", 3)
        await batches.resume(NIGHT)
        await until(got(receiver, "batch.completed"))
        rig.sim.configure(latency_s=30)
        await feed(rig, receiver.url, 1, start=9)
        await batches.pause(NIGHT, "again")
        await until(got(receiver, "batch.paused", 2))
    assert data_of(receiver, "batch.paused")["reason"] == "again"
    assert types(receiver) == ["batch.paused", "batch.completed", "batch.paused"]
    assert len(set(receiver.ids)) == 3


async def test_a_batch_over_its_budget_tells_so(rig: Rig, receiver: Receiver) -> None:
    """Its other jobs wait for money until somebody looks."""
    await rig.producer.batch(NIGHT).limit(budget_tokens=1)
    await feed(rig, receiver.url)
    async with rig.working():
        await until(got(receiver, "batch.failed_over_budget"))
    data = data_of(receiver, "batch.failed_over_budget")
    assert data["reason"]
    assert data["counts"]["total"] == 3


async def test_a_stopped_account_tells_so_once(
    redis_url: str, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call is made until somebody acts: they must hear of it."""
    monkeypatch.setattr("nightmill_worker.webhooks.delivery.LOOK_S", 0.02)
    async with rigged(
        redis_url,
        tmp_path,
        webhook_url=receiver.url,
        webhook_secret=SECRET,
        webhook_allow_private=True,
    ) as rig:
        rig.sim.configure(faults=(Fault(status=401, share=1),))
        await rig.producer.enqueue(hello())
        async with rig.working(), rig.working():
            await until(got(receiver, "account.stopped"))
        data = data_of(receiver, "account.stopped")
        assert data["reason"]
        assert len(data["account"]) == 16
        await outbox(rig).deliver()
    assert types(receiver) == ["account.stopped"]


async def test_a_single_job_tells_its_end_once(rig: Rig, receiver: Receiver) -> None:
    """A service had to ask for each result again and again."""
    await rig.producer.enqueue(hello(), job_id="a", on_complete=receiver.url)
    await rig.producer.enqueue(hello(), job_id="b")
    async with rig.working():
        await until(got(receiver, "job.finished"))
        data = data_of(receiver, "job.finished")
        assert (data["job_id"], data["status"], data["error"]) == ("a", "succeeded", None)
        assert data["tokens"]["output"] > 0
        await rig.redis.delete(keys.RESULT + "a")  # as an hour later
        assert (await rig.producer.enqueue(hello(), job_id="a", on_complete=receiver.url)).new
        await until(lambda: rig.redis.exists(keys.RESULT + "a"))
    await outbox(rig).deliver()
    assert types(receiver) == ["job.finished"]
    assert await rig.redis.zcard(keys.NOTICES) == 0


async def test_a_job_that_failed_says_why(rig: Rig, receiver: Receiver) -> None:
    """The receiver decides by the error what to do."""
    rig.sim.configure(faults=(Fault(status=400, share=1),))
    await rig.producer.enqueue(hello(), job_id="a", on_complete=receiver.url)
    async with rig.working():
        await until(got(receiver, "job.finished"))
    data = data_of(receiver, "job.finished")
    assert data["status"] == "failed"
    assert data["error"]["type"] == "invalid_request_error"


async def test_a_notice_is_tried_again_with_the_same_id_and_outlives_its_worker(
    rig: Rig, receiver: Receiver
) -> None:
    """The receiver may be down for a night, and a worker may die while it posts."""
    receiver.statuses = [500, 503, 204]
    await rig.producer.enqueue(hello(), job_id="a", on_complete=receiver.url)
    name = keys.NOTICE
    async with rig.working():
        await until(got(receiver, "job.finished", 3))
        name += receiver.ids[0]

        async def delivered() -> bool:
            notice = notices.decode(await rig.redis.get(name))
            return notice is not None and (notice.state, notice.tries) == ("delivered", 3)

        await until(delivered)
    assert len({(headers["webhook-id"], body) for headers, body in receiver.got}) == 1
    assert 0 < await rig.redis.pttl(name) <= keys.NOTICED_TTL_MS


async def test_a_notice_is_posted_by_another_worker_when_one_died_with_it(
    rig: Rig, receiver: Receiver
) -> None:
    """A worker may die while it posts; meanwhile no other one posts the same."""
    notice = notices.Notice(url=receiver.url, type="job.finished", about="a", body='{"type":"x"}')
    await rig.redis.set(keys.NOTICE + "msg_1", msgspec.json.encode(notice))
    await rig.redis.zadd(keys.NOTICES, {"msg_1": 0})
    assert len(await outbox(rig)._take(args=[9, 60_000])) == 2
    assert await outbox(rig)._take(args=[9, 60_000]) == []
    await rig.redis.zadd(keys.NOTICES, {"msg_1": 1})  # as when its lease has ended
    await outbox(rig).deliver()
    assert receiver.ids == ["msg_1"]


async def test_without_a_secret_a_notice_waits_for_a_worker_that_has_one(
    redis_url: str, tmp_path: Path, receiver: Receiver, rig: Rig
) -> None:
    """An unsigned webhook is never sent."""
    async with rigged(redis_url, tmp_path) as bare:
        await bare.producer.enqueue(hello(), job_id="a", on_complete=receiver.url)
        await bare.work_off()
        await outbox(bare).deliver()
    assert receiver.got == []
    await outbox(rig).deliver()
    assert types(receiver) == ["job.finished"]


async def test_an_address_that_cannot_be_is_refused_when_it_is_given(rig: Rig) -> None:
    """A typo would show only after the call was paid."""
    with pytest.raises(InvalidParamsError, match=r"on_complete: not an http\(s\) address"):
        await rig.producer.enqueue(hello(), on_complete="ftp://x")
    with pytest.raises(InvalidParamsError, match=r"on_complete: .*Batch\.on_complete"):
        await rig.producer.enqueue(hello(), batch="night", on_complete="https://e.com")


async def test_a_foreign_address_that_cannot_be_costs_only_its_notice(rig: Rig) -> None:
    """Producers in other languages do not check it."""
    job = {"params": hello(), "on_complete": "ftp://x"}
    payload: dict[str, object] = {"t": None, "f": "generate", "a": [], "k": job, "et": 1}
    await rig.redis.set(keys.PAYLOAD + "a", msgspec.json.encode(payload))
    await rig.redis.zadd(keys.QUEUE, {"a": 1})
    await rig.work_off()
    assert (await rig.row("a")).text
    assert await rig.redis.zcard(keys.NOTICES) == 0
