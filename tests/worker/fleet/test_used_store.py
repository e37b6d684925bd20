"""One Redis is used with one results store: who comes with another one is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill import JobNotFoundError
from nightmill.client.stored import join_store, used_store
from nightmill.errors import StoreMismatchError
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.live_workers import read_live
from nightmill.queue.used_store import UsedStore, differing, mismatch, note, noted
from nightmill.records.state import JobState
from nightmill.store import ResultStore
from nightmill_worker.cli.examine import accept_store
from tests.integration.shell import Shell
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

OTHER = UsedStore(identity="another", where="/elsewhere/results.db on mill")


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path / ".nightmill") as made:
        yield made


@pytest.fixture
def elsewhere(tmp_path: Path, redis_url: str) -> Shell:
    """Return a shell in another folder with the same Redis, and an endpoint that nobody calls."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return Shell(folder, redis_url=redis_url, base_url="http://127.0.0.1:9", api_key="k")


async def beat(redis: Redis, name: str = "w", *, ago_s: int = 0) -> None:
    """Leave a worker's sign of life."""
    state = f"{int(time.time()) - ago_s} running=0 held=0"
    await redis.hset(keys.WORKERS, name, state)  # type: ignore[misc]


async def test_the_first_worker_notes_its_store(rig: Rig) -> None:
    """A Redis that has lost everything gets the note again."""
    assert await noted(rig.redis) is None
    mine = await used_store(rig.settings, rig.store)
    async with rig.working() as worker:
        await until(lambda: noted(rig.redis))
        assert await noted(rig.redis) == mine
        await rig.redis.flushall()
        worker._background._last_beat = 0.0
        await until(lambda: noted(rig.redis))
    assert await noted(rig.redis) == mine
    assert mine.where.startswith(str(rig.settings.data_dir.resolve() / "results.db on "))


async def test_a_worker_with_another_store_is_refused(rig: Rig, tmp_path: Path) -> None:
    """A worker in another folder took 294 of 400 jobs, and its rows were never found."""
    await rig.producer.enqueue_many(hello(f"{n}") for n in range(4))
    await join_store(rig.settings, rig.redis, rig.store)
    async with ResultStore.open(tmp_path / "b.db") as store:
        other = Rig(rig.settings, rig.redis, store, rig.client, rig.producer, rig.sim)
        other.settings = rig.settings.model_copy(update={"store_url": f"sqlite:///{tmp_path}/b.db"})
        with pytest.raises(StoreMismatchError, match="is used with another results store: "):
            await other.work_off()
    assert rig.calls() == 0
    await rig.work_off()
    assert (await rig.store.counts(""))[JobState.SUCCEEDED] == 4


async def test_a_worker_whose_redis_got_another_store_stops(rig: Rig) -> None:
    """After a loss another worker was first. The calls in flight end, and their rows are stored."""
    rig.sim.configure(latency_s=0.3)
    await rig.producer.enqueue_many(hello(f"{n}") for n in range(3))
    worker = rig.worker()
    running = asyncio.create_task(worker.main())
    await until(lambda: rig.calls() == 3)
    await note(rig.redis, OTHER, replace=True)
    worker._background._last_beat = 0.0
    with pytest.raises(StoreMismatchError):
        await running
    assert (await rig.store.counts(""))[JobState.SUCCEEDED] == 3


async def test_a_worker_that_is_stopped_before_redis_answers_ends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for Redis at its start; a stop must not wait with it."""
    worker = rig.worker()

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker._scripts, "persist", never)
    running = asyncio.create_task(worker.main())
    await asyncio.sleep(0)
    worker.stop()
    async with asyncio.timeout(10):
        await running


async def test_a_store_that_was_made_anew_in_its_place_is_accepted(rig: Rig) -> None:
    """`rm -r .nightmill` is how people begin again; but two containers may have the same names."""
    mine = await used_store(rig.settings, rig.store)
    gone = UsedStore(identity="gone", where=mine.where)
    await note(rig.redis, gone)
    await beat(rig.redis)
    assert await mismatch(rig.redis, mine) is not None
    with pytest.raises(StoreMismatchError):
        await join_store(rig.settings, rig.redis, rig.store)
    await beat(rig.redis, ago_s=60)
    assert await read_live(rig.redis) == ()
    assert await mismatch(rig.redis, mine) is None
    assert await noted(rig.redis) == gone, "only a worker replaces it"
    await join_store(rig.settings, rig.redis, rig.store)
    assert await noted(rig.redis) == mine


async def test_what_other_programs_write_there_is_no_crash(rig: Rig) -> None:
    """A note or a sign of life that cannot be read."""
    for value in (b"", b"\xff", b"soon running=1", b"99999999999999999999 x"):
        await rig.redis.execute_command("HSET", keys.WORKERS, b"\xff", value)
        assert await read_live(rig.redis) == ()
    await rig.redis.execute_command("HSET", keys.STORE, "id", b"\xff")
    found = await noted(rig.redis)
    assert found is not None
    assert found.where == "?"
    assert differing(found, OTHER) is not None


async def test_commands_that_write_are_refused_with_the_fix(rig: Rig, elsewhere: Shell) -> None:
    """Each would have fed, paid for or deleted what is another store's."""
    source = elsewhere.write(3)
    elsewhere.data.mkdir()
    await join_store(rig.settings, rig.redis, rig.store)
    batches = Batches(rig.redis)
    await batches.make_known("prompts")
    for command in (
        *(("run", source), ("enqueue", source), ("worker",)),
        *(("retry", "prompts"), ("prune", "prompts", "--yes"), ("verify", "prompts")),
    ):
        done = await asyncio.to_thread(elsewhere, *command)
        assert (done.code, done.out) == (2, ""), command
        assert "this Redis is used with another results store: " in done.err
        assert str(rig.settings.data_dir.resolve()) in done.err
        assert "nightmill doctor --accept-store" in done.err
    assert not await rig.redis.keys(keys.PAYLOAD + "*")


