"""A value that raises ends neither the worker nor its neighbours."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.records.state import JobState
from nightmill_worker.attachments import loader
from nightmill_worker.events import ClaimsHeld, JobFaulted, LoopFailed
from nightmill_worker.jobs import defects, executor
from tests.rig import Rig, hello, rigged, until


@pytest.fixture
async def rig(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Return everything but a worker; waits after an exception are short."""
    monkeypatch.setattr(defects, "BACKOFF_S", (0.01, 0.01))
    monkeypatch.setattr(defects, "HOLD_S", (0.05, 0.05))
    async with rigged(redis_url, tmp_path) as started:
        yield started


def break_jobs(monkeypatch: pytest.MonkeyPatch, word: bytes) -> None:
    """Let nightmill raise before the call of each request that holds `word`."""
    real = loader.attached

    def broken(body: bytes) -> bool:
        if word in body:
            raise LookupError("a defect")
        return real(body)

    monkeypatch.setattr(executor, "attached", broken)


async def test_a_job_that_raises_fails_while_others_pass(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried three times; its row says what was raised, and the worker goes on."""
    break_jobs(monkeypatch, b"bad")
    items = [{"custom_id": f"{n}", **hello("bad" if n == 7 else f"{n}")} for n in range(30)]
    await rig.producer.enqueue_many(items, batch="night")
    async with rig.working(max_in_flight=2):
        row = await rig.row("night:7")
        for n in range(30):
            await rig.row(f"night:{n}")
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert (row.error.type, row.error.message) == ("internal_error", "LookupError: a defect")
    assert len(row.attempts) == defects.TRIALS
    assert (await rig.store.counts("night"))[JobState.SUCCEEDED] == 29
    assert rig.calls() == 29
    assert "in broken" in rig.events_of(JobFaulted)[0].traceback


async def test_a_broken_deployment_fails_no_job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same exception met three jobs: claims are held, and go on once it is gone."""
    with monkeypatch.context() as patch:
        break_jobs(patch, b"messages")
        await rig.producer.enqueue_many(
            ({"custom_id": f"{n}", **hello(f"{n}")} for n in range(30)), batch="night"
        )
        async with rig.working(max_in_flight=5):
            await until(lambda: rig.events_of(ClaimsHeld))
            assert "LookupError at test_guards.py" in rig.events_of(ClaimsHeld)[0].problem
            faults = len(rig.events_of(JobFaulted))
            assert faults <= 10
            await until(lambda: len(rig.events_of(JobFaulted)) > faults)  # a trial, one job
            assert sum((await rig.store.counts("night")).values()) == 0
            patch.undo()
            for n in range(30):
                assert (await rig.row(f"night:{n}")).status is JobState.SUCCEEDED
    assert rig.calls() == 30


async def test_a_loop_that_raises_goes_on(rig: Rig) -> None:
    """The governor, the leases, the sweep, the webhooks: each is reported and repeated."""
    async with rig.working() as worker:
        background = worker._background
        real = background._governor.tick
        raised: list[int] = []

        async def tick() -> bool:
            if not raised:
                raised.append(1)
                raise ZeroDivisionError("float division by zero")
            return await real()

        background._governor.tick = tick  # type: ignore[method-assign]
        await until(lambda: rig.events_of(LoopFailed))
        receipt = await rig.producer.enqueue(hello())
        assert (await rig.row(receipt.job_id)).status is JobState.SUCCEEDED
    (event,) = rig.events_of(LoopFailed)
    assert (event.loop, event.problem) == ("govern", "ZeroDivisionError: float division by zero")


async def test_a_loop_whose_connection_is_closed_under_it_reports_nothing(rig: Rig) -> None:
    """A worker that was refused at its start ended with a traceback of its beat now and then."""
    async with rig.working() as worker:
        background = worker._background
        waiting = asyncio.Event()

        async def deliver() -> None:
            waiting.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:  # as wait_for of Python 3.11 may do
                raise AttributeError("'NoneType' object has no attribute 'writelines'") from None

        background._beat = lambda *_: deliver()  # type: ignore[method-assign]
        background._delivery.run = deliver  # type: ignore[method-assign]
        await waiting.wait()
    assert rig.events_of(LoopFailed) == []


async def test_a_loop_that_is_done_wakes_no_idle_worker(rig: Rig) -> None:
    """The leases of dead workers are released once; looking on twice a second was CPU time."""
    calls: list[int] = []

    class Dead:
        async def release(self) -> bool:
            calls.append(1)
            return len(calls) == 2

    async with rig.working() as worker:
        background = copy.copy(worker._background)  # the worker's own loop goes on beside it
        background._dead = Dead()  # type: ignore[assignment]
        looks: list[int] = []

        async def look() -> None:
            looks.append(1)
            await background._release_dead()

        repeated = asyncio.create_task(background._repeat("dead", look, 0))
        await until(lambda: len(calls) == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        repeated.cancel()
    assert len(calls) == len(looks) == 2, "the last one goes on waiting"


async def test_a_claim_that_raises_is_repeated(rig: Rig) -> None:
    """One value that a claim brings must not end the worker."""
    receipt = await rig.producer.enqueue(hello())
    async with rig.working() as worker:
        real = worker._scripts.claim
        raised: list[int] = []

        async def claim(ask: object) -> object:
            if not raised:
                raised.append(1)
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a queue's name")
            return await real(ask)  # type: ignore[arg-type]

        worker._scripts.claim = claim  # type: ignore[assignment,method-assign]
        assert (await rig.row(receipt.job_id)).status is JobState.SUCCEEDED
    assert rig.events_of(LoopFailed)[0].loop == "claim"


@pytest.mark.parametrize("field", ["seq", "run", "expires_at"])
async def test_a_number_over_64_bits_concerns_its_own_job(rig: Rig, field: str) -> None:
    """Its eight neighbours were paid three times, and the job never ended."""
    neighbours = [{"custom_id": f"{n}", **hello(f"{n}")} for n in range(8)]
    await rig.producer.enqueue_many(neighbours, batch="night")
    params = {"model": "claude-opus-4-6", **hello("bad")}
    job = {"params": params, "batch": "night", "custom_id": "bad", field: 2**63}
    payload = msgspec.json.encode({"t": None, "f": "generate", "a": [], "k": job, "et": 1})
    await rig.redis.set(keys.PAYLOAD + "night:bad", payload)
    queue = keys.batch_queue("night", "claude-opus-4-6")
    await rig.redis.zadd(queue, {"night:bad": 1})
    await rig.work_off()
    row = await rig.row("night:bad")
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert row.error.type == "invalid_payload"
    assert field in row.error.message
    assert await rig.redis.hget(keys.QUARANTINE, "night:bad") == payload  # type: ignore[misc]
    for n in range(8):
        assert (await rig.row(f"night:{n}")).status is JobState.SUCCEEDED
    assert rig.calls() == 8
