"""Faults of what is enqueued: what must be refused, what must not be loaded, what was paid for."""

from __future__ import annotations

import os
import pickle
import random
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arq import ArqRedis
from redis.asyncio import ConnectionPool

from nightmill import InvalidParamsError, NightmillError, Producer
from nightmill.maintenance.requeue import requeue
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from nightmill.records.state import JobState
from tests.chaos.mill import BATCH, Mill, milling
from tests.chaos.report import Report, judge
from tests.rig import hello, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightmill.records.result import Result

MB: Final = 1_000_000


def bad_requests() -> Iterator[tuple[Mapping[str, object] | bytes, str]]:
    """Yield requests that break the contract, and the field to blame.

    It is "" for the whole of what is no JSON, is too deep for it, or too large.
    """
    yield {**hello(), "max_tokens": "many"}, "max_tokens"
    yield {**hello(), "messages": "hello"}, "messages"
    yield {**hello(), "messages": [{"role": "user"}]}, "messages.0.content"
    half = [{"role": "user", "content": "half \ud83d"}]
    yield {**hello(), "messages": half}, "messages.0.content"
    yield {**hello(), "metadata": {"of": float("nan")}}, "metadata.of"
    yield {**hello(), "extra": {"of": b"bytes"}}, "extra.of"
    yield {"params": hello(), "colour": "red"}, "colour"
    yield b'{"messages": ' + b"[" * 50_000, ""
    yield b'{"messages": [', ""
    yield b'{"messages": "\xff"}', ""
    yield b"\x80\x04K\x01.", ""
    yield hello("a" * 2 * MB), ""
    yield hello("a" * 100 * MB), ""
    yield b'{"messages": "' + b"a" * 100 * MB + b'"}', ""


