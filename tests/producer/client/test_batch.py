"""Waiting for a batch, in Python and in the shell."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta

import pytest

from nightmill import (
    BatchNotFoundError,
    BatchStoppedError,
    BatchTimeoutError,
    SyncProducer,
)
from nightmill.client.batch import over
from nightmill.enqueue.known import remind
from nightmill.enqueue.reconcile import open_batch
from nightmill.errors import InvalidAcceptanceError, InvalidLimitError
from nightmill.queue.batches import Batches
from nightmill.records.acceptance import from_text
from nightmill.records.counts import Counts
from nightmill_worker.simulator import Fault
from tests.integration.shell import Shell, finish
from tests.rig import Rig, hello


async def enqueue(rig: Rig, count: int = 5, **more: object) -> None:
    """Enqueue a batch."""
    requests = [{"custom_id": f"c{i}", **hello(f"{i}"), **more} for i in range(count)]
    await rig.producer.enqueue_many(requests, batch="night")


async def ran(shell: Shell, *args: str) -> tuple[int, str, str]:
    """Run a command without blocking the worker in this process; return code, output, errors."""
    done = await asyncio.to_thread(shell, *args)
    return done.code, done.out, done.err


async def test_wait_returns_when_every_result_is_stored(rig: Rig) -> None:
    """The end of the calls is not enough: the caller reads the stored results next."""
    rig.sim.configure(latency_s=0.3)
    await enqueue(rig)
    async with rig.working():
        counts = await rig.producer.batch("night").wait(timeout=60)
    assert counts.succeeded == sum((await rig.store.counts("night")).values()) == 5


async def test_a_wait_that_ends_without_results_says_why(rig: Rig) -> None:
    """No worker runs here; and a wait for a misspelt name would have no end."""
    await enqueue(rig)
    with pytest.raises(BatchTimeoutError, match=r"is not done after 0\.2 s; 0 of"):
        await rig.producer.batch("night").wait(0.2)
    with pytest.raises(BatchNotFoundError, match="batches: night"):
        await rig.producer.batch("nihgt").wait()


async def test_a_paused_batch_ends_the_wait_unless_keep_waiting(rig: Rig) -> None:
    """A batch that its canary pauses at night must not leave a script waiting."""
    await enqueue(rig)
    batch = rig.producer.batch("night")
    await batch.pause("to look at it")
    with pytest.raises(BatchStoppedError, match="is paused: to look at it; nightmill resume"):
        await batch.wait()
    waiting = asyncio.create_task(batch.wait(20, keep_waiting=True))
    async with rig.working():
        await batch.resume()
        assert (await waiting).succeeded == 5


async def test_wait_for_a_cancelled_batch_ends_when_its_rows_are_stored(rig: Rig) -> None:
    """Jobs that were not called get rows too, which workers write later."""
    await enqueue(rig)
    batch = rig.producer.batch("night")
    await batch.cancel()
    async with rig.working():
        assert (await batch.wait(20)).cancelled == 5
    assert (rig.calls(), sum((await rig.store.counts("night")).values())) == (0, 5)


async def test_a_budget_ends_the_wait_and_a_larger_one_lets_it_go_on(rig: Rig) -> None:
    """A program can set limits of a batch before it enqueues the first job."""
    batch = rig.producer.batch("night")
    await batch.limit(budget_tokens=1, expires=timedelta(hours=8))
    await enqueue(rig)
    async with rig.working():
        with pytest.raises(BatchStoppedError, match=r"is paused: budget: \S+ of 1 tokens are used"):
            await batch.wait(20)
        limits = await batch.limit(budget_tokens=100_000)
        assert limits.expires_at is not None
        assert (await batch.wait(20)).succeeded == 5
    with pytest.raises(InvalidLimitError, match="weight: 1 to 1000, not 0"):
        await batch.limit(weight=0)


async def test_a_stopped_account_and_lost_jobs_end_the_wait(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither ends by itself, so the error says what to do."""
    monkeypatch.setattr("nightmill.client.batch.STANDSTILL_S", 0.1)
    rig.sim.configure(auth="another key")
    await enqueue(rig)
    async with rig.working():
        with pytest.raises(
            BatchStoppedError, match=r"is stopped: the endpoint refused the key \(401 "
        ):
            await rig.producer.batch("night").wait(20)
    await rig.redis.flushall()
    await open_batch(Batches(rig.redis), "night", None)
    await rig.redis.hset("nightmill:batch:night", "total", "5")  # type: ignore[misc]
    with pytest.raises(BatchStoppedError, match="5 jobs neither queued nor stored"):
        await rig.producer.batch("night").wait(20)


