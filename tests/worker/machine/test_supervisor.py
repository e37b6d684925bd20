"""The supervisor with real worker processes: restarts, drains, and knows when to give up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nightmill_worker.machine.supervisor import Supervisor, WorkersFailedError
from tests.rig import Rig, hello, rigged, until


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but workers; calls take half a minute."""
    async with rigged(redis_url, tmp_path) as rig:
        rig.sim.configure(latency_s=30)
        yield rig


@asynccontextmanager
async def supervised(rig: Rig, count: int = 1) -> AsyncIterator[Supervisor]:
    """Run a supervisor for the length of a block; its workers end with it."""
    with (rig.settings.data_dir / "log").open("wb") as log:
        supervisor = Supervisor(rig.settings, count, log=log)
        running = asyncio.create_task(supervisor.run())
        try:
            yield supervisor
        finally:
            supervisor.stop()
            supervisor.stop()
            async with asyncio.timeout(20):
                await running


async def test_a_dead_worker_is_started_again(rig: Rig) -> None:
    """And the job it held is called by its successor."""
    await rig.producer.enqueue(hello())
    async with supervised(rig) as supervisor:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        [pid] = supervisor.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1 and len(supervisor.pids) == 1)
        assert supervisor.pids != [pid]
        await rig.sim.until(lambda: rig.calls() == 2)


async def test_stop_drains_and_a_second_stop_ends_at_once(rig: Rig) -> None:
    """The first lets a call of half a minute go on, the second gives it back."""
    await rig.producer.enqueue(hello())
    rig.settings = rig.settings.model_copy(update={"grace_s": 60})
    async with supervised(rig) as supervisor:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        supervisor.stop()
        await asyncio.sleep(0.3)
        assert (len(supervisor.pids), rig.sim.in_flight) == (1, 1)
        supervisor.stop()
        await until(lambda: not supervisor.pids)
    assert supervisor.restarts == 0


async def test_settings_that_cannot_work_are_not_tried_again(rig: Rig) -> None:
    """Exit code 2 is the worker's word that another start would end the same."""
    rig.settings = rig.settings.model_copy(update={"redis_url": "nonsense://"})
    path = rig.settings.data_dir / "log"
    with path.open("wb") as log:
        supervisor = Supervisor(rig.settings, 2, log=log)
        with pytest.raises(WorkersFailedError):
            async with asyncio.timeout(20):
                await supervisor.run()
    assert (supervisor.restarts, supervisor.pids) == (0, [])
    assert b"NIGHTMILL_REDIS_URL" in path.read_bytes()


async def test_stop_does_not_wait_for_a_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies young is started again later and later; stop is at once."""
    monkeypatch.setattr("nightmill_worker.machine.supervisor.RESTART_S", (60.0, 60.0))
    async with supervised(rig) as supervisor:
        await until(lambda: len(supervisor.pids) == 1)
        os.kill(supervisor.pids[0], signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 5


async def test_a_stop_right_after_the_start_is_heard(rig: Rig) -> None:
    """Also while a process is being made, when it has no pid to signal yet."""
    async with supervised(rig, 2):
        await asyncio.sleep(0)
