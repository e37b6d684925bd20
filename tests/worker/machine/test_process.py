"""A supervised worker process: it always ends, also when its loop or its tasks hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from nightmill_worker.machine import process as worker_process
from nightmill_worker.machine.ahead import SUPERVISED
from nightmill_worker.machine.control import (
    MAX_REPORT,
    UNUSABLE,
    Report,
    Request,
    received,
    send_settings,
)
from nightmill_worker.machine.deadline import FAILED
from tests.rig import Rig, hello, rigged, until

START: Final = """
import sys
from nightmill_worker.machine import deadline, process
process.END_S = 0.5
{patch}
sys.exit(process.main(supervised="--supervised" in sys.argv))
"""
HANGING_CANCEL: Final = """
import asyncio
async def hang(worker, claiming):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
process.FleetWorker._drain = hang
"""
BLOCKED_LOOP: Final = """
import threading
from nightmill_worker.events import WorkerStarted
process.log_events = lambda settings: lambda event: threading.Event().wait()
"""
FAILING_AND_HANGING: Final = """
import asyncio
from nightmill_worker.fleet import worker
async def fail(background, **options):
    raise RuntimeError("the governor failed")
async def hang(*tasks):
    await asyncio.Event().wait()
worker.Background.run = fail
worker.end_tasks = hang
"""
UNSAVED: Final = """
process.FleetWorker.unsaved = 3
"""
UNSAVED_AND_WAITING: Final = """
import asyncio
import os
from pathlib import Path
async def wait(worker, settling):
    await worker._at_once.wait()
process.FleetWorker.unsaved = 3
process.FleetWorker._settle_last = wait
deadline.HOLD_S = 0.05
def held(stopper):
    (Path(os.environ["NIGHTMILL_DATA_DIR"]) / "held").touch()
    return True
process._Stopper._has_unsaved = held
"""
"""The process makes a file when its deadline is over and it goes on."""


class Child:
    """A worker process and the supervisor's end of its control socket."""

    def __init__(self, rig: Rig, patch: str, *options: str) -> None:
        """Start it with `patch` applied to the code before it runs."""
        self.control, theirs = socket.socketpair()
        with theirs, (rig.settings.data_dir / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START.format(patch=patch), *options],
                stdin=theirs.fileno(),
                stderr=log,
                env={**os.environ, **rig.settings.to_env()},
                start_new_session=True,
            )
            if SUPERVISED in options:
                send_settings(self.control, rig.settings.to_env(), log)
        self.log = rig.settings.data_dir / "log"

    def send(self, request: Request) -> None:
        """Send a request as the supervisor does."""
        self.control.send(request.value)

    async def code(self) -> int:
        """Wait for the end of the process; return its exit code."""
        await until(lambda: self.process.poll() is not None)
        return self.process.returncode

    @property
    def reported(self) -> Report | None:
        """What it sent before its end; can be read once."""
        return received(self.control.recv(MAX_REPORT))

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None


