"""What stops a batch: the accounts and lanes that its queued jobs can use, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import pytest
from redis.asyncio import Redis

from nightmill.client.corrected import Corrections
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.live_workers import about
from nightmill.queue.stops import HeldLane, Stops, read_stops
from nightmill.records.counts import Counts
from nightmill.reports.lanes import Look, read_lanes
from nightmill.reports.view import View, look
from nightmill.settings import load_settings

if TYPE_CHECKING:
    from typing import Literal

OLD, NEW = "0" * 16, "1" * 16
"""Accounts: of a credential that was replaced, and of the one in its place."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client of an empty server."""
    async with Redis.from_url(redis_url) as client:
        yield client


async def queue(redis: Redis, batch: str, *models: str) -> None:
    """Make a batch with one queued job of each model."""
    await redis.execute_command("SADD", keys.BATCHES, batch)
    for model in models:
        name = keys.batch_queue(batch, model)
        await redis.execute_command("ZADD", name, 1, f"{batch}:{model}")
        await redis.execute_command("SADD", keys.QUEUES_OF + batch, name)


async def stop(redis: Redis, account: str, reason: str = "401") -> None:
    """Stop an account."""
    key = keys.ACCOUNT + account
    await redis.execute_command("HSET", key, "state", "stopped", "reason", reason)


async def hold(
    redis: Redis, account: str, model: str, state: Literal["held", "stopped", "passed"] = "stopped"
) -> None:
    """Hold or stop a lane."""
    text = msgspec.json.encode({"state": state, "reason": "403"})
    await redis.execute_command("HSET", keys.HELD + account, model, text)


async def use(redis: Redis, *accounts: str) -> None:
    """Note that jobs were claimed with these accounts."""
    await redis.execute_command("SADD", keys.LANES, *(f"{account}:m" for account in accounts))


async def beat(redis: Redis, account: str, *, ago_s: int = 0, only: str | None = None) -> None:
    """Write a worker's sign of life."""
    seconds, _ = await redis.execute_command("TIME")
    text = f"{seconds - ago_s} running=1 held=2{about(account, only)}"
    await redis.execute_command("HSET", keys.WORKERS, f"w{account}{only}", text)


async def reason(redis: Redis, batch: str = "b") -> str:
    """Return why a batch is stopped."""
    return (await read_stops(redis, [batch])).reason(batch)


async def viewed(redis: Redis, batch: str | None = "b") -> View:
    """Return what `status` shows; there is no results store."""
    batches = Batches(redis)
    return await look(batches, batch, Corrections(batches, load_settings(), lenient=True))


async def test_a_replaced_credential_stops_no_batch_any_more(redis: Redis) -> None:
    """Its stopped account ended `wait` with code 3, while workers with the new key were at work."""
    await queue(redis, "b", "m")
    await use(redis, OLD)
    await stop(redis, OLD)
    assert await reason(redis) == "401"
    await beat(redis, NEW)
    assert await reason(redis) == ""
    view = await viewed(redis)
    assert view.state("b") == "running"
    assert "line" not in msgspec.json.decode(view.to_json())


async def test_a_batch_is_stopped_when_every_running_worker_is(redis: Redis) -> None:
    """One credential that works is enough."""
    await queue(redis, "b", "m")
    await use(redis, OLD, NEW)
    await beat(redis, OLD)
    await beat(redis, NEW)
    for account in (OLD, NEW):
        assert await reason(redis) == ""
        await stop(redis, account)
    assert await reason(redis) == "401"


async def test_a_worker_that_is_gone_does_not_count(redis: Redis) -> None:
    """One that was killed leaves its last sign of life."""
    await queue(redis, "b", "m")
    await use(redis, OLD, NEW)
    await stop(redis, NEW)
    await beat(redis, OLD, ago_s=3600)
    await beat(redis, NEW)
    assert await reason(redis) == "401"


async def test_a_worker_for_another_batch_does_not_count(redis: Redis) -> None:
    """`run` claims the jobs of its own batch only."""
    await queue(redis, "b", "m")
    await use(redis, OLD, NEW)
    await stop(redis, NEW)
    await beat(redis, NEW)
    await beat(redis, OLD, only="another batch")
    assert await reason(redis) == "401"
    await beat(redis, OLD, only="b")
    assert await reason(redis) == ""


async def test_a_worker_of_an_older_version_may_have_any_account(redis: Redis) -> None:
    """Its sign of life does not name it."""
    await queue(redis, "b", "m")
    await use(redis, OLD, NEW)
    await stop(redis, NEW)
    seconds, _ = await redis.execute_command("TIME")
    await redis.execute_command("HSET", keys.WORKERS, "w", f"{seconds} running=0 held=0")
    await beat(redis, NEW)
    assert await reason(redis) == ""


