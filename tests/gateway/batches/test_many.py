"""Many batches at once: a few are fed at a time, and a look sends little to Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from nightmill.message_batches import turns
from nightmill.message_batches.feeding import BatchFeeding
from nightmill.message_batches.keeper import Keeper
from nightmill.message_batches.turns import AT_ONCE, Turns
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.job import now_ms
from nightmill.records.message_batch import MessageBatch, StoredRequest, new_id
from nightmill_gateway.services import open_services
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nightmill.message_batches.connections import Connections
    from nightmill.records.counts import Counts
    from tests.rig import Rig

BODY = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
async def connections(rig: Rig) -> AsyncIterator[Connections]:
    """Return the connections of a gateway that does not look after batches."""
    async with open_services(rig.settings) as services:
        yield services


async def made(connections: Connections, count: int, total: int = 1) -> list[str]:
    """Accept batches, as a gateway does."""
    now, names = now_ms(), []
    batches = connections.message_batches
    for number in range(count):
        name = new_id(now + number)
        await batches.stage(
            name,
            [
                StoredRequest(seq=seq, custom_id=f"c{seq}", model="m", body=BODY)
                for seq in range(1, total + 1)
            ],
        )
        new = MessageBatch(
            batch=name, tenant="default", total=total, created_at=now, expires_at=now + 3_600_000
        )
        await batches.add(new, named_since=name)
        names.append(name)
    return names


async def test_many_batches_are_fed_a_few_at_a_time(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 feeds at once waited for the connections of the store, and each of them timed out."""
    names = await made(connections, 12)
    at_once: list[int] = []
    running = 0
    feed = BatchFeeding.feed

    async def counted(feeding: BatchFeeding) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await feed(feeding)
        running -= 1

    monkeypatch.setattr(BatchFeeding, "feed", counted)
    keeper = Keeper(connections, lambda *args: pytest.fail(str(args)))
    try:
        assert await keeper.look() == len(names)

        async def fed() -> bool:
            counts = await connections.batches.counts_of(names)
            return all(each.total == each.queued == 1 for each in counts.values())

        await until(fed)
    finally:
        await keeper.close()
    assert len(at_once) == len(names), "one look is enough, and each is fed once"
    assert max(at_once) <= AT_ONCE


async def test_a_look_at_batches_that_are_worked_off_starts_nothing(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command reads the counts of all of them."""
    names = await made(connections, 3)
    keeper = Keeper(connections, lambda *args: pytest.fail(str(args)))
    read = Batches._read
    reads: list[int] = []

    async def counted(batches: Batches, names: Sequence[str]) -> list[Counts]:
        reads.append(len(names))
        return await read(batches, names)

    try:
        await keeper.look()

        async def fed() -> bool:
            counts = await connections.batches.counts_of(names)
            busy = keeper._feeds or keeper._steps
            return all(each.total == 1 for each in counts.values()) and not busy

        await until(fed)
        monkeypatch.setattr(Batches, "_read", counted)
        await keeper.look()
        assert not keeper._steps
        assert not keeper._feeds
    finally:
        await keeper.close()
    assert reads == [3]


async def test_work_that_takes_long_does_not_hold_up_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Large batches wait for room in their windows: the small ones behind them go on."""
    monkeypatch.setattr(turns, "TURN_S", 0.01)
    few, ended = Turns(), asyncio.Event()

    async def long() -> None:
        async with few.turn():
            await ended.wait()

    waiting = [asyncio.create_task(long()) for _ in range(3 * AT_ONCE)]
    async with asyncio.timeout(5), few.turn():
        ended.set()
    await asyncio.gather(*waiting)
    assert few._free._value == AT_ONCE, "each turn was given back once"


async def test_a_batch_that_is_deleted_during_the_wait_for_a_turn_is_not_fed(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests may be there while its rows are gone: each would be called again."""
    [name] = await made(connections, 1)
    stored = await connections.message_batches.get("default", name)
    assert stored
    monkeypatch.setattr(BatchFeeding, "step", lambda _: pytest.fail("it is gone"))
    monkeypatch.setattr(BatchFeeding, "feed", lambda _: pytest.fail("it is gone"))
    await connections.message_batches.delete(stored, now_ms())
    keeper = Keeper(connections, lambda *args: pytest.fail(str(args)))
    await keeper._step(BatchFeeding(connections, stored))
    await keeper._feed(BatchFeeding(connections, stored))


async def test_a_key_that_holds_something_else_stops_no_other_batch(
    connections: Connections, rig: Rig
) -> None:
    """One command reads the counts of many batches, and fails for all of them."""
    names = await made(connections, 3)
    await rig.redis.execute_command("SET", keys.BATCH + names[1], "no hash")
    keeper = Keeper(connections, lambda *args: pytest.fail(str(args)))
    try:
        assert await keeper.look() == len(names)

        async def fed() -> bool:
            counts = await connections.batches.counts_of([names[0], names[2]])
            return all(each.total == 1 for each in counts.values())

        await until(fed)
    finally:
        await keeper.close()
