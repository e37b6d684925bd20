"""A pooler in transaction mode, as PgBouncer: each transaction has another server connection."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from nightmill_worker.jobs.tasks import end_tasks

SOCKET = ".s.PGSQL.5432"
READY, IDLE, TERMINATE = b"Z", b"I", b"X"
FOREIGN_PID = b"K" + struct.pack("!III", 12, 1, 2)
"""The pooler's own process id: it is that of no connection of the server."""
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the kind of the next message, and all of it."""
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


async def startup(server: Path, database: str) -> tuple[Link, bytes]:
    """Return a connection of the server, and what it said before it was ready, without its pid."""
    reader, writer = await asyncio.open_unix_connection(server)
    words = f"user\0postgres\0database\0{database}\0\0".encode()
    writer.write(struct.pack("!II", 8 + len(words), 3 << 16) + words)
    received, kind = b"", b""
    while kind != READY:
        kind, whole = await message(reader)
        received += FOREIGN_PID if kind == FOREIGN_PID[:1] else whole
    return (reader, writer), received


@asynccontextmanager
async def pooled(url: str, servers: int = 2) -> AsyncIterator[str]:
    """Yield the URL of a pooler before the database at `url`."""
    free: asyncio.Queue[Link] = asyncio.Queue()
    place, database = Path(urlsplit(url).query.removeprefix("host=")), urlsplit(url).path[1:]
    links: list[Link] = []
    welcome = b""
    for _ in range(servers):
        link, welcome = await startup(place / SOCKET, database)
        links.append(link)
        free.put_nowait(link)

    async def serve(client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: Link | None = None
        answering: asyncio.Task[None] | None = None

        async def answer(link: Link) -> None:
            """Pass on what the server says until the transaction has ended."""
            nonlocal held
            whole = b""
            while not (whole[:1] == READY and whole[-1:] == IDLE):
                _, whole = await message(link[0])
                writer.write(whole)
            held = None
            free.put_nowait(link)

        with suppress(OSError, asyncio.IncompleteReadError):
            (size,) = struct.unpack("!I", await client.readexactly(4))
            await client.readexactly(size - 4)
            writer.write(welcome)
            while (found := await message(client))[0] != TERMINATE:
                if held is None:
                    held = await free.get()
                    answering = asyncio.create_task(answer(held))
                held[1].write(found[1])
        if answering is not None:
            await end_tasks(answering)
        writer.close()

    with TemporaryDirectory(prefix="nm-pool-") as folder:
        async with await asyncio.start_unix_server(serve, Path(folder) / SOCKET):
            yield f"postgresql://postgres@/{database}?host={folder}"
        for _, writer in links:
            writer.close()
            await writer.wait_closed()
