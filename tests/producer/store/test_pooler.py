"""A pooler whose pool is used up: the wait is short, and the error says what to do."""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nightmill.errors import StoreUnavailableError
from nightmill.store import ResultStore, postgresql_url
from nightmill.store.postgresql import PostgreSQL
from tests.producer.store.pooler import pooled
from tests.producer.store.samples import numbered

WELCOME = (
    b"R" + struct.pack("!II", 8, 0) + b"S" + struct.pack("!I", 4 + 20) + b"server_version\x0016.0\0"
)
READY = b"Z" + struct.pack("!Ic", 5, b"I")


async def test_a_pool_that_is_used_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PgBouncer in session mode lets the first query wait: 120 s without a word."""
    monkeypatch.setattr(postgresql_url, "CONNECT_TIMEOUT_S", 0.5)

    gone = asyncio.Event()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a client, as PgBouncer does, and answer none of its queries."""
        await reader.read(1024)
        writer.write(WELCOME + READY)
        with suppress(OSError):
            while await reader.read(1024):
                pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        gone.set()

    with TemporaryDirectory(prefix="nm-pool-") as folder:
        server = await asyncio.start_unix_server(welcome, Path(folder) / ".s.PGSQL.5432")
        async with server, asyncio.timeout(8):
            with pytest.raises(StoreUnavailableError, match="PgBouncer: raise default_pool_size"):
                async with ResultStore.open(f"postgresql://u@/d?host={folder}"):
                    pass
            await gone.wait()


async def test_transactions_may_have_different_connections(new_database: str) -> None:
    """PgBouncer in transaction mode: 'prepared statement "__asyncpg_stmt_1__" already exists'."""
    async with pooled(new_database) as url, AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(ResultStore.open(url)) for _ in range(3)]
        for number in range(30):
            await asyncio.gather(
                *(store.record([numbered(3 * number + n)]) for n, store in enumerate(stores))
            )
        assert sum((await stores[0].counts("night")).values()) == 90
        assert len([row async for row in stores[1].stream("night", ordered=True)]) == 90
        database = stores[0]._database
        assert isinstance(database, PostgreSQL)
        assert database._pooled is True


async def test_without_a_pooler_statements_are_prepared_once(new_database: str) -> None:
    """To prepare each statement again costs a round trip."""
    async with ResultStore.open(new_database) as store:
        database = store._database
        assert isinstance(database, PostgreSQL)
        assert database._pooled is False
