"""Backfill a column: documents out of a PostgreSQL table, their summaries back into it.

    python examples/backfill.py postgresql://user@host/database

The table is `documents (id bigint, body text, summary text)`. Without an address, it is in a
PostgreSQL of the example's own. Documents are read with a server-side cursor, so there may be more
of them than fit in memory. Run it again at any time: only what has no summary is read, and what was
summarised before a crash is written back without another call.
"""

from __future__ import annotations

import asyncio
import pkgutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from mill import mill

from nightmill import JobState, Producer, Settings
from nightmill.store import ResultStore

BATCH = "backfill"
READ_AHEAD = 200  # documents
DOCUMENTS = 100

TABLE = """
CREATE TABLE IF NOT EXISTS documents (id bigint PRIMARY KEY, body text NOT NULL, summary text)
"""
UNDONE = "SELECT id, body, md5(body) AS digest FROM documents WHERE summary IS NULL ORDER BY id"
WRITE = "UPDATE documents SET summary = $3 WHERE id = $1 AND md5(body) = $2 AND summary IS NULL"


async def requests(database: asyncpg.Connection) -> AsyncIterator[dict[str, object]]:
    """Yield a request a document that has no summary, READ_AHEAD in memory at a time."""
    async with database.transaction():  # a cursor lives in one
        async for row in database.cursor(UNDONE, prefetch=READ_AHEAD):
            ask = f"Summarise in one sentence:\n\n{row['body']}"
            messages = [{"role": "user", "content": ask}]
            name = f"{row['id']}:{row['digest']}"  # a document that changed is another job
            yield {"custom_id": name, "messages": messages, "max_tokens": 150}


async def write_back(database: asyncpg.Connection, settings: Settings) -> None:
    """Write every stored summary that its document lacks; doing it twice changes nothing."""
    pending: list[tuple[int, str, str]] = []
    async with ResultStore.open(settings.store_at) as store:
        async for row in store.stream(BATCH, statuses={JobState.SUCCEEDED}):
            number, _, digest = (row.custom_id or "").partition(":")
            pending.append((int(number), digest, row.text))
            if len(pending) == READ_AHEAD:
                await database.executemany(WRITE, pending)
                pending.clear()
    await database.executemany(WRITE, pending)


async def backfill(dsn: str) -> int:
    """Enqueue, wait, write back; returns how many documents have no summary afterwards."""
    database = await asyncpg.connect(dsn)
    try:
        async with mill() as settings, Producer(settings=settings) as producer:
            receipts = await producer.enqueue_many(requests(database), batch=BATCH)
            sys.stderr.write(f"{len(receipts)} documents without a summary\n")
            if receipts:
                await producer.batch(BATCH).wait()
                await write_back(database, settings)
        left: int = await database.fetchval(f"SELECT count(*) FROM ({UNDONE}) undone")  # noqa: S608
        sys.stderr.write(f"{left} left; why: nightmill errors {BATCH}\n" if left else "all done\n")
        return left
    finally:
        await database.close()


async def fill(dsn: str) -> None:
    """Make the table and fill it with what every machine has: the names of Python's modules."""
    database = await asyncpg.connect(dsn)
    names = sorted(module.name for module in pkgutil.iter_modules())[:DOCUMENTS]
    texts = [(number, f"A Python module called {name}.") for number, name in enumerate(names)]
    await database.execute(TABLE)
    await database.executemany("INSERT INTO documents VALUES ($1, $2)", texts)
    await database.close()


@contextmanager
def own_database() -> Iterator[str]:
    """Run a PostgreSQL from a wheel (the dev group has it), filled; yield its address."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.postgres import postgres  # noqa: PLC0415 - only who gives no address needs it

    with postgres() as server:
        asyncio.run(fill(server.url))
        yield server.url


def main(args: list[str]) -> int:
    """Backfill the database that is given, or one of our own."""
    if args:
        return asyncio.run(backfill(args[0]))
    with own_database() as dsn:
        return asyncio.run(backfill(dsn))


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
