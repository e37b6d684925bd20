"""The supervisor with real worker processes: it restarts, drains, and gives up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nightmill import load_settings
from nightmill.queue import crashes
from nightmill_worker.machine import supervisor as module
from nightmill_worker.machine.supervisor import Supervisor, WorkersFailedError
from nightmill_worker.machine.worker_process import WorkerProcess
from tests.rig import Rig, hello, rigged, until


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but workers; a call takes 30 s."""
    async with rigged(redis_url, tmp_path) as rig:
        rig.sim.configure(latency_s=30)
        yield rig


@asynccontextmanager
async def supervised(rig: Rig, count: int = 1) -> AsyncIterator[Supervisor]:
    """Run a supervisor for the length of a block and stop its workers at once at the end."""
    with (rig.settings.data_dir / "log").open("wb") as log:
        supervisor = Supervisor(rig.settings, count, log=log)
        running = asyncio.create_task(supervisor.run())
        try:
            yield supervisor
        finally:
            supervisor.stop(at_once=True)
            async with asyncio.timeout(60):
                await running


async def test_a_dead_worker_is_started_again(rig: Rig) -> None:
    """Its successor calls the job that it held."""
    await rig.producer.enqueue(hello())
    async with supervised(rig) as supervisor:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        [pid] = supervisor.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1 and len(supervisor.pids) == 1)
        assert supervisor.pids != [pid]
        await rig.sim.until(lambda: rig.calls() == 2)


