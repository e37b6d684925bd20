"""A SQLite database with threads of its own.

An asynchronous SQLite driver crosses threads for every cursor, fetch and rollback, five times a
query. Here a whole transaction crosses once, and a look at a few keys in memory not at all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from nightmill.errors import StoreUnavailableError
from nightmill.safety import private
from nightmill.store.faults import mapped

if TYPE_CHECKING:
    import sqlalchemy

    from nightmill.store.connection import Connection

T = TypeVar("T")

BUSY_TIMEOUT_MS: Final = 5_000
"""How long SQLite waits for the lock of another process."""
READERS: Final = 3
"""Threads that read."""
SLOW_S: Final = 0.005
"""A glance that took longer had to read the disk: the next ones go to a thread."""
ASIDE_S: Final = 5.0
"""How long glances go to a thread after a slow one, seconds."""


class SQLiteConnection:
    """A Connection over the driver of the standard library, for one thread at a time."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, driver: sqlite3.Connection) -> None:
        """Take the driver's connection, which begins no transactions by itself."""
        self.driver = driver
        self._named = driver.cursor()
        self._named.row_factory = sqlite3.Row

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[Sequence[Any]]:
        """Return the rows of a query, each with its values in order."""
        return self.driver.execute(sql, values or {}).fetchall()

    def named(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[sqlite3.Row]:
        """Return the rows of a query, each with its values by name."""
        return self._named.execute(sql, values or {}).fetchall()

    def change(self, sql: str, values: Mapping[str, object] | None = None) -> int:
        """Run any other statement; return how many rows it changed."""
        return self.driver.execute(sql, values or {}).rowcount

    def change_each(self, sql: str, values: Sequence[Sequence[object]]) -> int:
        """Run a statement with `?` for each of `values`; return how many rows changed."""
        return self.driver.executemany(sql, values).rowcount

    @contextmanager
    def alchemy(self) -> Iterator[sqlalchemy.Connection]:
        """Yield SQLAlchemy's connection in the same transaction, which it commits."""
        from sqlalchemy import StaticPool, create_engine  # noqa: PLC0415 - slow, rarely needed

        engine = create_engine("sqlite://", creator=lambda: self.driver, poolclass=StaticPool)
        with engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold a write transaction.

        It takes the write lock at once; a plain BEGIN that writes later fails when others wrote
        first. Reads begin nothing: each statement reads its own snapshot, and no checkpoint waits
        for them.
        """
        self.driver.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.driver.commit()
        except BaseException:
            self.driver.rollback()
            raise


class SQLite:
    """One SQLite file in WAL mode; every commit is on the disk before it returns."""

    def __init__(self, database: str, *, own: bool = False) -> None:
        """Make the folder of the file, a path or a file: URI; the first connection makes the file.

        `own` says that the file is in a data directory, which other users must not read.
        """
        self.where = f"sqlite:///{database}"
        self.opened = False
        self._database = database
        self._file = _File(database, self.where, own=own)
        with mapped(self.where):
            self._file.make_folder()
        self._mine = threading.local()
        self._connections: list[SQLiteConnection] = []
        name = "nightmill-store"
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=name)  # SQLite has one writer
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix=name)
        self._near: SQLiteConnection | None = None
        self._aside_until = 0.0

    async def run(
        self, work: Callable[[Connection], T], *, write: bool = False, within_s: float = 0
    ) -> T:
        """Run `work` in a thread; a write holds SQLite's write lock from its start.

        `within_s` is for servers: a file either answers or its disk raises an error.
        """
        del within_s
        threads, run = (self._writing, self._write) if write else (self._reading, self._read)
        return await asyncio.get_running_loop().run_in_executor(threads, run, work)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the loop: from memory, that costs less than the way to a thread and back.

        It waits for no lock. After a slow glance the next ones go to a thread for ASIDE_S, so that
        a slow disk does not hold up the calls in flight.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._aside_until:
            return await self.run(work)
        self._aside_until = began + ASIDE_S  # unless this one is quick
        try:
            if self._near is None:
                self._near = await self.run(self._open_near)
                began = loop.time()
            with mapped(self.where, opened=self.opened):
                found = work(self._near)
        except StoreUnavailableError:
            return await self.run(work)
        if loop.time() - began <= SLOW_S:
            self._aside_until = 0.0
        return found

    def _open_near(self, _: Connection) -> SQLiteConnection:
        near = self._connect()
        near.change("PRAGMA busy_timeout=0")
        return near

    def _write(self, work: Callable[[Connection], T]) -> T:
        with mapped(self.where, opened=self.opened):
            with (connection := self._connection()).writing():
                done = work(connection)
            self._file.require_same()  # rows in a file that is gone are not stored
        return done

    def _read(self, work: Callable[[Connection], T]) -> T:
        with mapped(self.where, opened=self.opened):
            return work(self._connection())

    def _connection(self) -> SQLiteConnection:
        """Return this thread's connection: opening one costs more than most work."""
        kept: SQLiteConnection | None = getattr(self._mine, "connection", None)
        if kept is None:
            kept = self._mine.connection = self._connect()
        return kept

    def _connect(self) -> SQLiteConnection:
        self._file.require_same()  # a connection would make an empty file in its place
        self._file.make()
        connection = SQLiteConnection(_open(self._database))
        self._connections.append(connection)
        self._file.note()
        return connection

    async def close(self) -> None:
        """Wait for the work that has started, then close every connection."""
        for threads in (self._writing, self._reading):
            await asyncio.to_thread(threads.shutdown)
        for connection in self._connections:
            connection.driver.close()


class _File:
    """The file of a database; it notices when another file, or none, is at the path."""

    def __init__(self, database: str, where: str, *, own: bool) -> None:
        """Take the database of a URL; one in memory, or a file: URI, is not watched."""
        self._own = own
        watched = database and not database.startswith((":", "file:"))
        self._path = Path(database).absolute() if watched else None
        self._where = where
        self._identity: tuple[int, int] | None = None

    def make_folder(self) -> None:
        """Make the folder of the file."""
        if self._path is not None and self._own:
            private.make_folder(self._path.parent)
        elif self._path is not None:
            self._path.parent.mkdir(mode=private.FOLDER, parents=True, exist_ok=True)

    def make(self) -> None:
        """Make the file for this user alone: SQLite would make it as the umask says.

        A file that is there is closed to others in a data directory only, with the two that SQLite
        keeps beside it; elsewhere its rights are the user's decision.
        """
        if self._path is None:
            return
        if self._own:
            for suffix in ("-wal", "-shm"):
                private.close(self._path.with_name(self._path.name + suffix))
        if self._own or not self._path.exists():
            private.make_file(self._path)

    def note(self) -> None:
        """Remember the file that the first connection has opened or made."""
        if self._identity is None:
            self._identity = self._found()

    def require_same(self) -> None:
        """Raise StoreUnavailableError unless the path still leads to the file that was opened."""
        if self._identity is not None and self._found() != self._identity:
            raise StoreUnavailableError(
                f"{self._where} was removed or replaced while it was open: put the file back, or "
                "stop nightmill and start it again, and it stores there what it holds"
            )

    def _found(self) -> tuple[int, int] | None:
        """Return device and inode of the file at the path, None when there is none."""
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a third of the time of Path.stat
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def _open(database: str) -> sqlite3.Connection:
    """Open the file so that the driver begins nothing, and every commit reaches the disk."""
    driver = sqlite3.connect(
        database,
        isolation_level=None,
        check_same_thread=False,  # a thread opens it, and the loop closes it
        uri=database.startswith("file:"),
    )
    try:
        driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        driver.execute("PRAGMA journal_mode=WAL")
        driver.execute("PRAGMA synchronous=FULL")
    except BaseException:
        driver.close()
        raise
    return driver
