"""A PostgreSQL database, over asyncpg."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from nightmill.errors import StoreMissingError
from nightmill.store.faults import mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
"""Longest time to connect, and longest wait for a connection that is free."""
ANSWER_S: Final = 10.0
"""A server that takes longer for a look-up or a small commit is away, seconds."""
SCAN_S: Final = 300.0
"""The same for work that reads all rows of a batch, seconds."""
CLOSE_S: Final = 5.0
"""Longest time to close all connections; then the process ends without."""


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

    async def run(
        self, work: Callable[[Connection], T], *, write: bool = False, within_s: float = SCAN_S
    ) -> T:
        """Run `work` on the loop; PostgreSQL's rows lock themselves, so `write` changes nothing."""
        del write
        with mapped(self.where, opened=self.opened):
            async with self._engine.connect() as connection:
                with _cut_off(connection, within_s):
                    async with connection.begin():
                        return await connection.run_sync(work)

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
