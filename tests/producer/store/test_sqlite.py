"""What only a real SQLite file shows: several processes, crashes, full disks, wrong paths."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.store import ResultStore
from nightmill.store import sqlite as databases
from nightmill.store.database import database
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from nightmill.store.connection import Connection

WRITER = Path(__file__).with_name("writer.py")
ROWS = 50


@asynccontextmanager
async def writer(path: Path, batch: str, groups: int) -> AsyncIterator[Process]:
    """Run writer.py on the store at `path`; it ends with the block at the latest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(WRITER), str(path), batch, str(groups), str(ROWS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_processes_that_start_at_once_make_one_store_and_all_write(path: Path) -> None:
    """A supervisor starts its workers together; none may fail with 'database is locked'."""

    async def write(batch: str) -> tuple[int | None, bytes]:
        async with writer(path, batch, groups=20) as process:
            _, complaint = await process.communicate()
            return process.returncode, complaint

    ended = await asyncio.gather(*(write(f"b{n}") for n in range(4)))
    assert ended == [(0, b"")] * 4
    async with ResultStore.open(path) as store:
        counts = [sum(each.values()) for each in (await store.batches()).values()]
    assert counts == [20 * ROWS] * 4


async def test_stores_of_one_process_write_at_once(path: Path) -> None:
    """A worker and a cancellation may share a process, each with connections of its own."""

    async def write(batch: str) -> int:
        async with ResultStore.open(path) as store:
            groups = [[numbered(g * 10 + n, batch=batch) for n in range(10)] for g in range(20)]
            return sum([await store.record(group) for group in groups])

    assert await asyncio.gather(*(write(f"b{n}") for n in range(4))) == [200] * 4


async def test_a_killed_writer_leaves_whole_groups_and_all_that_were_committed(path: Path) -> None:
    """A finish follows the commit, so a committed row must be on the disk."""
    async with writer(path, "night", groups=1_000_000) as process:
        assert process.stdout is not None
        committed = [int(await process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with ResultStore.open(path) as store:
        stored = sum((await store.counts("night")).values())
        assert await store.record([FAILED, SUCCEEDED]) == 0
    assert stored >= (committed[-1] + 1) * ROWS
    assert stored % ROWS == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_every_connection_reaches_the_disk_before_a_commit_returns(
    store: ResultStore,
) -> None:
    """With WAL alone a job could be finished before its row is on the disk."""
    pragmas = ("journal_mode", "synchronous", "busy_timeout")

    def read(connection: Connection) -> list[object]:
        return [connection.rows(f"PRAGMA {name}")[0][0] for name in pragmas]

    found = await store._database.run(read)
    assert found == ["wal", 2, databases.BUSY_TIMEOUT_MS]


async def test_a_write_locks_from_its_start_and_a_read_never(store: ResultStore) -> None:
    """A plain BEGIN takes the lock too late and gave 78 % 'database is locked'."""

    def in_transaction(connection: Connection) -> bool:
        assert isinstance(connection, databases.SQLiteConnection)
        return connection.driver.in_transaction

    found = [await store._database.run(in_transaction, write=write) for write in (False, True)]
    assert found == [False, True]


async def test_a_store_from_before_migrations_is_brought_up_to_date(path: Path) -> None:
    """Results stay readable after an update of the program."""
    path.parent.mkdir()
    async with ResultStore.open(path) as store:
        await store.record([SUCCEEDED])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP VIEW results_v1")
        bill = ("cache_creation_1h_input_tokens", "web_search_requests", "billed_as", "cost_parts")
        for column in ("lane", "queue_ms", "call_ms", "snooze_reasons", "turns", "api", *bill):
            connection.execute(f"ALTER TABLE results DROP COLUMN {column}")
        later = ("turns", "access_keys", "message_batches", "requests", "audit")
        for table in ("alembic_version", "batches", "meta", *later):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("CREATE TABLE meta (schema_version INTEGER)")
    async with ResultStore.open(path) as store:
        kept = await store.get(SUCCEEDED.job_id)
        assert kept is not None
        assert (kept.message, kept.lane, kept.call_ms) == (SUCCEEDED.message, None, 0)
        assert await store.record([FAILED]) == 1


def schema(path: Path) -> dict[str, object]:
    """Return what SQLite says of every table and index of the file at `path`."""
    with closing(sqlite3.connect(path)) as file:
        tables = file.execute("SELECT name FROM sqlite_master WHERE type != 'index'").fetchall()
        indexes = file.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
        found = {n: sorted(file.execute(f"PRAGMA table_info({n})").fetchall()) for (n,) in tables}
        partial = file.execute("SELECT sql FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%WHERE%'")
        return {"partial": partial.fetchall(), **found} | {
            name: file.execute(f"PRAGMA index_info({name})").fetchall() for (name,) in indexes
        }


async def test_a_new_file_gets_what_all_migrations_make(tmp_path: Path) -> None:
    """A new file is made without Alembic, whose import is most of a small run's time."""
    for name in ("new.db", "migrated.db"):
        if name == "migrated.db":  # a table that is there means that the file is not new
            with closing(sqlite3.connect(tmp_path / name)) as file, file:
                file.execute("CREATE TABLE meta (schema_version INTEGER)")
        async with ResultStore.open(tmp_path / name) as store:
            assert len(await store.identity()) == 32
    assert schema(tmp_path / "new.db") == schema(tmp_path / "migrated.db")


async def test_a_file_that_is_no_database_is_refused() -> None:
    """STORE_URL may name the input file by mistake."""
    with pytest.raises(StoreError, match=r"writer\.py: file is not a database"):
        await ResultStore.connect(WRITER)


async def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    """The message says what to check."""
    with pytest.raises(StoreUnavailableError, match=r": it cannot be opened; check that the path"):
        await ResultStore.connect(tmp_path)


async def test_a_file_in_place_of_the_folder_is_named() -> None:
    """The folder is made on first use; the error says why it cannot be made."""
    with pytest.raises(StoreUnavailableError, match=r"results\.db: .*File exists"):
        await ResultStore.connect(WRITER / "results.db")


async def test_a_read_only_store_is_read_and_refuses_a_record(
    store: ResultStore, path: Path
) -> None:
    """Results can be read from a read-only mount."""
    await store.record([SUCCEEDED])
    async with ResultStore.open(f"sqlite:///file:{path}?mode=ro&uri=true") as mounted:
        assert await mounted.get(SUCCEEDED.job_id) == SUCCEEDED
        with pytest.raises(StoreUnavailableError, match="it is read-only; make the file"):
            await mounted.record([FAILED])


async def test_a_full_disk_is_named_and_the_store_goes_on_once_there_is_room(
    store: ResultStore,
) -> None:
    """No row of a refused group is stored, so the whole group can be recorded again."""

    async def limit(pages: int) -> None:
        pragma = f"PRAGMA max_page_count={pages}"
        await store._database.run(lambda c: c.change(pragma), write=True)

    group = [numbered(seq) for seq in range(1, 1001)]
    await limit(50)
    with pytest.raises(StoreUnavailableError, match="its disk is full; free some space"):
        await store.record(group)
    assert await store.batches() == {}
    await limit(100_000)
    assert await store.record(group) == 1000


async def test_a_lock_held_for_too_long_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's open transaction must not look like a defect of nightmill."""
    monkeypatch.setattr(databases, "BUSY_TIMEOUT_MS", 1)
    async with ResultStore.open(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="it is locked by another program"):
                await store.record([SUCCEEDED])
            with pytest.raises(StoreUnavailableError, match="it is locked by another program"):
                await store.probe()
            assert await store.get(SUCCEEDED.job_id) is None
        await store.probe()
        assert await store.record([SUCCEEDED]) == 1


async def test_a_glance_needs_no_thread_until_it_was_slow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory it is done at once; calls in flight must not wait for a disk."""
    here = threading.get_ident()
    monkeypatch.setattr(databases, "SLOW_S", 60.0)
    store = database(path)
    try:
        assert await store.glance(lambda _: threading.get_ident()) == here
        monkeypatch.setattr(databases, "SLOW_S", -1.0)  # as if all were
        monkeypatch.setattr(databases, "ASIDE_S", 0.0)
        assert await store.glance(lambda _: threading.get_ident()) == here
        monkeypatch.setattr(databases, "ASIDE_S", 60.0)
        assert await store.glance(lambda _: threading.get_ident()) == here
        assert await store.glance(lambda _: threading.get_ident()) != here
    finally:
        await store.close()


async def test_a_glance_that_meets_a_lock_waits_for_it_in_a_thread(path: Path) -> None:
    """The loop, with a thousand calls, never waits for another program."""
    here = threading.get_ident()
    store = database(path)

    def work(_: Connection) -> int:
        if threading.get_ident() == here:
            locked = sqlite3.OperationalError("database is locked")
            locked.sqlite_errorname = "SQLITE_BUSY"
            raise locked
        return threading.get_ident()

    def patience(connection: Connection) -> int:
        return int(connection.rows("PRAGMA busy_timeout")[0][0])

    try:
        assert await store.glance(patience) == 0
        assert await store.glance(work) != here
        assert await store.glance(patience) == databases.BUSY_TIMEOUT_MS  # in a thread for now
    finally:
        await store.close()


def move(file: Path, to: Path) -> None:
    """Move a file, over one that is there."""
    file.replace(to)


def files(folder: Path) -> list[str]:
    """Return the names of the files in `folder`."""
    return [each.name for each in folder.iterdir()]


GONE = r"results\.db was removed or replaced while it was open: put the file back"


async def test_a_file_that_is_removed_means_that_the_store_is_away(
    store: ResultStore, path: Path
) -> None:
    """SQLite goes on without an error: 1,500 paid rows went into a file that was gone."""
    await store.record([SUCCEEDED])
    kept = path.with_suffix(".kept")
    move(path, kept)
    with pytest.raises(StoreUnavailableError, match=GONE):
        await store.record([FAILED])
    with pytest.raises(StoreUnavailableError, match=GONE):
        await store.probe()
    move(kept, path)
    await store.probe()
    assert await store.record([numbered(1)]) == 1
    assert await store.get(SUCCEEDED.job_id) == SUCCEEDED


async def test_no_empty_store_is_made_in_the_place_of_a_removed_one(
    store: ResultStore, path: Path
) -> None:
    """A thread that connects later would make one, and all results would seem to be lost."""
    await store.record([SUCCEEDED])
    move(path, path.with_suffix(".removed"))
    for _ in range(databases.READERS + 1):  # each thread connects
        with suppress(StoreUnavailableError):
            await asyncio.gather(*(store.get("x") for _ in range(20)))
        with pytest.raises(StoreUnavailableError, match=GONE):
            await store.record([FAILED])
    assert path.name not in files(path.parent)


async def test_a_file_that_is_replaced_means_that_the_store_is_away(
    store: ResultStore, path: Path, tmp_path: Path
) -> None:
    """Rows for the old file would be missing from the one that people read."""
    await store.record([SUCCEEDED])
    async with ResultStore.open(tmp_path / "other.db"):
        pass
    move(tmp_path / "other.db", path)
    with pytest.raises(StoreUnavailableError, match=GONE):
        await store.record([FAILED])


@pytest.mark.parametrize(
    ("code", "away"),
    [
        *((name, True) for name in ("CORRUPT", "NOTADB", "SCHEMA", "ERROR", "IOERR_WRITE", "FULL")),
        *((name, False) for name in ("CONSTRAINT_NOTNULL", "TOOBIG", "MISMATCH")),
    ],
)
async def test_only_what_concerns_a_value_is_no_outage(
    store: ResultStore, code: str, *, away: bool
) -> None:
    """A worker that has stored rows must not end because of its disk or of a person."""

    def fail(_: Connection) -> None:
        error = sqlite3.DatabaseError("as SQLite says")
        error.sqlite_errorname = f"SQLITE_{code}"
        raise error

    with pytest.raises(StoreError, match="as SQLite says") as raised:
        await store._database.run(fail, write=True)
    assert isinstance(raised.value, StoreUnavailableError) is away


@pytest.mark.parametrize("value", [1 << 70, "\udc80", object()], ids=["int", "surrogate", "object"])
async def test_a_value_that_cannot_be_bound_is_no_outage(store: ResultStore, value: object) -> None:
    """The driver raises OverflowError and others, without a code."""
    with pytest.raises(StoreError) as raised:
        await store._database.run(lambda c: c.rows("SELECT :value", {"value": value}))
    assert not isinstance(raised.value, StoreUnavailableError)
