"""The history is written once a step, by the governor, and stays small."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.counts import Counts
from nightmill.reports.history import read_history
from nightmill.reports.history_points import DAY, FLEET, HOUR, SPANS, Totals
from nightmill.reports.lanes import read_lanes
from nightmill_worker.fleet.history import MOST_BATCHES, HistoryKeeper, chosen
from nightmill_worker.queue.lua_source import source
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOUR_OF_FLEET = keys.history(HOUR.name, FLEET)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def write(rig: Rig, at: float, succeeded: int) -> int:
    """Write one point of the fleet, as a worker does that read the counters at `at`."""
    script = rig.redis.register_script(source("history"))
    point = msgspec.json.encode(Totals(at=at, succeeded=succeeded))
    return int(await script(args=[str(at), msgspec.json.encode(SPANS), FLEET, point]))


async def written(rig: Rig, key: str = HOUR_OF_FLEET) -> list[Totals]:
    """Return the points of a list."""
    raw = await rig.redis.execute_command("LRANGE", key, 0, -1)
    return [msgspec.json.decode(each, type=Totals) for each in raw]


async def test_a_running_worker_writes_lanes_batches_and_the_fleet(rig: Rig) -> None:
    """The first point comes soon after the start, without any setting."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    async with rig.working():
        await rig.row("night:a")
        await until(lambda: rig.redis.exists(HOUR_OF_FLEET))
        (lane,) = await read_lanes(rig.redis)
        key = keys.history(HOUR.name, f"lane:{lane.account}:{lane.model}")
        await until(lambda: rig.redis.exists(key))
    (point,) = await written(rig)
    assert point.succeeded == 1
    counts = await rig.producer.batch("night").counts()
    assert (point.input_tokens, point.nanodollars) == (counts.input_tokens, counts.nanodollars)


async def test_switched_off_it_writes_nothing(rig: Rig) -> None:
    """HISTORY=false: not one key."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    async with rig.working(history=False) as worker:
        await rig.row("night:a")
        assert worker._background._history is None
    assert not await rig.redis.keys(keys.HISTORY + "*")


async def test_two_governors_write_one_point_a_step(rig: Rig) -> None:
    """Two accounts have a governor each, and both keep the history of the fleet."""
    one, other = HistoryKeeper(rig.redis), HistoryKeeper(rig.redis)
    await asyncio.gather(one.keep(), other.keep())
    await one.keep()
    seconds, _ = await rig.redis.time()
    steps = {int(point.at // HOUR.step_s) for point in await written(rig)}
    assert len(await written(rig)) == len(steps)
    assert max(steps) == seconds // HOUR.step_s


async def test_another_worker_goes_on_where_a_dead_one_ended(rig: Rig) -> None:
    """Points are counters, so nothing is counted twice, and nothing that happened between."""
    seconds, _ = await rig.redis.time()
    for age, done in ((40, 10), (30, 20), (20, 20), (20, 20), (10, 50)):
        await write(rig, seconds - age, done)
    history = await read_history(rig.redis, since=seconds - 60)
    assert sum(each.ended for each in history.fleet) == 40


async def test_a_worker_that_was_stopped_between_reading_and_writing_writes_nothing(
    rig: Rig,
) -> None:
    """Its counters are older than the newest point: sums would jump back and forth."""
    seconds, _ = await rig.redis.time()
    await write(rig, seconds - 10, 50)
    assert await write(rig, seconds - 30, 20) == 0
    assert [point.succeeded for point in await written(rig)] == [50]


async def test_a_clock_that_went_back_does_not_stop_the_history(rig: Rig) -> None:
    """Points of a day that has not come are removed; those of before stay."""
    seconds, _ = await rig.redis.time()
    await write(rig, seconds - 20, 1)
    for ahead in (86_400, 86_410):
        raw = msgspec.json.encode(Totals(at=seconds + ahead, succeeded=1))
        await rig.redis.execute_command("RPUSH", HOUR_OF_FLEET, raw, b"no point")
    await write(rig, seconds, 3)
    assert [point.succeeded for point in await written(rig)] == [1, 3]
    history = await read_history(rig.redis, since=seconds - 60)
    assert [each.ended for each in history.fleet] == [2]


async def test_its_size_is_bounded(rig: Rig) -> None:
    """A year of points takes as much memory as a day, and a series that ends is removed."""
    seconds, _ = await rig.redis.time()
    first = seconds - (HOUR.most + 40) * HOUR.step_s
    for step in range(HOUR.most + 40):
        await write(rig, first + step * HOUR.step_s, step)
    for span in SPANS:
        key = keys.history(span.name, FLEET)
        lives = await rig.redis.ttl(key)
        assert span.seconds < lives <= 2 * span.seconds
        ats = [point.at for point in await written(rig, key)]
        assert len(ats) <= span.most
        assert ats == sorted(ats)
        assert all(a // span.step_s < b // span.step_s for a, b in pairwise(ats))
    assert len(await written(rig)) == HOUR.most
    assert DAY.seconds == 86_400


async def test_a_full_redis_refuses_it_and_the_worker_goes_on(rig: Rig) -> None:
    """The memory belongs to jobs; what is missing is a gap."""
    await rig.redis.config_set("maxmemory", 1)
    try:
        async with rig.working():
            keeper = HistoryKeeper(rig.redis)
            with pytest.raises(Exception, match=r"(?i)memory|full"):
                await keeper.keep()
            assert not await rig.redis.exists(HOUR_OF_FLEET)
    finally:
        await rig.redis.config_set("maxmemory", 0)


async def test_a_value_of_another_program_in_its_place_stops_no_other_series(rig: Rig) -> None:
    """A key of another type is left alone."""
    await rig.redis.set(HOUR_OF_FLEET, "x")
    seconds, _ = await rig.redis.time()
    assert await write(rig, seconds, 1) == 1
    assert len(await written(rig, keys.history(DAY.name, FLEET))) == 1


async def test_a_removed_batch_takes_its_history_along(rig: Rig) -> None:
    """A batch of the same name must not go on from it."""
    await rig.redis.execute_command("RPUSH", keys.history(HOUR.name, "batch:night"), "[1]")
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    await Batches(rig.redis).forget("night")
    assert not await rig.redis.keys(keys.HISTORY + "*")


def test_batches_that_go_on_or_changed_get_a_point() -> None:
    """A thousand finished batches cost nothing."""
    over, runs = Counts(total=1, succeeded=1), Counts(total=2, succeeded=1, queued=1)
    last = {"done": over, "ends": runs, "runs": runs}
    now = {"done": over, "ends": over, "runs": runs, "new": runs}
    assert chosen(last, now) == ["ends", "runs", "new"]
    assert chosen({}, dict.fromkeys(map(str, range(1000)), over)) == []
    assert len(chosen({}, dict.fromkeys(map(str, range(1000)), runs))) == MOST_BATCHES
