"""The fleet's figures: what one bad value takes along, and counters that never go back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from nightmill.metrics import figures
from nightmill.metrics.figures import MOST_LANES, OTHER, LaneCounts, read_figures
from nightmill.metrics.fleet import FleetCollector
from nightmill.queue import keys
from nightmill.reports.lanes import Hot, Lane, Orders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ACCOUNT, PASSWORD = "ab" * 8, "pw"
PARTS = {
    "nightmill_workers": keys.WORKERS,
    "nightmill_worker_troubles": keys.TROUBLES,
    "nightmill_queue_jobs": keys.BATCH + "night",
    "nightmill_lane_calls": keys.LANE + f"{ACCOUNT}:m",
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client of a Redis with one batch and one lane that was used now."""
    async with Redis.from_url(redis_url) as client:
        seconds, _ = await client.time()
        await client.execute_command("SADD", keys.BATCHES, "night")
        await client.sadd(keys.LANES, f"{ACCOUNT}:m")
        await client.hset(keys.BATCH + "night", mapping={"total": "5"})
        hot = f'{{"sent":5,"refilled_at":{seconds}}}'
        await client.hset(keys.LANE + f"{ACCOUNT}:m", mapping={"hot": hot})
        yield client


async def scraped(redis: Redis, folder: Path) -> dict[str, Any]:
    """Return metric -> its first value, as the server's thread reads them."""
    collector = FleetCollector(redis, folder, asyncio.get_running_loop())
    found = await asyncio.to_thread(lambda: list(collector.collect()))
    return {each.name: each.samples[0].value for each in found if each.samples}


@pytest.mark.parametrize("spoilt", PARTS)
async def test_a_key_of_a_wrong_type_is_no_outage(
    redis: Redis, tmp_path: Path, spoilt: str
) -> None:
    """An operator would look for a Redis that is away, and all other metrics would be missing."""
    assert PARTS.keys() <= (await scraped(redis, tmp_path)).keys()
    await redis.delete(PARTS[spoilt])
    await redis.set(PARTS[spoilt], "another program's")
    found = await scraped(redis, tmp_path)
    missing = PARTS.keys() - found.keys()
    assert missing in ({spoilt}, {spoilt, "nightmill_lane_calls"})  # lanes read who works, too
    assert found["nightmill_redis_up"] == 1
    assert found["nightmill_redis_unreadable"] == len(missing)


@pytest.mark.parametrize("raw", [b"\xff\x00", b"{}", b"[1]", b'{"sent":"x"}', b"1e999", b"-5"])
async def test_values_that_cannot_be_read_are_left_out(
    redis: Redis, tmp_path: Path, raw: bytes
) -> None:
    """One value of another program takes no metric along."""
    for key in (keys.BATCH + "night", keys.LANE + f"{ACCOUNT}:m", keys.WORKERS, keys.TROUBLES):
        names = ("hot", "orders", "total", "queued", "in_flight", "limits", raw)
        fields = [each for name in names for each in (name, raw)]
        await redis.execute_command("HSET", key, *fields)
    found = await scraped(redis, tmp_path)
    assert (found["nightmill_redis_up"], found["nightmill_redis_unreadable"]) == (1, 0)


async def test_a_right_that_is_missing_is_no_outage(redis: Redis, tmp_path: Path) -> None:
    """Redis answers: `nightmill doctor` names the right."""
    await redis.execute_command(
        "ACL", "SETUSER", "seer", "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-hvals"
    )
    socket = redis.connection_pool.connection_kwargs["path"]
    async with Redis(unix_socket_path=socket, username="seer", password=PASSWORD) as limited:
        found = await scraped(limited, tmp_path)
    await redis.execute_command("ACL", "DELUSER", "seer")
    assert (found["nightmill_redis_up"], found["nightmill_redis_unreadable"]) == (1, 1)


async def test_a_redis_that_does_not_answer_is_an_outage(tmp_path: Path) -> None:
    """And what was read from it is missing, not 0."""
    async with Redis(unix_socket_path=str(tmp_path / "none")) as away:
        found = await scraped(away, tmp_path)
    assert (found["nightmill_redis_up"], found["nightmill_redis_unreadable"]) == (0, 0)
    assert not PARTS.keys() & found.keys()


