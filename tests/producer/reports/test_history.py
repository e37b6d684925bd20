"""The history as it is read: gaps, new starts, and the figures that `lanes` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.queue.connection import connect
from nightmill.queue.stops import HeldLane
from nightmill.records.counts import Counts
from nightmill.reports.history import History, read_history
from nightmill.reports.history_points import (
    DAY,
    FLEET,
    HOUR,
    Totals,
    lane_of,
    lane_point,
    lane_series,
    totals,
)
from nightmill.reports.lanes import Gate, Hot, Lane, Limit, Look, Orders
from nightmill.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture
async def redis(redis_url: str, tmp_path: Path) -> AsyncIterator[Redis]:
    """Return a client of the session's Valkey."""
    client = connect(load_settings(redis_url=redis_url, data_dir=tmp_path))
    yield client
    await client.aclose()


def lane(at: float = 100.0, **changed: object) -> Lane:
    """Return a busy lane."""
    hot = Hot(
        sent=30,
        ok=20,
        refused=2,
        failed=1,
        rejected=1,
        unsent=1,
        used_input=5000.0,
        used_output=900.0,
        bound={"window": 3, "input": 9},
        reported={"requests": Limit(limit=50)},
    )
    gates = {"requests": Gate(rate=0.8), "input": Gate(rate=500.0)}
    made = Lane(
        account="a",
        model="m",
        at=at,
        in_flight=4,
        hot=hot,
        orders=Orders(window=8, gates=gates),
    )
    return msgspec.structs.replace(made, **changed)


STATES: dict[str, dict[str, object]] = {
    "as it is": {},
    "the account stopped": {"stopped": "401"},
    "held": {"hold": HeldLane(account="a", model="m", state="held", reason="403")},
    "stopped": {"hold": HeldLane(account="a", model="m", state="stopped", reason="403")},
    "breaker": {"orders": Orders(window=8, breaker="open")},
    "pause": {"hot": Hot(sent=40, pause_until=200.0)},
    "pace": {"hot": Hot(sent=40, bound={"pace": 90})},
}


@pytest.mark.parametrize("state", STATES)
def test_a_lane_from_the_history_says_what_lanes_said_then(state: str) -> None:
    """A chart that names another limit than `nightmill lanes` did would be believed."""
    before, now = lane(), lane(110.0, **STATES[state])
    stored = [
        lane_of(
            msgspec.json.decode(msgspec.json.encode(lane_point(each)), type=type(lane_point(each))),
            "a",
            "m",
        )
        for each in (before, now)
    ]
    then, kept = Look(before=before, now=now), Look(before=stored[0], now=stored[1])
    assert kept.limited_by == then.limited_by
    for dimension in ("requests", "input", "output"):
        assert kept.rate(dimension) == then.rate(dimension)
        assert kept.now.limit(dimension) == pytest.approx(then.now.limit(dimension))
        assert kept.used(dimension) == pytest.approx(then.used(dimension))
    assert kept.now.in_flight == then.now.in_flight
    assert kept.now.orders.window == then.now.orders.window
    assert kept.now.finished == then.now.finished


async def read(
    redis: Redis, ages: Mapping[int, Totals], *, since: int = 3600, span: str = "hour"
) -> History:
    """Write points of the fleet, by their age in seconds, and read them."""
    seconds, _ = await redis.time()
    for age, point in ages.items():
        raw = msgspec.json.encode(msgspec.structs.replace(point, at=seconds - age))
        await redis.execute_command("RPUSH", keys.history(span, FLEET), raw)
    return await read_history(redis, since=seconds - since)


async def test_a_time_without_points_is_a_gap(redis: Redis) -> None:
    """Zeros would say that the fleet did nothing; nobody knows what it did."""
    points = {age: Totals(at=0, succeeded=100 - int(age)) for age in (90, 80, 40, 30)}
    history = await read(redis, points)
    assert [(round(each.seconds), each.ended) for each in history.fleet] == [(10, 10), (10, 10)]


async def test_one_missing_point_is_bridged(redis: Redis) -> None:
    """Counters tell what happened over two steps as well as over one."""
    points = {age: Totals(at=0, succeeded=100 - int(age)) for age in (50, 30, 20)}
    assert [each.ended for each in (await read(redis, points)).fleet] == [20, 10]