async def test_a_program_without_a_loop_waits_too(rig: Rig) -> None:
    """SyncBatch has the same methods as plain calls."""
    await enqueue(rig)

    def wait() -> Counts:
        with SyncProducer(settings=rig.settings) as producer:
            batch = producer.batch("night")
            batch.pause()
            assert batch.counts().flag == "paused"
            batch.resume()
            return batch.wait(20)

    async with rig.working():
        assert (await asyncio.to_thread(wait)).succeeded == 5


def test_a_batch_has_ended_when_nothing_more_will_come_of_it() -> None:
    """A source that is still read may be drained for a moment; a cancelled one never fills up."""
    assert over(Counts(total=5, succeeded=5, feeding=True))
    assert over(Counts(succeeded=5))
    assert over(Counts(fed=True, cancelled=5, flag="cancelled"))
    assert not over(Counts(succeeded=5, feeding=True))
    assert not over(Counts(total=9, succeeded=5))
    assert not over(Counts(fed=True, succeeded=5))
    assert not over(Counts(total=9, cancelled=5, flag="cancelled"))
    assert not over(Counts(total=9, cancelled=5, in_flight=1, flag="cancelled"))


async def test_the_exit_code_of_the_command_says_how_the_batch_ended(
    rig: Rig, shell: Shell
) -> None:
    """0 all succeeded, 1 some did not, 2 no such batch, 3 paused, 124 timed out."""
    await enqueue(rig)
    assert (await ran(shell, "wait", "night", "--timeout", "0"))[0] == 124
    code, out, err = await ran(shell, "wait", "nihgt")
    assert (code, out) == (2, "")
    assert 'no batch "nihgt"' in err
    batch = rig.producer.batch("night")
    await batch.pause("why not")
    code, out, err = await ran(shell, "wait", "night")
    assert (code, out) == (3, "night: 0 succeeded, 5 left\n")
    assert "is paused: why not" in err
    await batch.resume()
    async with rig.working():
        code, out, _ = await ran(shell, "wait", "night", "--json")
        assert (code, json.loads(out)["succeeded"]) == (0, 5)
        rig.sim.configure(faults=(Fault(status=400, share=1.0),))
        await rig.producer.enqueue(hello(), batch="night", custom_id="bad")
        code, out, _ = await ran(shell, "wait", "night", "--timeout", "20")
    assert (code, out) == (1, "night: 5 succeeded (5 cut at max_tokens), 1 failed\n")


async def test_a_ctrl_c_ends_the_command_at_once(rig: Rig, shell: Shell) -> None:
    """It only looks on: nothing is to be said or saved."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="later", delay=timedelta(hours=1))

    def interrupt() -> None:
        with shell.started("wait", "night") as process:
            assert process.stderr is not None
            assert "0 done" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            finish(process, 130)

    await asyncio.to_thread(interrupt)


async def test_an_acceptance_is_kept_with_its_batch(rig: Rig) -> None:
    """It is set before a job is fed, changed in parts, and found again when Redis lost it."""
    batch, batches = rig.producer.batch("night"), Batches(rig.redis)
    await batch.accept(on_truncated="grow", max_tokens_ceiling=4096)
    accept = await batch.accept(on_refusal="fail")
    assert (accept.on_truncated, accept.on_refusal) == ("grow", "fail")
    await open_batch(batches, "night", rig.store)
    await rig.redis.flushdb()
    assert (await batches.counts("night")).accept == ""
    await remind(batches, "night", rig.store)
    assert from_text((await batches.counts("night")).accept) == accept
    assert await rig.redis.execute_command("HGET", "nightmill:batch:night", "accept_id")
    with pytest.raises(InvalidAcceptanceError, match="on_pause: given 'stop'; allowed: continue"):
        await batch.accept(on_pause="stop")  # type: ignore[arg-type]
