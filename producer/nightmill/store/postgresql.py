"""A PostgreSQL database, over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Never, TypeVar

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy import RowMapping, text

from nightmill.store.connection import ANSWER_S, SCAN_S
from nightmill.store.postgresql_faults import mapped

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from nightmill.store.connection import Connection
    from nightmill.store.postgresql_url import Address

T = TypeVar("T")

CLOSE_S: Final = 5.0
"""Longest time to close all connections; then the process ends without."""


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

    def __init__(self, address: Address) -> None:
        """Take the address; nothing is connected yet. Raises ImportError without the drivers."""
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  needs greenlet

        self.where = address.where
        self.opened = False
        self._address = address
        self._pooled: bool | None = None
        self._new: dict[object, Any] = {}
        self._engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._open, pool_timeout=address.total_s
        )

    async def _open(self) -> Any:  # noqa: ANN401 - asyncpg has no annotations
        """Return an asyncpg connection; note it before its first query, which may wait.

        Behind a pooler, each transaction may have another connection of the server: then no
        statement is prepared for longer than its transaction.
        """
        connection = await self._address.connect(prepares=not self._pooled)
        self._new[asyncio.current_task()] = connection
        if self._pooled is None:
            self._pooled = await _is_pooled(connection)
            if self._pooled:
                await connection.close()
                return await self._open()
        return connection

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
        """Yield a connection; wait for it as long as its hosts may take.

        A pooler such as PgBouncer takes a client at once, and lets its first query wait until a
        connection of the pool is free: for 120 s, if nobody sets it otherwise.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._address.total_s):
                    connection = await stack.enter_async_context(self._engine.connect())
            except TimeoutError as error:
                if new := self._new.get(asyncio.current_task()):
                    new.terminate()
                raise TimeoutError(
                    f"it did not answer a new connection within {self._address.total_s:.3g} s; "
                    "if it is a pooler, its pool has none free (PgBouncer: raise "
                    "default_pool_size, or run fewer workers)"
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


async def _is_pooled(connection: Any) -> bool:  # noqa: ANN401 - asyncpg has no annotations
    """Return whether a pooler answers: the process id that it gives is not that of the server."""
    await connection.execute("BEGIN")
    query = await connection.prepare("SELECT pg_backend_pid()", name="")
    server = await query.fetchval()
    await connection.execute("COMMIT")
    return bool(server != connection.get_server_pid())


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
