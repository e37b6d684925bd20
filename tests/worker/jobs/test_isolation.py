"""Jobs under which two workers died run in a process of their own, while others go on."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from nightmill.queue import keys
from nightmill.records.state import JobState
from nightmill_worker.events import JobFaulted, JobQuarantined
from nightmill_worker.jobs import isolation
from tests.rig import Rig, hello, rigged, until

MORTAL = Path(__file__).with_name("mortal.py")


@pytest.fixture
async def rig(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Return everything but a worker, whose isolation process "poison" ends."""
    monkeypatch.setattr(isolation, "COMMAND", (sys.executable, str(MORTAL)))
    async with rigged(redis_url, tmp_path) as started:
        yield started


async def suspect(rig: Rig, name: str, text: str, **more: object) -> None:
    """Enqueue a job under which two workers died."""
    await rig.producer.enqueue(hello(text), job_id=name, **more)  # type: ignore[arg-type]
    record = (keys.RECORD + name, "state", "retrying", "deaths", 2)
    await rig.redis.execute_command("HSET", *record)


async def test_a_suspect_succeeds_while_other_jobs_run(rig: Rig) -> None:
    """Claims stopped while such a job ran: 30 of them took 6.8 s instead of 0.8 s."""
    rig.sim.configure(latency_s=0.5)
    await suspect(rig, "suspect", "hello")
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        await rig.producer.enqueue_many(hello(f"{n}") for n in range(3))
        await rig.sim.until(lambda: rig.sim.in_flight == 4)
        row = await rig.row("suspect")
    assert (row.status, row.attempt_count) == (JobState.SUCCEEDED, 1)
    assert row.text


async def test_suspects_run_beside_each_other(rig: Rig) -> None:
    """After a crash of many workers, one at a time took a second for each job."""
    rig.sim.configure(latency_s=5)
    for name in ("a", "b", "c"):
        await suspect(rig, name, "hello")
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 3)
        rig.sim.configure(latency_s=0)


async def test_a_job_that_ends_its_process_three_times_is_poison(rig: Rig) -> None:
    """Its worker lives, and no other job is touched."""
    await suspect(rig, "bad", "poison")
    good = await rig.producer.enqueue(hello("good"))
    async with rig.working() as worker:
        row = await rig.row("bad")
        assert (await rig.row(good.job_id)).status is JobState.SUCCEEDED
        assert worker.registry.running == 0
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert row.error.type == "poison"
    assert "died 3 times (exit code 9)" in row.error.message
    assert [attempt.outcome for attempt in row.attempts] == ["lost"] * isolation.PROOF
    assert rig.events_of(JobQuarantined)
    assert rig.calls() == 1


async def test_poison_in_a_batch_keeps_its_name_and_its_run(rig: Rig) -> None:
    """Its payload is not decoded in the worker: that may be what ends a process."""
    items = [{"custom_id": "c:1", **hello("poison")}]
    await rig.producer.enqueue_many(items, batch="night")
    await rig.redis.execute_command("HSET", keys.RECORD + "night:c:1", "deaths", 2)
    async with rig.working():
        row = await rig.row("night:c:1")
    assert (row.batch, row.custom_id, row.status) == ("night", "c:1", JobState.FAILED)
    assert (await rig.store.counts("night"))[JobState.FAILED] == 1


async def test_an_aborted_suspect_ends_with_its_call(rig: Rig) -> None:
    """Claims go on, and the next such job gets a new process."""
    rig.sim.configure(latency_s=5)
    await suspect(rig, "first", "hello")
    await suspect(rig, "second", "hello again")
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        await rig.redis.zadd(keys.ABORTS, {"first": 1})
        assert (await rig.row("first")).status is JobState.CANCELLED
        rig.sim.configure(latency_s=0)
        assert (await rig.row("second")).status is JobState.SUCCEEDED


async def test_a_suspect_whose_row_is_there_is_not_paid_again(rig: Rig) -> None:
    """It died between commit and finish: its process answers that it is stored."""
    receipt = await rig.producer.enqueue(hello(), job_id="done")
    await rig.work_off()
    await rig.redis.delete(keys.RESULT + "done")
    await suspect(rig, receipt.job_id, "hello")
    async with rig.working():
        await until(lambda: _gone(rig, "done"))
    assert rig.calls() == 1


async def _gone(rig: Rig, name: str) -> bool:
    return not await rig.redis.exists(keys.PAYLOAD + name)


async def test_an_expired_suspect_is_not_called(rig: Rig) -> None:
    """Its process finds out, since the worker does not read it."""
    await suspect(rig, "late", "hello", expires=timedelta(seconds=-1))
    async with rig.working():
        assert (await rig.row("late")).status is JobState.EXPIRED
    assert rig.calls() == 0


def noted(starts: Path, ends: int = 0) -> tuple[str, ...]:
    """Return a command that notes each start; so many of the first processes end at once."""
    early = f"[ $(wc -l < {starts}) -gt {ends} ] || exit 1"
    return ("sh", "-c", f"echo >> {starts}; {early}; exec {sys.executable} {MORTAL}")


async def test_a_process_runs_one_suspect_after_another(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended after each answer, and a job that met its end on a busy machine became poison."""
    monkeypatch.setattr(isolation, "COMMAND", noted(tmp_path / "starts"))
    async with rig.working():
        for name in ("first", "second", "third"):
            await suspect(rig, name, "hello")
            row = await rig.row(name)
            assert (row.status, row.attempt_count, row.snooze_count) == (JobState.SUCCEEDED, 1, 0)
    assert (tmp_path / "starts").read_text() == "\n"


async def test_a_process_that_ends_before_it_has_the_job_proves_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that could not start counted as the death of a good job: three made it poison."""
    monkeypatch.setattr(isolation, "COMMAND", noted(tmp_path / "starts", ends=2))
    await suspect(rig, "unlucky", "hello")
    async with rig.working():
        row = await rig.row("unlucky")
    assert (row.status, row.attempt_count, row.snooze_count) == (JobState.SUCCEEDED, 1, 0)


async def test_a_process_that_never_starts_is_a_fault_of_ours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes back and is tried again; it is no poison."""
    monkeypatch.setattr(isolation, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    await suspect(rig, "unlucky", "hello")
    async with rig.working():
        await until(lambda: rig.events_of(JobFaulted))
        assert not rig.events_of(JobQuarantined)
    [fault] = rig.events_of(JobFaulted)
    assert "does not start: exit code 3" in fault.problem
