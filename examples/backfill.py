"""Backfill a column: read documents from a PostgreSQL table, write their summaries back.

    python examples/backfill.py postgresql://user@host/database

The table is `documents (id bigint, body text, summary text)`. Without an address, the example
starts a PostgreSQL of its own and fills the table. A server-side cursor reads the documents, so
there may be more of them than fit in memory.

Run it again at any time. It reads only documents without a summary. A summary that was stored
before a crash is written back without another call.
"""

from __future__ import annotations

import asyncio
import pkgutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from local_fleet import local_fleet

from nightmill import JobState, Producer, Settings
from nightmill.store import ResultStore

BATCH = "backfill"
READ_AHEAD = 200
"""Documents in memory at once."""
DOCUMENTS = 100
"""Rows of the example's own table."""

TABLE = """
CREATE TABLE IF NOT EXISTS documents (id bigint PRIMARY KEY, body text NOT NULL, summary text)
"""
WITHOUT_SUMMARY = (
    "SELECT id, body, md5(body) AS digest FROM documents WHERE summary IS NULL ORDER BY id"
)
WRITE = "UPDATE documents SET summary = $3 WHERE id = $1 AND md5(body) = $2 AND summary IS NULL"


async def requests(database: asyncpg.Connection) -> AsyncIterator[dict[str, object]]:
    """Yield one request for each document without a summary."""
    async with database.transaction():  # a server-side cursor needs one
        async for row in database.cursor(WITHOUT_SUMMARY, prefetch=READ_AHEAD):
            prompt = f"Summarise in one sentence:\n\n{row['body']}"
            messages = [{"role": "user", "content": prompt}]
            custom_id = f"{row['id']}:{row['digest']}"  # a changed document becomes another job
            yield {"custom_id": custom_id, "messages": messages, "max_tokens": 150}


async def write_back(database: asyncpg.Connection, settings: Settings, batch: str) -> None:
    """Write the stored summaries to documents without one; a second time changes nothing."""
    pending: list[tuple[int, str, str]] = []
    async with ResultStore.open(settings.store_at) as store:
        async for row in store.stream(batch, statuses={JobState.SUCCEEDED}):
            document, _, digest = (row.custom_id or "").partition(":")
            pending.append((int(document), digest, row.text))
            if len(pending) == READ_AHEAD:
                await database.executemany(WRITE, pending)
                pending.clear()
    await database.executemany(WRITE, pending)


async def backfill(dsn: str) -> int:
    """Enqueue, wait, write back; return how many documents still have no summary."""
    database = await asyncpg.connect(dsn)
    try:
        async with local_fleet() as settings, Producer(settings=settings) as producer:
            receipts = await producer.enqueue_many(requests(database), batch=BATCH)
            sys.stderr.write(f"{len(receipts)} documents without a summary\n")
            if receipts:
                await producer.batch(BATCH).wait()
                await write_back(database, settings, producer.batch(BATCH).name)
        count = f"SELECT count(*) FROM ({WITHOUT_SUMMARY}) left_over"  # noqa: S608 - no input in it
        left: int = await database.fetchval(count)
        report = f"{left} left; to see why: nightmill errors {BATCH}" if left else "all done"
        sys.stderr.write(f"{report}\n")
        return left
    finally:
        await database.close()


async def fill(dsn: str) -> None:
    """Create the table and fill it with the names of Python's modules, which every machine has."""
    database = await asyncpg.connect(dsn)
    names = sorted(module.name for module in pkgutil.iter_modules())[:DOCUMENTS]
    texts = [(number, f"A Python module called {name}.") for number, name in enumerate(names)]
    await database.execute(TABLE)
    await database.executemany("INSERT INTO documents VALUES ($1, $2)", texts)
    await database.close()


@contextmanager
def own_database() -> Iterator[str]:
    """Run a PostgreSQL from a wheel of the dev group, fill the table, and yield its address."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.postgres import postgres  # noqa: PLC0415 - needed only without an address

    with postgres() as server:
        asyncio.run(fill(server.url))
        yield server.url


def main(args: list[str]) -> int:
    """Backfill the database of the first argument, or one that the example starts."""
    if args:
        return asyncio.run(backfill(args[0]))
    with own_database() as dsn:
        return asyncio.run(backfill(dsn))


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
