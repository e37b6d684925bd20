"""Leases after a crash: those of ended processes are released, and no others, ever."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys, wire
from nightmill.records.state import JobState
from nightmill.setting_tables import DEFAULT_GROUPS
from nightmill.store.rows import to_row
from nightmill_worker.completion.spool import Spool, Spooled
from nightmill_worker.events import Events, LeasesReleased
from nightmill_worker.fleet import life_lock
from nightmill_worker.fleet.dead_workers import FOLDER
from nightmill_worker.fleet.life_lock import LifeLock
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.queue.records import Ask, Finish, GrantedJob
from nightmill_worker.queue.scripts import Scripts
from tests.producer.store.samples import numbered
from tests.rig import Rig, hello, rigged, until
from tests.worker.queue.test_scripts import ORDERS

if TYPE_CHECKING:
    from nightmill.records.result import Result

LEASE_S = 60
"""Longer than any wait of these tests."""
HOLDER = """
import sys
from pathlib import Path
from nightmill_worker.fleet.life_lock import LifeLock
lock = LifeLock(Path(sys.argv[1]), "theirs")
lock.hold()
print("held", flush=True)
sys.stdin.read()
"""


def ended(folder: Path) -> list[str]:
    """Return the names of the workers that are known to have ended."""
    return [name for name, _ in life_lock.ended(folder)]


def crashed(folder: Path, name: str) -> Path:
    """Leave the lock file of a worker that was killed; return its path."""
    lock = LifeLock(folder, name)
    lock.hold()
    lock.leave(remove=False)
    return folder / f"{name}.lock"


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock of "theirs"."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_only_an_ended_process_has_ended(tmp_path: Path) -> None:
    """A frozen process goes on later: its calls would have been made twice."""
    with holder(tmp_path) as process:
        assert ended(tmp_path) == []
        process.send_signal(signal.SIGSTOP)
        assert ended(tmp_path) == []
        process.kill()
        process.wait()
        assert ended(tmp_path) == ["theirs"]


def test_a_worker_that_stops_as_it_should_leaves_nothing(tmp_path: Path) -> None:
    """It holds no leases, so there is nothing to look at later."""
    lock = LifeLock(tmp_path, "mine")
    lock.hold()
    assert ended(tmp_path) == []
    lock.leave(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_machine_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is shared over a network, or copied, has files whose locks we do not see."""
    path = crashed(tmp_path, "theirs")
    assert ended(tmp_path) == ["theirs"]
    shutil.copy(path, tmp_path / "copied.lock")
    (tmp_path / "new.lock").touch()  # its worker has not locked it yet
    (tmp_path / "link.lock").symlink_to(path)
    assert ended(tmp_path) == ["theirs"]
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(life_lock, "BOOT", boot)
    assert ended(tmp_path) == []
    monkeypatch.setattr(life_lock, "BOOT", tmp_path / "none")
    assert ended(tmp_path) == []
    LifeLock(tmp_path / "workers", "mine").hold()  # it would prove nothing, and stay for ever
    assert not list((tmp_path / "workers").iterdir())


def test_a_folder_that_cannot_be_made_stops_no_worker(tmp_path: Path) -> None:
    """Without the lock, leases are waited for, as ever."""
    (tmp_path / "file").touch()
    lock = LifeLock(tmp_path / "file" / "workers", "mine")
    lock.hold()
    lock.leave(remove=True)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig whose leases outlast every test."""
    async with rigged(redis_url, tmp_path, lease_s=LEASE_S) as made:
        yield made


def scripts_of(rig: Rig) -> Scripts:
    """Return scripts of the account that the rig's workers use."""
    return Scripts(
        rig.redis,
        account=rig.worker().account,
        orders=ORDERS,
        lease_ms=LEASE_S * 1000,
        canary=0,
        emit=rig.events.append,
    )


async def claimed_by(rig: Rig, worker: str, want: int) -> tuple[GrantedJob, ...]:
    """Claim as the worker process `worker`, which is not seen again."""
    ask = Ask(
        worker=worker,
        seq=1,
        account=rig.worker().account,
        want=want,
        lease_ms=LEASE_S * 1000,
        functions={wire.FUNCTION: True},
        model=rig.settings.model,
        groups=DEFAULT_GROUPS,
    )
    return (await scripts_of(rig).claim(ask)).jobs


async def enqueue(rig: Rig, count: int) -> None:
    """Enqueue jobs of a batch, and a single one."""
    for number in range(count - 1):
        await rig.producer.enqueue(hello(), batch="night", custom_id=f"{number}")
    await rig.producer.enqueue(hello())


