"""Faults of the input: requests to refuse, pickles never to load, jobs that already have a row."""

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
from nightmill_worker.messages.streaming import FIRST_STREAMS
from tests.chaos.fleet import BATCH, Fleet, running_fleet
from tests.chaos.report import Report, judge
from tests.rig import hello, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightmill.records.result import Result

MB: Final = 1_000_000


def bad_requests() -> Iterator[tuple[Mapping[str, object] | bytes, str]]:
    """Yield requests that break the contract, each with the field that the error must name.

    The field is "" where the whole request is not JSON, too deep or too large.
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
    """Enqueue invalid requests beside good ones: a refused call leaves nothing in Redis."""
    async with running_fleet(folder, latency_s=0.1) as fleet:
        wrong = []
        async with Producer(settings=fleet.settings) as producer:
            for number, (request, field) in enumerate(bad_requests()):
                named = await _field_named(producer, request, f"bad-{number}")
                if named != field:
                    wrong.append((number, field, named))
        left = await fleet.redis.dbsize()
        await fleet.feed(range(20))
        await fleet.start_workers(1)
        await fleet.wait_for_rows(20)
        report = await judge(fleet, "requests that must be refused", 20, extra=0)
        report.expect(f"refused, naming the field: {wrong}", kept=not wrong)
        report.expect(f"nothing half-enqueued: {left} keys", kept=left == 0)
        return report


async def _field_named(
    producer: Producer, request: Mapping[str, object] | bytes, name: str
) -> str | None:
    """Enqueue one request, a mapping together with a good one; return the field of the error."""
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
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Take the folder to create."""
        self._path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return what unpickling calls."""
        return os.mkdir, (self._path,)


async def pickles(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Put pickles that run code into job and result keys: directly, and through plain arq."""
    trap = folder / "trap"
    jobs = 20
    async with running_fleet(folder, latency_s=0.1) as fleet:
        await fleet.feed(range(jobs))
        planted = await _plant(fleet, trap)
        await fleet.start_workers(2)
        await fleet.wait_for_rows(jobs)
        rows = await _rows_of(fleet, planted)
        await fleet.redis.set(keys.RESULT + "looked-at", pickle.dumps(Trap(trap)))
        async with Producer(settings=fleet.settings) as producer:
            try:
                outcome: object = await producer.result("looked-at")
            except NightmillError as error:
                outcome = error
        kept = set(await fleet.redis.execute_command("HKEYS", keys.QUARANTINE))
        report = await judge(fleet, "malicious pickles", jobs, extra=0)
        report.expect("never loaded", kept=not trap.exists())
        report.expect(
            f"a pickled result is refused: {outcome}", kept=isinstance(outcome, Exception)
        )
        report.expect(f"quarantined: {kept}", kept=kept == {name.encode() for name in planted})
        types = {row.error.type if row.error else None for row in rows}
        report.expect(f"failed as invalid_payload: {types}", kept=types == {"invalid_payload"})
        return report


async def _plant(fleet: Fleet, trap: Path) -> list[str]:
    """Queue pickles as single jobs and in a batch; return their ids."""
    payload = pickle.dumps({"t": None, "f": "generate", "a": (Trap(trap),), "k": {}, "et": 1})
    queue = keys.batch_queue("planted", fleet.settings.model)
    single, batched = "planted-alone", keys.job_id("planted", "in a batch")
    for name, where in ((single, keys.QUEUE), (batched, queue)):
        await fleet.redis.set(keys.PAYLOAD + name, payload)
        await fleet.redis.zadd(where, {name: time.time() * 1000})
    await fleet.redis.execute_command("SADD", keys.QUEUES, queue)
    pool = ConnectionPool.from_url(f"unix://{fleet.socket}")
    arq = ArqRedis(pool, default_queue_name=keys.QUEUE)  # it pickles by default
    await arq.enqueue_job("generate", hello(), Trap(trap), _job_id="planted-by-arq")
    await arq.aclose(close_connection_pool=True)
    return [single, batched, "planted-by-arq"]


async def _rows_of(fleet: Fleet, names: list[str]) -> list[Result]:
    assert fleet.store
    store = fleet.store

    async def found() -> bool:
        return len(await store.lookup(names)) == len(names)

    await until(found)
    return [row for name in names if (row := await store.get(name))]


async def repeats(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Enqueue and requeue ended jobs: only requeued ones are called again, once each."""
    jobs = 100 * scale
    async with running_fleet(folder, latency_s=0.1, canary=0) as fleet:
        await fleet.configure(faults=[{"status": 400, "share": 0.3}])
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        await fleet.wait_for_rows(jobs)
        first = {row.job_id: row for row in await fleet.results()}
        failed = {name for name, row in first.items() if row.status is JobState.FAILED}
        # A first call that is streamed and refused is repeated once, unpaid (streaming.py).
        calls = (await fleet.stats())["totals"]["calls"]
        await fleet.configure(faults=[])
        await fleet.feed(range(jobs))  # Redis still has their result keys
        for name in first:
            await fleet.redis.delete(keys.RESULT + name)
        await fleet.feed(range(jobs))  # only the store has them now
        await until(lambda: _none_queued(fleet))
        no_calls = (await fleet.stats())["totals"]["calls"] == calls
        requeued = await _requeue(fleet)
        await until(lambda: _none_queued(fleet))
        again = await _requeue(fleet)  # no failed job is left
        second = {row.job_id: row for row in await fleet.results()}
        extra = len(failed) + calls - jobs
        report = await judge(fleet, "finished ids enqueued and requeued", jobs, extra=extra)
        report.expect(f"{calls} first calls", kept=calls - jobs <= 2 * FIRST_STREAMS)
        report.expect("a stored row is never paid for again", kept=no_calls)
        report.expect(f"{len(failed)} requeued", kept=0 < len(failed) == requeued and not again)
        kept = all(_follows(first[name], second[name]) for name in failed)
        report.expect("a requeue's row keeps the attempts before it", kept=kept)
        same = all(first[name] == second[name] for name in set(first) - failed)
        report.expect("the other rows do not change", kept=same)
        return report


def _follows(first: Result, second: Result) -> bool:
    """Tell whether `second` is the row of the next run and keeps the attempts of the first."""
    before, after = first.attempts, second.attempts
    one_more = len(after) == len(before) + 1 and after[: len(before)] == before
    return second.run == first.run + 1 and one_more


async def _none_queued(fleet: Fleet) -> bool:
    return not await fleet.queued()


async def _requeue(fleet: Fleet) -> int:
    assert fleet.store
    settings = fleet.settings
    async with aclosing(connect(settings)) as redis, Producer(settings=settings) as producer:
        return (await requeue(BATCH, fleet.store, producer, Batches(redis))).new