async def test_a_stopped_lane_stops_the_batches_that_need_no_other(redis: Redis) -> None:
    """A batch of another model, and one with jobs of both, go on."""
    await use(redis, NEW)
    await beat(redis, NEW)
    await queue(redis, "denied", "a")
    await queue(redis, "both", "a", "b")
    await queue(redis, "other", "b")
    await hold(redis, NEW, "a")
    await hold(redis, NEW, "c")
    view = await viewed(redis, None)
    found = {batch: view.stopped(batch) for batch in ("denied", "both", "other")}
    assert found == {"denied": "lane a is stopped: 403", "both": "", "other": ""}
    assert [lane.model for lane in view.held("both")] == ["a"]
    assert view.held("other") == ()


async def test_a_held_lane_is_shown_and_stops_nothing(redis: Redis) -> None:
    """Its jobs are tried; a lane that goes on is not shown at all."""
    await use(redis, NEW)
    await queue(redis, "b", "m", "n")
    await hold(redis, NEW, "m", "held")
    await hold(redis, NEW, "n", "passed")
    stops = await read_stops(redis, ["b"])
    assert stops.reason("b") == ""
    assert stops.shown("b", Counts(queued=1)) == ["lane m is held: 403"]
    stopped = Stops(accounts={"a": "401"}, known=frozenset({"a"}))
    assert stopped.shown("b", Counts(snoozed=1)) == ["stopped: 401"]
    assert stopped.shown("b", Counts(succeeded=1)) == [], "`wait` said so of a batch that was done"
    printed = msgspec.json.decode((await viewed(redis)).to_json())
    assert printed["lanes"] == [{"model": "m", "state": "held", "reason": "403"}]


def test_a_lane_that_its_only_job_stopped_does_not_stop_other_batches() -> None:
    """Its next other job is tried: `wait` of another batch ended with 3 before that."""
    lane = HeldLane(account="a", model="m", state="stopped", reason="403", only=frozenset({"b:1"}))
    models = {"b": {"m": 1}, "other": {"m": 1}}
    stops = Stops(lanes=(lane,), known=frozenset({"a"}), models=models)
    assert stops.reason("b") == "lane m is stopped: 403"
    assert stops.reason("other") == ""


async def test_a_batch_without_queued_jobs_waits_for_nothing(redis: Redis) -> None:
    """A finished batch was shown as stopped."""
    await use(redis, NEW)
    await stop(redis, NEW)
    await queue(redis, "b")
    view = await viewed(redis)
    assert (view.state("b"), view.stopped("b")) == ("done", "")


@pytest.mark.parametrize("text", ["", "x", "1 running=1", "9" * 40 + " running=1 held=1"])
async def test_a_sign_of_life_that_cannot_be_read_is_none(redis: Redis, text: str) -> None:
    """Another program may write to the hash."""
    await redis.execute_command("HSET", keys.WORKERS, "w", text)
    assert (await read_stops(redis, [])).workers == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state":"stopped"}', '{"state":7,"reason":""}'])
async def test_a_lane_whose_state_cannot_be_read_is_not_shown(redis: Redis, text: str) -> None:
    """As for the scripts, it is open."""
    await use(redis, NEW)
    await redis.execute_command("HSET", keys.HELD + NEW, "m", text)
    assert (await read_stops(redis, [])).lanes == ()


async def test_every_stopped_account_and_lane_is_resumed_at_once(redis: Redis) -> None:
    """`nightmill resume`; what is held or goes on stays as it is."""
    await use(redis, OLD, NEW)
    await stop(redis, OLD)
    for model, state in (("m", "stopped"), ("n", "stopped"), ("o", "held"), ("p", "passed")):
        await hold(redis, NEW, model, state)  # type: ignore[arg-type]
    await redis.execute_command("HSET", keys.HELD + NEW, "q", "no json")
    assert await Batches(redis).try_all_again() == (1, 2)
    assert await redis.execute_command("HGET", keys.ACCOUNT + OLD, "state") == b"trial"
    assert (await read_stops(redis, [])).accounts == {}
    assert {lane.state for lane in (await read_stops(redis, [])).lanes} == {"held"}
    assert await Batches(redis).try_all_again() == (0, 0)


async def test_lanes_shows_what_is_held_or_stopped(redis: Redis) -> None:
    """With the reason, and what to do."""
    await redis.execute_command("SADD", keys.LANES, *(f"{NEW}:{model}" for model in "mno"))
    await hold(redis, NEW, "m")
    await hold(redis, NEW, "n", "held")
    await hold(redis, NEW, "o", "passed")
    looks = [Look(before=lane, now=lane) for lane in await read_lanes(redis)]
    assert [look.limited_by for look in looks] == ["stopped", "held", "nothing"]
    assert looks[0].why == "The lane is stopped: 403. Fix that, then run `nightmill resume`"
    assert "403" in looks[1].why
    await stop(redis, NEW)
    (first, *_) = await read_lanes(redis)
    assert "The account is stopped: 401" in Look(before=first, now=first).why