async def test_the_death_of_a_worker_is_an_event_of_the_log(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was plain text among lines of JSON, so no log collector could read it."""
    supervisor = Supervisor(rig.settings.model_copy(update={"log_format": "json"}), 1)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor.pids)
    [pid] = supervisor.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.restarts == 1)
    supervisor.stop(at_once=True)
    await running
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "worker died" in each]
    event = json.loads(line)
    assert (event["event"], event["level"], event["pid"]) == ("worker died", "error", pid)
    assert (event["signal"], event["exit_code"], event["restart_in_s"]) == ("SIGKILL", None, 0.5)


def test_a_failed_start_is_told_once(tmp_path: Path) -> None:
    """`run` ended with "error: workers cannot run ...; worker.log ends with: error: ..."."""
    settings = load_settings(data_dir=tmp_path, api_key="k")
    with (tmp_path / "worker.log").open("wb") as log:
        log.write(b"started\nerror: no space left\n")
        log.flush()
        shown = Supervisor(settings, 1, log=log)._end_of_log()
    assert shown == f"no space left (log: {log.name})"


async def test_stops_and_signals_to_workers_let_calls_finish(rig: Rig) -> None:
    """A service manager may signal all processes at the same moment: that is one stop."""
    rig.sim.configure(latency_s=1.5)
    for number in range(10):
        await rig.producer.enqueue(hello(f"{number}"))
    async with supervised(rig, 2) as supervisor:
        await rig.sim.until(lambda: rig.sim.in_flight == 10)
        supervisor.stop()
        for pid in supervisor.pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        supervisor.stop()
        await until(lambda: not supervisor.pids)
    assert rig.sim.ledger.totals.answered == rig.calls() == 10
    assert (supervisor.restarts, supervisor.unclean) == (0, [])


async def test_a_stop_at_once_gives_jobs_back(rig: Rig) -> None:
    """It also works after a graceful stop, and does not wait for a call of 30 s."""
    await rig.producer.enqueue(hello())
    rig.settings = rig.settings.model_copy(update={"grace_s": 60})
    async with supervised(rig) as supervisor:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        supervisor.stop()
        supervisor.stop(at_once=True)
        await until(lambda: not supervisor.pids)
    assert (supervisor.restarts, supervisor.unclean) == (0, [])


async def test_settings_that_cannot_work_are_not_tried_again(rig: Rig) -> None:
    """A worker with exit code 2 would end the same way after another start."""
    rig.settings = rig.settings.model_copy(update={"redis_url": "nonsense://"})
    path = rig.settings.data_dir / "log"
    with path.open("wb") as log:
        supervisor = Supervisor(rig.settings, 2, log=log)
        with pytest.raises(WorkersFailedError):
            async with asyncio.timeout(60):
                await supervisor.run()
    assert (supervisor.restarts, supervisor.pids) == (0, [])
    assert b"NIGHTMILL_REDIS_URL" in path.read_bytes()


async def test_stop_does_not_wait_for_a_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies young is started again later and later; a stop is not delayed."""
    monkeypatch.setattr("nightmill_worker.machine.supervisor.RESTART_S", (60.0, 60.0))
    async with supervised(rig) as supervisor:
        await until(lambda: len(supervisor.pids) == 1)
        os.kill(supervisor.pids[0], signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 5


async def test_a_stop_right_after_the_start_works(rig: Rig) -> None:
    """The process may be starting, and its socket may not exist yet."""
    async with supervised(rig, 2):
        await asyncio.sleep(0)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file; while it exists, worker processes raise soon after their start."""
    flag = tmp_path / "broken"
    flag.touch()
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import sys
from pathlib import Path
if 'nightmill_worker.machine.process' in sys.orig_argv and Path({str(flag)!r}).exists():
    from nightmill_worker.fleet import worker
    async def fail(background, **options):
        raise RuntimeError("the governor\\nfailed")
    worker.Background.run = fail
"""
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(module, "RESTART_S", (0.01, 0.01))
    monkeypatch.setattr(module, "HOPELESS", sys.maxsize)
    return flag


async def test_workers_that_keep_dying_at_start_are_reported(
    rig: Rig, broken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis has the exception for `status`; it is removed once a worker lives for a minute."""
    loop = asyncio.get_running_loop()
    old_enough = loop.create_future()

    async def lives_for(worker: WorkerProcess, _: float) -> bool:
        await asyncio.wait([worker._ended, old_enough], return_when=asyncio.FIRST_COMPLETED)
        return not worker._ended.done()

    monkeypatch.setattr(WorkerProcess, "lives_for", lives_for)
    async with supervised(rig) as supervisor:
        await until(lambda: supervisor.crash, within=60)
        await until(lambda: crashes.read(rig.redis))
        [crash] = await crashes.read(rig.redis)
        assert crash.problem == "RuntimeError: the governor failed"
        assert crash.deaths >= 3
        assert str(crash).startswith("workers keep dying at start: RuntimeError: the governor f")
        assert crash.log.endswith("/log")
        await asyncio.to_thread(broken.unlink)
        await rig.producer.enqueue(hello())
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        old_enough.set_result(None)
        await until(lambda: supervisor.crash is None)
        await until(lambda: has_no_crash(rig))
    assert capsys.readouterr().err.count("workers keep dying at start") == 1


async def has_no_crash(rig: Rig) -> bool:
    """Return whether Redis has no note of a crash."""
    return not await crashes.read(rig.redis)


@pytest.mark.usefixtures("broken")
async def test_a_stop_removes_the_note_of_a_crash(rig: Rig) -> None:
    """Nothing dies any more when no worker is started."""
    async with supervised(rig, 2) as supervisor:
        await until(lambda: supervisor.crash, within=60)
    assert await crashes.read(rig.redis) == []


@pytest.mark.usefixtures("broken")
async def test_the_note_of_a_crash_stays_when_the_supervisor_gives_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` then still shows why no worker runs."""
    monkeypatch.setattr(module, "HOPELESS", 5)
    monkeypatch.setattr(module, "NEWBORN_S", module.YOUNG_S)
    with pytest.raises(WorkersFailedError, match="RuntimeError: the governor failed"):
        await Supervisor(rig.settings, 1).run()
    [crash] = await crashes.read(rig.redis)
    assert crash.deaths == 4


@pytest.mark.usefixtures("broken")
async def test_a_crash_is_shown_without_redis(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Only stderr and `run` have it then."""
    rig.settings = rig.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with supervised(rig) as supervisor:
        await until(lambda: supervisor.crash, within=60)
    assert "workers keep dying at start: RuntimeError" in capsys.readouterr().err