async def run(worker: FleetWorker, true: Callable[[], object]) -> None:
    """Run a worker until `true`."""
    running = asyncio.create_task(worker.main())
    try:
        await until(true)
    finally:
        worker.stop(at_once=True)
        await running


def embedded(rig: Rig) -> FleetWorker:
    """Return a worker that uses the embedded server of its data directory."""
    events = Events()
    events.subscribe(rig.events.append)
    return FleetWorker(rig.settings, rig.redis, rig.store, rig.client, events=events, embedded=True)


async def in_flight(rig: Rig) -> int:
    """Return how many slots of all lanes are taken."""
    lanes = await rig.redis.execute_command("SMEMBERS", keys.LANES)
    names = [f"{keys.LANE}{lane.decode()}:slots" for lane in lanes]
    return sum([await rig.redis.execute_command("ZCARD", name) for name in names])


async def test_the_jobs_of_a_dead_worker_go_on_at_once(rig: Rig) -> None:
    """A run that was killed and started again waited 31 s for leases of dead processes."""
    await enqueue(rig, 5)
    assert len(await claimed_by(rig, "dead", 5)) == 5
    crashed(rig.settings.data_dir / FOLDER, "dead")

    async def done() -> bool:
        return sum((await rig.store.counts("night")).values()) == 4 and rig.calls() == 5

    await run(embedded(rig), done)
    assert [(e.worker, e.jobs) for e in rig.events_of(LeasesReleased)] == [("dead", 5)]
    rows = [row async for row in rig.store.stream("night")]
    assert {row.status for row in rows} == {JobState.SUCCEEDED}
    assert {row.attempts[0].outcome for row in rows} == {"lost"}
    assert await in_flight(rig) == 0
    assert list((rig.settings.data_dir / FOLDER).iterdir()) == []


async def test_the_leases_of_others_stay(rig: Rig) -> None:
    """A live worker, or one of another machine, is making the calls."""
    await enqueue(rig, 6)
    folder = rig.settings.data_dir / FOLDER
    live = LifeLock(folder, "live")
    live.hold()
    await claimed_by(rig, "live", 2)
    await claimed_by(rig, "remote", 2)  # it has no file here
    await claimed_by(rig, "dead", 2)
    crashed(folder, "dead")
    await run(embedded(rig), lambda: rig.calls() == 2)
    assert [(e.worker, e.jobs) for e in rig.events_of(LeasesReleased)] == [("dead", 2)]
    assert await in_flight(rig) == 4
    live.leave(remove=True)


async def test_a_worker_of_another_server_releases_nothing(rig: Rig) -> None:
    """Its data directory says nothing about the workers of a shared Redis."""
    await enqueue(rig, 2)
    await claimed_by(rig, "dead", 1)
    path = crashed(rig.settings.data_dir / FOLDER, "dead")
    await run(rig.worker(), lambda: rig.calls() == 1)
    assert rig.events_of(LeasesReleased) == []
    assert path.exists()


async def test_a_worker_that_stops_without_redis_leaves_its_lock_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leases are still in Redis when that comes back: a run waited 60 s for them."""
    await enqueue(rig, 1)
    rig.sim.configure(latency_s=30)
    first = embedded(rig)
    running = asyncio.create_task(first.main())
    await until(lambda: rig.sim.in_flight == 1)

    async def away(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(first._scripts, "settle", away)
    monkeypatch.setattr(first._scripts, "release", away)
    first.stop(at_once=True)
    await running
    rig.sim.configure(latency_s=0)
    await run(embedded(rig), lambda: rig.calls() == 2)
    assert [(e.worker, e.jobs) for e in rig.events_of(LeasesReleased)] == [(first.name, 1)]


def answer(job: GrantedJob) -> tuple[Result, Finish]:
    """Return the row of an answer, and the finish that follows it."""
    finish = Finish(
        id=job.id,
        token=job.token,
        queue=job.queue,
        status="succeeded",
        again=0,
        input=1,
        output=1,
        cost=0,
        fault="",
        kept=b"{}",
    )
    return numbered(1, job_id=job.id), finish


async def test_answers_on_the_disk_are_stored_before_their_jobs_are_released(rig: Rig) -> None:
    """A paid answer in a dead worker's spool would have been bought again."""
    await enqueue(rig, 3)
    (job, *_) = await claimed_by(rig, "dead", 3)
    spool = Spool(rig.settings.data_dir / "spool", "dead")
    row, finish = answer(job)
    spool.append([Spooled(row=to_row(row), finish=finish)])
    spool.close()
    crashed(rig.settings.data_dir / FOLDER, "dead")
    await run(embedded(rig), lambda: rig.calls() == 2)
    await until(lambda: rig.store.get(job.id))
    stored = await rig.store.get(job.id)
    assert stored is not None
    assert stored.message == row.message
