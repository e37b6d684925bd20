"""Runs one function over one SQLAlchemy connection, on SQLite or PostgreSQL, for asyncio callers.

SQLite gets threads of its own and PostgreSQL asyncpg. An async SQLite driver crosses threads for
every cursor, fetch and rollback, five times a query; here a whole transaction crosses once, and a
glance at what is in memory not at all.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nightmill.errors import StoreError, StoreMissingError, StoreUnavailableError
from nightmill.store.faults import mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection

T = TypeVar("T")

BUSY_TIMEOUT_MS: Final = 5_000
READERS: Final = 3
SLOW_S: Final = 0.005
"""A glance that took longer found its pages on the disk: the next ones go to a thread."""
ASIDE_S: Final = 5.0
"""For how long they do, seconds."""
CONNECT_TIMEOUT_S: Final = 10.0
WRITE: Final = "nightmill_write"
"""Execution option of SQLite connections: whether they write."""


class Database(Protocol):
    """A database that runs functions over a Connection; `where` names it without its password."""

    where: str

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Return what `work` returns, in one transaction; a read must not change anything.

        Raises StoreUnavailableError or StoreError for what the database raises.
        """
        ...

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, a read of a few hundred keys; raises as `run` does."""
        ...

    async def close(self) -> None:
        """Close every connection, after the work that is under way."""
        ...


def database(where: str | Path) -> Database:
    """Return the database at a SQLite file's path, or at a sqlite:// or postgresql:// URL.

    Nothing is connected yet. Raises StoreError for another kind of URL, StoreMissingError when
    its driver is not installed, StoreUnavailableError when a SQLite file's folder cannot be made.
    """
    if isinstance(where, Path) or "://" not in where:
        return SQLite(URL.create("sqlite", database=str(where)))
    try:
        url = make_url(where)
    except ArgumentError:
        raise StoreError("STORE_URL is not a URL: use sqlite:///path or postgresql://...") from None
    match url.get_backend_name():
        case "sqlite":
            return SQLite(url.set(drivername="sqlite"))
        case "postgresql" | "postgres":
            return PostgreSQL(url.set(drivername="postgresql+asyncpg"))
        case kind:
            raise StoreError(f"STORE_URL is {kind}://: use sqlite:///path or postgresql://...")


class SQLite:
    """One SQLite file in WAL mode, every commit on the disk before it returns."""

    def __init__(self, url: URL) -> None:
        """Make the file's folder; the file is made by the first connection."""
        self.where = url.render_as_string()
        if url.database and not url.database.startswith("file:"):
            with mapped(self.where):
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(url)
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._mine = threading.local()
        self._opened: list[Connection] = []
        name = "nightmill-store"
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=name)  # SQLite has one writer
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix=name)
        self._near: Connection | None = None
        self._aside_until = 0.0

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Run `work` in a thread; a write holds SQLite's write lock from its start."""
        threads, run = (self._writing, self._write) if write else (self._reading, self._read)
        return await asyncio.get_running_loop().run_in_executor(threads, run, work)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Run `work` here and now: from memory, that costs less than the way to a thread and back.

        It waits for no lock. On a slow disk it goes to a thread, so that calls are not held up.
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
            with mapped(self.where):
                found = work(self._near)
        except StoreUnavailableError:
            return await self.run(work)
        if loop.time() - began <= SLOW_S:
            self._aside_until = 0.0
        return found

    def _open_near(self, _: Connection) -> Connection:
        near = self._engine.connect()
        self._opened.append(near)
        driver(near).execute("PRAGMA busy_timeout=0")
        return near

    def _write(self, work: Callable[[Connection], T]) -> T:
        with mapped(self.where), (connection := self._connection(write=True)).begin():
            return work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with mapped(self.where):
            return work(self._connection(write=False))

    def _connection(self, *, write: bool) -> Connection:
        """Return this thread's connection: opening one costs more than most work."""
        kept: Connection | None = getattr(self._mine, "connection", None)
        if kept is None:
            kept = self._engine.connect().execution_options(**{WRITE: write})
            self._mine.connection = kept
            self._opened.append(kept)
        return kept

    async def close(self) -> None:
        """Wait for the work under way, then close every connection."""
        for threads in (self._writing, self._reading):
            await asyncio.to_thread(threads.shutdown)
        for connection in self._opened:
            connection.close()
        self._engine.dispose()


def _configure(connection: DBAPIConnection, _record: object) -> None:
    """Take the transactions away from the driver, and make every commit reach the disk."""
    connection.isolation_level = None  # the driver's own BEGIN is a plain one: see _begin
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Take the write lock at once; a plain BEGIN that writes later fails when others wrote first.

    Reads begin nothing: each statement sees its own snapshot, and no checkpoint waits for them.
    """
    if connection.get_execution_options().get(WRITE):
        driver(connection).execute("BEGIN IMMEDIATE")


def driver(connection: Connection) -> Any:  # noqa: ANN401 - what the pool gives
    """Return SQLite's own connection, for what every job pays: see statements.py."""
    return connection.connection.driver_connection


class PostgreSQL:
    """One PostgreSQL database, for workers on several machines."""

    def __init__(self, url: URL) -> None:
        """Take the URL; nothing is connected yet."""
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  needs greenlet

        self.where = url.render_as_string(hide_password=True)
        try:
            self._engine = create_async_engine(url, connect_args={"timeout": CONNECT_TIMEOUT_S})
        except ModuleNotFoundError as error:
            raise StoreMissingError(
                f"{self.where} needs {error.name}: pip install 'nightmill[postgres]'"
            ) from None

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Run `work` on the loop; PostgreSQL's rows lock themselves, so `write` changes nothing."""
        del write
        with mapped(self.where):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Run `work`; its server's answer does not hold up the loop."""
        return await self.run(work)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