async def test_counters_that_begin_anew_are_a_gap(redis: Redis) -> None:
    """Redis lost its memory, or rows were removed: what was gained is not known."""
    points = {
        30: Totals(at=0, succeeded=9, output_tokens=900),
        20: Totals(at=0, succeeded=1, output_tokens=10),
        10: Totals(at=0, succeeded=3, output_tokens=30),
    }
    assert [each.ended for each in (await read(redis, points)).fleet] == [2]


async def test_jobs_that_run_again_do_not_undo_what_ended(redis: Redis) -> None:
    """`retry` takes failed jobs out of the failed ones; the interval has no negative count."""
    points = {20: Totals(at=0, succeeded=5, failed=5), 10: Totals(at=0, succeeded=7, failed=0)}
    (interval,) = (await read(redis, points)).fleet
    assert (interval.gained("failed"), interval.ended) == (0, 2)


async def test_what_cannot_be_read_is_left_out(redis: Redis) -> None:
    """Other programs may write to these lists; a page must not fail for it."""
    for raw in (b"{}", b"[", b"\xff", b'["x"]', b"[1e99]", b"[null]", b"[-5]"):
        await redis.execute_command("RPUSH", keys.history("hour", FLEET), raw)
    points = {20: Totals(at=0, succeeded=5), 10: Totals(at=0, succeeded=7)}
    assert [each.ended for each in (await read(redis, points)).fleet] == [2]


async def test_points_of_a_later_version_are_read(redis: Redis) -> None:
    """It may add elements at the end."""
    seconds, _ = await redis.time()
    for age, done in ((20, 1), (10, 4)):
        raw = [*msgspec.to_builtins(Totals(at=seconds - age, succeeded=done)), "new", 5]
        await redis.execute_command("RPUSH", keys.history("hour", FLEET), msgspec.json.encode(raw))
    assert [each.ended for each in (await read_history(redis, since=seconds - 60)).fleet] == [3]


async def test_a_moment_more_than_an_hour_ago_reads_the_day(redis: Redis) -> None:
    """The points of the day are further apart, and so are its gaps."""
    points = {age: Totals(at=0, succeeded=8000 - int(age)) for age in (7800, 7680, 7560, 7000)}
    history = await read(redis, points, since=DAY.seconds, span="day")
    assert history.step_s == DAY.step_s
    assert [each.ended for each in history.fleet] == [120, 120]


async def test_only_the_time_asked_for_is_returned(redis: Redis) -> None:
    """A page that is refreshed asks for what is new."""
    points = {age: Totals(at=0, succeeded=5000 - int(age)) for age in range(600, 0, -10)}
    history = await read(redis, points, since=60)
    assert 6 <= len(history.fleet) <= 8
    assert history.step_s == HOUR.step_s


async def test_lanes_and_batches_are_read_by_name(redis: Redis) -> None:
    """A lane's name may have colons; a batch without points has no intervals."""
    seconds, _ = await redis.time()
    await redis.execute_command("SADD", keys.LANES, "acc:m:with:colons")
    for age in (20, 10):
        point = msgspec.structs.replace(lane_point(lane()), at=seconds - age, sent=100 - age)
        key = keys.history("hour", lane_series("acc", "m:with:colons"))
        await redis.execute_command("RPUSH", key, msgspec.json.encode(point))
    history = await read_history(redis, since=seconds - 60, batches=["night"])
    (found,) = history.lanes
    assert (found.account, found.model, len(found.looks)) == ("acc", "m:with:colons", 1)
    assert history.batches == {"night": ()}


def test_the_fleet_is_the_sum_of_its_batches() -> None:
    """Every number of the overview equals those of the batches."""
    counts = [
        Counts(
            queued=2, snoozed=1, succeeded=3, nanodollars=7, wasted={"failed": 2, "repeated": 3}
        ),
        Counts(retrying=4, failed=1, input_tokens=10, wasted={"failed": 1}),
    ]
    found = totals(5.0, counts)
    assert (found.waiting, found.succeeded, found.failed) == (7, 3, 1)
    assert (found.nanodollars, found.wasted, found.input_tokens) == (7, 6, 10)