async def refused(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Enqueue what no endpoint would take, between good requests: nothing of such a call stays."""
    async with milling(folder, latency_s=0.1) as mill:
        wrong = []
        async with Producer(settings=mill.settings) as producer:
            for number, (request, field) in enumerate(bad_requests()):
                blamed = await _blamed(producer, request, f"bad-{number}")
                if blamed != field:
                    wrong.append((number, field, blamed))
        left = await mill.redis.dbsize()
        await mill.feed(range(20))
        await mill.start_workers(1)
        await mill.wait_for_rows(20)
        report = await judge(mill, "requests that must be refused", 20, extra=0)
        report.expect(f"refused, naming the field: {wrong}", kept=not wrong)
        report.expect(f"nothing half-enqueued: {left} keys", kept=left == 0)
        return report


async def _blamed(
    producer: Producer, request: Mapping[str, object] | bytes, name: str
) -> str | None:
    """Enqueue one request, and where it is a mapping one among many; return the field blamed."""
    try:
        if isinstance(request, bytes):
            await producer.enqueue(request, batch=BATCH, custom_id=name)
        else:
            good = {"custom_id": f"good beside {name}", **hello()}
            await producer.enqueue_many([good, {"custom_id": name, **request}], batch=BATCH)
    except InvalidParamsError as error:
        return error.field
    return None


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Take the folder."""
        self._path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Say how to make this object anew."""
        return os.mkdir, (self._path,)


async def pickles(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Put pickles that run code where jobs and results are: by hand, and by arq with its own."""
    trap = folder / "trap"
    jobs = 20
    async with milling(folder, latency_s=0.1) as mill:
        await mill.feed(range(jobs))
        planted = await _plant(mill, trap)
        await mill.start_workers(2)
        await mill.wait_for_rows(jobs)
        rows = await _rows_of(mill, planted)
        await mill.redis.set(keys.RESULT + "looked-at", pickle.dumps(Trap(trap)))
        async with Producer(settings=mill.settings) as producer:
            try:
                told: object = await producer.result("looked-at")
            except NightmillError as error:
                told = error
        kept = set(await mill.redis.execute_command("HKEYS", keys.QUARANTINE))
        report = await judge(mill, "malicious pickles", jobs, extra=0)
        report.expect("never loaded", kept=not trap.exists())
        report.expect(f"a pickled result is refused: {told}", kept=isinstance(told, Exception))
        report.expect(f"quarantined: {kept}", kept=kept == {name.encode() for name in planted})
        types = {row.error.type if row.error else None for row in rows}
        report.expect(f"failed as invalid_payload: {types}", kept=types == {"invalid_payload"})
        return report


async def _plant(mill: Mill, trap: Path) -> list[str]:
    """Queue pickles as single jobs and in a batch; return their ids."""
    payload = pickle.dumps({"t": None, "f": "generate", "a": (Trap(trap),), "k": {}, "et": 1})
    queue = keys.batch_queue("planted", mill.settings.model)
    single, batched = "planted-alone", keys.job_id("planted", "in a batch")
    for name, where in ((single, keys.QUEUE), (batched, queue)):
        await mill.redis.set(keys.PAYLOAD + name, payload)
        await mill.redis.zadd(where, {name: time.time() * 1000})
    await mill.redis.execute_command("SADD", keys.QUEUES, queue)
    pool = ConnectionPool.from_url(f"unix://{mill.socket}")
    arq = ArqRedis(pool, default_queue_name=keys.QUEUE)  # pickles, unless told otherwise
    await arq.enqueue_job("generate", hello(), Trap(trap), _job_id="planted-by-arq")
    await arq.aclose(close_connection_pool=True)
    return [single, batched, "planted-by-arq"]


async def _rows_of(mill: Mill, names: list[str]) -> list[Result]:
    assert mill.store
    store = mill.store

    async def found() -> bool:
        return len(await store.lookup(names)) == len(names)

    await until(found)
    return [row for name in names if (row := await store.get(name))]


async def repeats(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Enqueue, run and requeue what has ended: only what is requeued is called again, once."""
    jobs = 100 * scale
    async with milling(folder, latency_s=0.1, canary=0) as mill:
        await mill.configure(faults=[{"status": 400, "share": 0.3}])
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        await mill.wait_for_rows(jobs)
        first = {row.job_id: row for row in await mill.results()}
        failed = {name for name, row in first.items() if row.status is JobState.FAILED}
        await mill.configure(faults=[])
        await mill.feed(range(jobs))  # Redis remembers their ends
        for name in first:
            await mill.redis.delete(keys.RESULT + name)
        await mill.feed(range(jobs))  # it does not any more: the store does
        await until(lambda: _none_queued(mill))
        unpaid = (await mill.stats())["totals"]["calls"] == jobs
        requeued = await _requeue(mill)
        await until(lambda: _none_queued(mill))
        again = await _requeue(mill)  # nothing is failed now
        second = {row.job_id: row for row in await mill.results()}
        report = await judge(mill, "finished ids enqueued and requeued", jobs, extra=len(failed))
        report.expect("a stored row is never paid for again", kept=unpaid)
        report.expect(f"{len(failed)} requeued", kept=0 < len(failed) == requeued and not again)
        kept = all(_follows(first[name], second[name]) for name in failed)
        report.expect("a requeue's row keeps the attempts before it", kept=kept)
        same = all(first[name] == second[name] for name in set(first) - failed)
        report.expect("the other rows stand", kept=same)
        return report


def _follows(first: Result, second: Result) -> bool:
    """Tell whether `second` is the row of the next run, with the attempts of the first."""
    before, after = first.attempts, second.attempts
    one_more = len(after) == len(before) + 1 and after[: len(before)] == before
    return second.run == first.run + 1 and one_more


async def _none_queued(mill: Mill) -> bool:
    return not await mill.queued()


async def _requeue(mill: Mill) -> int:
    assert mill.store
    async with aclosing(connect(mill.settings)) as redis, Producer(settings=mill.settings) as told:
        return (await requeue(BATCH, mill.store, told, Batches(redis))).new
