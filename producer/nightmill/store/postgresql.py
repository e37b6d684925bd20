"""A PostgreSQL database, over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Never, TypeVar

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy import RowMapping, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from nightmill.errors import StoreError, StoreMissingError
from nightmill.store.connection import ANSWER_S, SCAN_S, USE
from nightmill.store.postgresql_faults import mapped

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from nightmill.store.connection import Connection

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
"""Longest time to connect, and longest wait for a connection that is free."""
CLOSE_S: Final = 5.0
"""Longest time to close all connections; then the process ends without."""


def parsed(where: str) -> URL:
    """Return a postgresql:// URL for asyncpg. Raises StoreError for one that cannot be read."""
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise StoreError(f"STORE_URL is not a URL: {USE}") from None
    if "@" in (url.host or ""):  # messages name the host, and this one begins inside the password
        raise StoreError("STORE_URL: percent-encode the @ in its password (%40)")
    return url.set(drivername="postgresql+asyncpg")


_text = cache(text)
"""Parses a statement once; there are a few dozen."""


class PostgreSQLConnection:
    """A Connection over SQLAlchemy's, which has the pool."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, connection: AlchemyConnection) -> None:
        """Take a connection within a transaction."""
        self._connection = connection

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[Sequence[Any]]:
        """Return the rows of a query, each with its values in order."""
        return self._connection.execute(_text(sql), values).all()

    def named(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[RowMapping]:
        """Return the rows of a query, each with its values by name."""
        return self._connection.execute(_text(sql), values).mappings().all()

    def change(self, sql: str, values: Mapping[str, object] | None = None) -> int:
        """Run any other statement; return how many rows it changed."""
        return self._connection.execute(_text(sql), values).rowcount

    def change_each(self, sql: str, values: Sequence[Sequence[object]]) -> Never:
        """Refuse: PostgreSQL takes rows as arrays, which is one round trip for all of them."""
        raise NotImplementedError

    @contextmanager
    def alchemy(self) -> Iterator[AlchemyConnection]:
        """Yield SQLAlchemy's connection."""
        yield self._connection


class PostgreSQL:
    """One PostgreSQL database, for workers on several machines."""

    def __init__(self, url: URL) -> None:
        """Take the URL; nothing is connected yet. Raises StoreMissingError without the driver."""
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  needs greenlet

        self.where = url.render_as_string(hide_password=True)
        self.opened = False
        try:
            self._engine = create_async_engine(
                url,
                connect_args={"timeout": CONNECT_TIMEOUT_S},
                pool_timeout=CONNECT_TIMEOUT_S,
            )
        except ModuleNotFoundError as error:
            raise StoreMissingError(
                f"{self.where} needs {error.name}: pip install 'nightmill[postgres]'"
            ) from None
        self._new: dict[object, Any] = {}
        event.listen(self._engine.sync_engine.pool, "connect", self._note_new, insert=True)

    def _note_new(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
        """Note a connection before its first query, which may wait."""
        self._new[asyncio.current_task()] = connection.driver_connection

    async def run(
        self, work: Callable[[Connection], T], *, write: bool = False, within_s: float = SCAN_S
    ) -> T:
        """Run `work` on the loop; PostgreSQL's rows lock themselves, so `write` changes nothing."""
        del write
        with mapped(self.where, opened=self.opened):
            async with self._connected() as connection:
                with _cut_off(connection, within_s):
                    async with connection.begin():
                        return await connection.run_sync(
                            lambda each: work(PostgreSQLConnection(each))
                        )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection; wait for it CONNECT_TIMEOUT_S at most.

        A pooler such as PgBouncer takes a client at once, and lets its first query wait until a
        connection of the pool is free: for 120 s, if nobody sets it otherwise.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    connection = await stack.enter_async_context(self._engine.connect())
            except TimeoutError as error:
                if new := self._new.get(asyncio.current_task()):
                    new.terminate()
                raise TimeoutError(
                    f"it did not answer a new connection within {CONNECT_TIMEOUT_S:.3g} s; if it "
                    "is a pooler, its pool has none free (PgBouncer: raise default_pool_size, or "
                    "run fewer workers)"
                ) from error
            finally:
                self._new.pop(asyncio.current_task(), None)
            yield connection

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Run `work`; the wait for the server does not hold up the loop."""
        return await self.run(work, within_s=ANSWER_S)

    async def close(self) -> None:
        """Close every connection; a server that does not answer is waited for CLOSE_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._engine.dispose()


@contextmanager
def _cut_off(connection: AsyncConnection, after_s: float) -> Iterator[None]:
    """Break a connection whose work has not ended after `after_s` seconds; raise TimeoutError then.

    A half-open connection never answers, also not to the cancellation of a query: so it is broken,
    and whatever waits for it fails.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + after_s
    terminate = connection.sync_connection.connection.driver_connection.terminate  # type: ignore[union-attr] # it is connected
    timer = loop.call_at(end, terminate)
    try:
        yield
    except Exception as error:
        if loop.time() >= end:
            raise TimeoutError(f"it did not answer within {after_s:.3g} s") from error
        raise
    finally:
        timer.cancel()
