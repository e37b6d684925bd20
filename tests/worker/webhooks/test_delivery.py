"""Webhooks on completion: the signature, the schedule, and deliveries to a real receiver."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from aiohttp import web

from nightmill.enqueue.feeder import Feeder
from nightmill.queue import keys, webhooks
from nightmill.queue.batches import Batches
from nightmill.queue.webhooks import Webhook
from nightmill.setting_values import signing_key
from nightmill.sources import Line
from nightmill_worker.events import WebhookDelivered, WebhookFailed
from nightmill_worker.webhooks.delivery import Delivery
from nightmill_worker.webhooks.post import post
from nightmill_worker.webhooks.sender import WAITS_S, wait_s
from nightmill_worker.webhooks.signature import sign
from tests.rig import Rig, hello, rigged, until

# The published example of the Standard Webhooks libraries.
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
NIGHT: Final = "night"


class Receiver:
    """Takes webhooks and answers with `statuses` in turn, the last one for ever."""

    def __init__(self) -> None:
        """Answer 204."""
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses = [204]
        self.headers: dict[str, str] = {}
        self.url = ""
        self.free = asyncio.Event()
        self.free.set()

    async def take(self, request: web.Request) -> web.Response:
        """Take one webhook."""
        self.got.append((dict(request.headers), await request.read()))
        await self.free.wait()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers=self.headers)

    @property
    def ids(self) -> list[str]:
        """The webhook-ids received, in order."""
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on loopback."""
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@pytest.fixture
async def rig(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Return a mill that signs, may post to loopback, looks often and waits briefly."""
    monkeypatch.setattr("nightmill_worker.webhooks.delivery.LOOK_S", 0.02)
    monkeypatch.setattr("nightmill_worker.webhooks.sender.WAITS_S", (0.01, 0.01, 0.01))
    async with rigged(
        redis_url, tmp_path, webhook_secret=SECRET, webhook_allow_private=True
    ) as made:
        yield made


async def feed(rig: Rig, url: str | None, count: int = 3, *, start: int = 0) -> None:
    """Feed a batch whose webhook goes to `url`."""
    lines = [
        Line(number=i + 1, custom_id=f"c{i}", body=body(i), model="m")
        for i in range(start, start + count)
    ]
    batches = Batches(rig.redis)
    async with Feeder(NIGHT, rig.producer, batches, rig.store, on_complete=url) as feeder:
        await feeder.feed(lines)


def body(number: int) -> bytes:
    """Return the request of one input line."""
    return msgspec.json.encode({**hello(f"{number}"), "model": "m"})


async def hook(rig: Rig) -> Webhook:
    """Return the batch's webhook."""
    return webhooks.decode((await Batches(rig.redis).counts(NIGHT)).webhook)


def is_(rig: Rig, state: str) -> Callable[[], object]:
    """Return a check whether the webhook is in `state`."""

    async def look() -> bool:
        return (await hook(rig)).state == state

    return look


def test_the_signature_is_the_published_one() -> None:
    """The vector is in the specification's own tests, so every library verifies it."""
    signed = sign(
        signing_key(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_tries_are_spread_over_a_day_and_end() -> None:
    """A receiver may be down for a night. After a day the webhook is given up."""
    rng = random.Random(1)
    waits = [wait_s(tries + 1, 0, rng) for tries in range(len(WAITS_S))]
    assert all(0.8 * s <= w <= 1.2 * s for s, w in zip(WAITS_S, waits, strict=True) if w)
    assert sum(WAITS_S) > 20 * 3600
    assert wait_s(len(WAITS_S) + 1, 0, rng) is None
    assert wait_s(1, 90, rng) == 90  # what the receiver asks for


async def test_a_complete_batch_is_delivered_once(rig: Rig, receiver: Receiver) -> None:
    """The body has the counts and a valid signature, and only one worker posts it."""
    await feed(rig, receiver.url)
    assert (await hook(rig)).state == "waiting"
    async with rig.working(), rig.working():
        await until(is_(rig, "delivered"))
    (headers, sent) = receiver.got[0]
    assert len(receiver.got) == 1
    name, at = headers["webhook-id"], int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == sign(signing_key(SECRET), name, at, sent)
    content = json.loads(sent)
    assert content["type"] == "batch.completed"
    ends = {"total": 3, "succeeded": 3, "failed": 0, "cancelled": 0, "expired": 0}
    counts = await Batches(rig.redis).counts(NIGHT)
    tokens = {"input": counts.input_tokens, "output": counts.output_tokens}
    assert content["data"] == {"batch": NIGHT, "counts": ends, "tokens": tokens, "cost": None}
    assert rig.events_of(WebhookDelivered)[0].tries == 1
    assert await rig.redis.zcard(keys.WEBHOOKS) == 0


def assert_one_message(receiver: Receiver, *, times: int) -> None:
    """Check that `receiver` got `times` posts, all with one id and one body."""
    assert len(receiver.got) == times
    assert len(set(receiver.ids)) == 1
    assert len({sent for _, sent in receiver.got}) == 1


async def test_a_delivery_is_dated_by_the_clock_of_redis(
    rig: Rig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receivers refuse a time that is minutes off, as this machine's clock may be."""
    right = time.time()
    monkeypatch.setattr("time.time", lambda: right - 600)
    await feed(rig, receiver.url)
    async with rig.working():
        await until(is_(rig, "delivered"))
    assert abs(int(receiver.got[0][0]["webhook-timestamp"]) - right) < 60


async def test_a_failed_delivery_is_tried_again_under_its_id(rig: Rig, receiver: Receiver) -> None:
    """The receiver recognises the repeat, also after a restart between the tries."""
    receiver.statuses = [500, 302, 204]
    await feed(rig, receiver.url)
    async with rig.working():
        await until(lambda: receiver.got)
    async with rig.working():
        await until(is_(rig, "delivered"))
    assert_one_message(receiver, times=3)
    assert [event.reason for event in rig.events_of(WebhookFailed)] == [
        "500",
        "302: redirects are not followed",
    ]


async def test_the_next_worker_repeats_a_delivery_byte_for_byte(
    rig: Rig, receiver: Receiver
) -> None:
    """The body is saved before the post, so one id never has two bodies."""
    receiver.free.clear()
    await feed(rig, receiver.url)
    async with rig.working():
        await until(lambda: receiver.got)
    at = await rig.redis.time()
    await until(lambda: _later(rig, at))  # a new body would have another time
    receiver.free.set()
    async with rig.working():
        await until(is_(rig, "delivered"))
    assert_one_message(receiver, times=2)


async def _later(rig: Rig, than: tuple[int, int]) -> bool:
    seconds, micros = await rig.redis.time()
    return bool((seconds - than[0]) * 1000 + (micros - than[1]) / 1000 > 2)


async def test_asking_again_between_tries_changes_nothing_of_what_is_told(
    rig: Rig, receiver: Receiver
) -> None:
    """A second `run` of a batch asks anew while the first one's webhook is being retried."""
    receiver.statuses = [503]
    await feed(rig, receiver.url)
    async with rig.working():
        await until(is_(rig, "given_up"))
        receiver.statuses = [204]
        await feed(rig, receiver.url)
        await until(is_(rig, "delivered"))
    assert_one_message(receiver, times=5)


async def test_a_new_url_is_kept_while_the_old_one_is_posted_to(
    rig: Rig, receiver: Receiver
) -> None:
    """A slow receiver must not undo a new URL."""
    receiver.free.clear()
    await feed(rig, receiver.url)
    async with rig.working():
        await until(lambda: receiver.got)
        await webhooks.arm(rig.redis, NIGHT, receiver.url + "?again")
        receiver.free.set()
        await until(is_(rig, "delivered"))
    assert (await hook(rig)).url.endswith("?again")
    assert len(receiver.got) == 2
    assert len({sent for _, sent in receiver.got}) == 1


@pytest.mark.parametrize(("statuses", "calls"), [([410], 1), ([500], 4)])
async def test_a_webhook_that_keeps_failing_is_given_up(
    rig: Rig, receiver: Receiver, statuses: list[int], calls: int
) -> None:
    """A 410 ends it at once, other errors at the end of the schedule."""
    receiver.statuses = statuses
    await feed(rig, receiver.url)
    async with rig.working():
        await until(is_(rig, "given_up"))
    assert len(receiver.got) == calls
    assert webhooks.describe(await hook(rig)) == f"given up ({statuses[0]})"


async def test_the_same_completion_is_delivered_once_and_the_next_one_too(
    rig: Rig, receiver: Receiver
) -> None:
    """Feeding a finished batch again changes nothing. More jobs are a new completion."""
    await feed(rig, receiver.url)
    async with rig.working():
        await until(is_(rig, "delivered"))
        await feed(rig, receiver.url)
        await until(is_(rig, "delivered"))
        assert len(receiver.got) == 1
        await feed(rig, receiver.url, 4)
        await until(lambda: len(receiver.got) == 2)
    assert len(set(receiver.ids)) == 2
    assert json.loads(receiver.got[1][1])["data"]["counts"]["succeeded"] == 4


async def test_an_incomplete_batch_is_not_delivered(rig: Rig, receiver: Receiver) -> None:
    """It waits until all jobs have ended and the source has ended."""
    batches = Batches(rig.redis)
    async with rig.working():
        async with Feeder(NIGHT, rig.producer, batches, None, on_complete=receiver.url) as feeder:
            line = Line(number=1, custom_id="c", body=body(1), model="m")
            await feeder.feed([line])
            await until(rig.calls)
            await until(lambda: _drained(batches))
            for _ in range(3):  # looks of a worker
                before = await rig.redis.zscore(keys.WEBHOOKS, NIGHT)
                await until(lambda: _put_off(rig, before))  # noqa: B023 - awaited in this turn
            assert receiver.got == []
        await until(is_(rig, "delivered"))


async def _put_off(rig: Rig, before: float | None) -> bool:
    return bool(await rig.redis.zscore(keys.WEBHOOKS, NIGHT) != before)


async def _drained(batches: Batches) -> bool:
    return (await batches.counts(NIGHT)).drained


async def test_a_batch_from_a_program_is_complete_when_it_asks_for_the_webhook(
    rig: Rig, receiver: Receiver
) -> None:
    """There is no source that could end, so the request for the webhook ends the batch."""
    await rig.producer.enqueue_many([{"custom_id": "a", **hello()}], batch=NIGHT)
    await rig.producer.batch(NIGHT).on_complete(receiver.url)
    async with rig.working():
        await until(is_(rig, "delivered"))
    assert json.loads(receiver.got[0][1])["data"]["counts"]["total"] == 1


async def test_private_addresses_are_refused_unless_allowed(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """By number or by name: the address that is connected to decides."""
    async with rigged(redis_url, tmp_path, webhook_secret=SECRET) as rig:
        await feed(rig, receiver.url.replace("127.0.0.1", "localhost"))
        async with rig.working():
            await until(is_(rig, "given_up"))
        assert "is a private address; NIGHTMILL_WEBHOOK_ALLOW_PRIVATE" in (await hook(rig)).reason
        assert receiver.got == []
        reply = await post(receiver.url, b"", {})
        assert reply.final
        assert receiver.got == []


async def test_without_a_secret_nothing_is_posted(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """A receiver cannot trust an unsigned webhook. `status` names the missing setting."""
    async with rigged(redis_url, tmp_path, webhook_allow_private=True) as rig:
        await feed(rig, receiver.url)
        async with rig.working():
            await until(lambda: _has_reason(rig))
        expected = "waiting (the workers have no NIGHTMILL_WEBHOOK_SECRET)"
        assert webhooks.describe(await hook(rig)) == expected
        assert receiver.got == []


async def _has_reason(rig: Rig) -> bool:
    return bool((await hook(rig)).reason)


async def test_the_webhook_of_a_pruned_batch_is_dropped(rig: Rig, receiver: Receiver) -> None:
    """A pruned batch has no counts to send."""
    await feed(rig, receiver.url, 1)
    await rig.redis.delete(keys.BATCH + NIGHT, keys.queue_of(NIGHT, "m"))
    await rig.redis.hset(keys.BATCH + NIGHT, "total", "0")  # type: ignore[misc]
    delivery = Delivery(rig.settings, rig.redis, rig.events.append, random.Random(1))
    await delivery.see_to(NIGHT, 5)
    assert await rig.redis.zcard(keys.WEBHOOKS) == 0
    assert receiver.got == []