async def test_commands_that_read_go_on_without_the_store(rig: Rig, elsewhere: Shell) -> None:
    """A machine that only looks on has a folder of its own; and a cancellation must not wait."""
    await rig.producer.enqueue_many(
        ({"custom_id": f"c{n}", **hello(f"{n}")} for n in range(3)), batch="prompts"
    )
    async with ResultStore.open(elsewhere.data / "results.db"):
        pass
    await join_store(rig.settings, rig.redis, rig.store)
    status = await asyncio.to_thread(elsewhere.status)
    assert (status["state"], status["queued"]) == ("waiting", 3)
    done = await asyncio.to_thread(elsewhere, "cancel", "prompts")
    assert (done.code, done.err) == (0, "")
    assert "workers will record the other 3" in done.out
    shown = await asyncio.to_thread(elsewhere, "status", "prompts")
    assert "cancelled" in shown.out
    assert "waiting: no worker is running" in shown.out  # nobody would ever record them
    await rig.work_off()
    async with rig.working():
        await until(lambda: _ended(rig))
    waited = await asyncio.to_thread(elsewhere, "wait", "prompts")
    assert (waited.code, waited.out) == (1, "prompts: 0 succeeded, 3 cancelled\n")


async def _ended(rig: Rig) -> bool:
    return (await rig.store.counts("prompts"))[JobState.CANCELLED] == 3


async def test_a_folder_without_data_feeds_without_a_store(rig: Rig, elsewhere: Shell) -> None:
    """A machine that only enqueues: workers look in their store before each call."""
    await join_store(rig.settings, rig.redis, rig.store)
    done = await asyncio.to_thread(elsewhere, "enqueue", elsewhere.write(3))
    assert (done.code, done.out) == (0, 'fed 3 jobs as batch "prompts": 3 new\n')


async def test_a_result_of_another_store_is_not_returned(rig: Rig) -> None:
    """The same id in another store is another job."""
    await rig.producer.enqueue(hello(), job_id="one")
    await rig.work_off()
    assert (await rig.producer.result("one")).status is JobState.SUCCEEDED
    await note(rig.redis, OTHER, replace=True)
    await rig.redis.delete(keys.RESULT + "one")
    with pytest.raises(JobNotFoundError):
        await rig.producer.result("one")


@pytest.mark.parametrize("look", [note, mismatch])
async def test_workers_start_together_on_a_store_that_was_made_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, look: Callable[..., Awaitable[object]]
) -> None:
    """The first one noted it and lived between two looks of the second, which ended."""
    old = UsedStore(identity="removed", where="/results.db on mill")
    new = UsedStore(identity="made anew", where=old.where)
    await note(rig.redis, old)

    async def first_one_lives(redis: Redis) -> object:
        await note(redis, new, replace=True)
        await beat(redis)
        return await read_live(redis)

    monkeypatch.setattr("nightmill.queue.used_store.read_live", first_one_lives)
    assert await look(rig.redis, new) == (new if look is note else None)


async def test_doctor_names_the_store_in_use_and_accepts_another(
    rig: Rig, elsewhere: Shell
) -> None:
    """The way out after a move, and after a loss: it refuses while workers of the other run."""
    mine = await used_store(rig.settings, rig.store)
    assert "no worker has run with this Redis yet" in (await doctor(elsewhere))[1]
    await join_store(rig.settings, rig.redis, rig.store)
    code, out = await doctor(elsewhere)
    assert code == 2
    assert f"FAIL store in use: this Redis is used with another results store: {mine.where}" in out
    assert "fix: Set NIGHTMILL_STORE_URL" in out
    await beat(rig.redis)
    refused = await asyncio.to_thread(elsewhere, "doctor", "--accept-store")
    assert (refused.code, refused.out) == (2, "")
    assert "1 workers run with the other store: stop them" in refused.err
    assert await noted(rig.redis) == mine
    await rig.redis.delete(keys.WORKERS)
    _, out = await doctor(elsewhere, "--accept-store")
    here = f"{elsewhere.data.resolve()}/results.db on "
    assert out.startswith(f"this Redis is used with {here}")
    assert f"ok   store in use: {here}" in out
    assert (await accept_store(rig.settings)) == mine.where


async def doctor(shell: Shell, *args: str) -> tuple[int, str]:
    """Run `doctor`; return its exit code and output."""
    done = await asyncio.to_thread(shell, "doctor", *args)
    return done.code, done.out