@contextmanager
def started(rig: Rig, patch: str = "", *options: str) -> Iterator[Child]:
    """Start a worker process; kill it at the end of the block if it runs."""
    child = Child(rig, patch, *(options or (SUPERVISED,)))
    try:
        yield child
    finally:
        child.process.kill()
        child.process.wait()
        child.control.close()


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but workers; the grace period is 1 s."""
    async with rigged(redis_url, tmp_path, grace_s=1) as rig:
        yield rig


async def test_it_ends_when_its_supervisor_is_gone(rig: Rig) -> None:
    """A call under way has the grace period, and its answer is stored."""
    rig.sim.configure(latency_s=0.5)
    job = await rig.producer.enqueue(hello())
    with started(rig) as child:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        child.control.close()
        assert await child.code() == 0
    assert (await rig.row(job.job_id)).status == "succeeded"


async def test_its_own_signals_are_a_graceful_stop(rig: Rig) -> None:
    """A service manager signals all processes; only the supervisor may stop at once."""
    rig.sim.configure(latency_s=0.8)
    await rig.producer.enqueue(hello())
    with started(rig) as child:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            child.process.send_signal(number)
        assert await child.code() == 0
    assert rig.sim.ledger.totals.answered == 1


async def test_without_a_supervisor_a_signal_stops_it(rig: Rig) -> None:
    """The process can be run by itself, as a container does."""
    rig.sim.configure(latency_s=0.5)
    await rig.producer.enqueue(hello())
    with started(rig, "", "alone") as child:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        child.process.send_signal(signal.SIGTERM)
        assert await child.code() == 0
    assert rig.sim.ledger.totals.answered == 1


@pytest.mark.parametrize("request_", [Request.STOP, Request.STOP_AT_ONCE, Request.GONE])
async def test_a_worker_whose_tasks_hang_ends_after_a_stop(rig: Rig, request_: Request) -> None:
    """A task that swallows its cancellation must not keep the process for ever."""
    rig.sim.configure(latency_s=30)
    await rig.producer.enqueue(hello())
    with started(rig, HANGING_CANCEL) as child:
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        if request_ is Request.GONE:
            child.control.close()
        else:
            child.send(request_)
        assert await child.code() == FAILED
        assert "did not end in time" in child.log.read_text()


async def test_a_worker_whose_loop_is_blocked_ends_with_its_supervisor(rig: Rig) -> None:
    """A thread reads the socket, so that a blocked event loop does not matter."""
    with started(rig, BLOCKED_LOOP) as child:
        child.control.close()
        assert await child.code() == FAILED
        assert "did not end in time after the end of its supervisor" in child.log.read_text()


async def test_a_worker_that_failed_ends_though_its_tasks_hang(rig: Rig) -> None:
    """A crashed worker that hangs is not started again; and it reports its exception."""
    with started(rig, FAILING_AND_HANGING) as child:
        assert await child.code() == FAILED
        assert "the governor failed" in child.log.read_text()
        assert child.reported == Report(problem="RuntimeError: the governor failed")


async def test_a_worker_reports_the_exception_that_ends_it(rig: Rig) -> None:
    """The supervisor shows it in `run` and `status`."""
    patch = FAILING_AND_HANGING.replace("worker.end_tasks = hang", "")
    with started(rig, patch) as child:
        assert await child.code() == FAILED
        assert child.reported == Report(problem="RuntimeError: the governor failed")


async def test_a_report_has_no_credential(rig: Rig) -> None:
    """The report goes to Redis and to terminals."""
    patch = FAILING_AND_HANGING.replace("the governor failed", "x-api-key: top-secret-key-4711")
    patch = patch.replace("worker.end_tasks = hang", "")
    key = SecretStr("top-secret-key-4711")
    rig.settings = rig.settings.model_copy(update={"api_key": key})
    with started(rig, patch) as child:
        assert await child.code() == FAILED
        assert child.reported == Report(problem="RuntimeError: x-api-key: [credential]")
        assert "4711" not in child.log.read_text()


async def test_answers_that_cannot_be_saved_give_exit_code_1(rig: Rig) -> None:
    """The message says how many there are."""
    with started(rig, UNSAVED) as child:
        child.send(Request.STOP)
        assert await child.code() == FAILED
        assert "error: 3 answers are lost" in child.log.read_text()
        report = child.reported
        assert report is not None
        assert report.lost


async def test_a_worker_with_unsaved_answers_stays_until_a_stop_at_once(rig: Rig) -> None:
    """A graceful stop has no deadline then: a person may free some disk space."""
    rig.settings = rig.settings.model_copy(update={"grace_s": 0})
    with started(rig, UNSAVED_AND_WAITING) as child:
        child.send(Request.STOP)
        await until((rig.settings.data_dir / "held").exists)
        assert child.alive
        child.send(Request.STOP_AT_ONCE)
        assert await child.code() == FAILED
        assert "error: 3 answers are lost" in child.log.read_text()


def test_a_missing_package_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor starts a worker again that crashed, but not one that cannot run here."""
    monkeypatch.setattr(worker_process, "load_settings", _lacks)
    assert worker_process.main() == UNUSABLE


def _lacks() -> None:
    raise ModuleNotFoundError("No module named 'alembic'", name="alembic")
