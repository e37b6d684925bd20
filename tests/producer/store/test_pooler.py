"""A pooler whose pool is used up: the wait is short, and the error says what to do."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nightmill.errors import StoreUnavailableError
from nightmill.store import ResultStore, postgresql

WELCOME = (
    b"R" + struct.pack("!II", 8, 0) + b"S" + struct.pack("!I", 4 + 20) + b"server_version\x0016.0\0"
)
READY = b"Z" + struct.pack("!Ic", 5, b"I")


async def test_a_pool_that_is_used_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PgBouncer in session mode lets the first query wait: 120 s without a word."""
    monkeypatch.setattr(postgresql, "CONNECT_TIMEOUT_S", 0.5)

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