def lane(name: str, sent: int, *, idle_s: float = 0) -> Lane:
    """Return a lane that sent calls and was not used since."""
    hot = Hot(sent=sent, refused=sent // 2, refilled_at=1e6 - idle_s)
    return Lane(account=ACCOUNT, model=name, at=1e6, in_flight=0, hot=hot, orders=Orders())


def test_the_counters_of_other_lanes_never_decrease(tmp_path: Path) -> None:
    """Prometheus takes a decrease for a restart, and counts everything again."""
    loop = asyncio.new_event_loop()
    collector = FleetCollector(Redis(), tmp_path, loop)

    def other(*lanes: Lane) -> tuple[float, float]:
        metrics = collector._lanes([*named, *lanes])
        found = {m.name: [s.value for s in m.samples if s.labels["lane"] == OTHER] for m in metrics}
        calls, refusals = found["nightmill_lane_calls"], found["nightmill_lane_refusals"]
        return sum(calls), sum(refusals)

    named = [lane(f"m{number}", 10) for number in range(MOST_LANES)]
    try:
        assert other() == (0, 0)
        assert other(lane("a", 100, idle_s=10), lane("b", 40, idle_s=10)) == (140, 70)
        # b is lost by Redis, then there again from 0; a goes on, then is unused for a day.
        assert other(lane("a", 110, idle_s=10)) == (150, 75)
        assert other(lane("a", 110, idle_s=10), lane("b", 4, idle_s=10)) == (154, 77)
        assert other(lane("a", 110, idle_s=90_000), lane("b", 2, idle_s=10)) == (156, 78)
        # a is used again: only what it gained counts, and so for one never seen in use.
        old = lane("c", 1000, idle_s=90_000)
        assert other(lane("a", 110, idle_s=90_000), lane("b", 2, idle_s=10), old) == (156, 78)
        last = [lane("a", 114, idle_s=10), lane("b", 2, idle_s=10), lane("c", 1002, idle_s=10)]
        assert other(*last) == (162, 81)
    finally:
        loop.close()


def test_a_lane_that_loses_its_last_second_gains_nothing() -> None:
    """A failover of Redis: all calls of the lane's life would be counted again."""
    counts, name = LaneCounts(), (ACCOUNT, "a")
    for sent in (1_000_000, 999_998, 1_000_050):
        counts.add(name, lane("a", sent))
    assert counts.of(name) == (1_000_052, 500_026)


def test_a_lane_that_could_not_be_read_once_is_not_counted_again() -> None:
    """It seems unused, and never to have sent a call."""
    counts, name = LaneCounts(), (ACCOUNT, "a")
    counts.add(name, lane("a", 1000))
    unread = Lane(account=ACCOUNT, model="a", at=1e6, in_flight=0, hot=Hot(), orders=Orders())
    counts.add(None, unread)
    counts.add(name, lane("a", 1001))
    assert counts.of(name) == (1001, 500)


def test_lanes_that_redis_does_not_have_any_more_are_forgotten() -> None:
    """Users name models freely: what is kept of each must end."""
    counts = LaneCounts()
    counts.add((ACCOUNT, OTHER), lane("a", 7))
    counts.keep([])
    counts.add((ACCOUNT, OTHER), lane("a", 7))
    assert counts.of((ACCOUNT, OTHER)) == (14, 6)


def test_lanes_that_are_gone_are_not_compared_with(tmp_path: Path) -> None:
    """What is kept of each lane must end with it."""
    loop = asyncio.new_event_loop()
    try:
        collector = FleetCollector(Redis(), tmp_path, loop)
        for names in (("a", "b"), ("b",)):
            list(collector._lanes([lane(name, 1) for name in names]))
    finally:
        loop.close()
    assert list(collector._before) == [(ACCOUNT, "b")]


async def test_a_defect_that_hides_a_part_is_in_the_log_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A metric that is missing for ever would have no reason."""

    def defect(_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(figures, "_LOGGED", set())
    monkeypatch.setattr(figures, "read_troubles", defect)
    for _ in range(2):
        assert (await read_figures(redis)).unreadable == 1
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "metrics: troubles cannot be read")
    assert record.exc_info


async def test_figures_are_whole_without_a_bad_value(redis: Redis) -> None:
    """Nothing is left out by mistake."""
    figures = await read_figures(redis)
    assert figures.unreadable == 0
    assert figures.lanes is not None
    assert [each.hot.sent for each in figures.lanes] == [5]
