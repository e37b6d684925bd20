"""What only a real PostgreSQL shows: a network that loses everything, timeouts, restarts."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.store import ResultStore
from nightmill.store.postgresql import PostgreSQL
from nightmill.store.rows import to_row
from nightmill.store.statements import UPSERT_POSTGRESQL
from tests.chaos.proxy import proxied
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nightmill.store.connection import Connection
    from tests.chaos.proxy import Proxy
    from tests.postgres import Postgres

SOCKET = ".s.PGSQL.5432"
SOON_S = 5.0


@pytest.fixture
def where(new_database: str) -> str:
    """Return a new database's URL."""
    return new_database


@asynccontextmanager
async def linked(server: Postgres, where: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a proxy before `server`, and the URL of the database at `where` behind it."""
    with TemporaryDirectory(prefix="nm-link-") as folder:
        link = Path(folder) / SOCKET
        async with proxied(
            Path(urlsplit(server.url).query.removeprefix("host=")) / SOCKET, link
        ) as proxy:
            yield proxy, urlunsplit(urlsplit(where)._replace(query=f"host={folder}"))


async def execute(store: ResultStore, statement: str) -> None:
    """Run a statement in a transaction of its own."""

    def work(connection: Connection) -> None:
        connection.change(statement)

    await store._database.run(work)


@asynccontextmanager
async def locked(store: ResultStore) -> AsyncIterator[None]:
    """Hold a lock on the table, as a backup or a person's transaction does."""
    taken, done = asyncio.Event(), asyncio.Event()
    database = store._database
    assert isinstance(database, PostgreSQL)

    async def hold() -> None:
        async with database._engine.begin() as connection:
            await connection.execute(text("LOCK TABLE results IN ACCESS EXCLUSIVE MODE"))
            taken.set()
            await done.wait()

    holding = asyncio.create_task(hold())
    await taken.wait()
    try:
        yield
    finally:
        done.set()
        await holding


async def test_a_half_open_connection_means_that_the_store_is_away(
    server: Postgres, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without deadlines look-ups and commits would wait for ever, and no answer were spooled."""
    for name in ("store.ANSWER_S", "postgresql.ANSWER_S", "postgresql_url.CONNECT_TIMEOUT_S"):
        monkeypatch.setattr(f"nightmill.store.{name}", 0.3)
    async with linked(server, where) as (link, url), ResultStore.open(url) as store:
        await store.record([SUCCEEDED])
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.record([FAILED]),
            lambda: store.lookup([SUCCEEDED.job_id]),
            store.probe,
        ]
        await asyncio.gather(*(store.get(SUCCEEDED.job_id) for _ in range(3)))  # fills the pool
        link.lose()
        for call in calls:
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="did not answer"):
                await call()
            assert time.monotonic() - began < SOON_S
        link.restore()
        assert await store.record([FAILED]) == 1


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
async def test_a_timeout_of_the_server_means_that_the_store_is_away(
    where: str, setting: str
) -> None:
    """An administrator's timeout ended every worker: 'cannot run with these settings'."""
    database = urlsplit(where).path[1:]
    async with ResultStore.open(where) as owner:
        await execute(owner, f"ALTER DATABASE {database} SET {setting} = '50ms'")
        async with ResultStore.open(where) as store, locked(owner):
            with pytest.raises(StoreUnavailableError, match="timeout"):
                await store.record([SUCCEEDED])
            with pytest.raises(StoreUnavailableError, match="timeout"):
                await store.lookup([SUCCEEDED.job_id])
        async with ResultStore.open(where) as store:
            assert await store.record([SUCCEEDED]) == 1


@pytest.mark.parametrize(
    "fault",
    [
        "DROP TABLE results CASCADE",
        "ALTER TABLE results DROP COLUMN lane",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    ],
    ids=["table", "column", "connection"],
)
async def test_whatever_happens_to_an_open_store_means_that_it_is_away(
    where: str, fault: str
) -> None:
    """A worker that has worked must not end because of what a person does to the database."""
    async with ResultStore.open(where) as person, ResultStore.open(where) as store:
        await store.record([SUCCEEDED])
        await execute(person, fault)
        with pytest.raises(StoreUnavailableError):
            await store.record([FAILED])


async def test_a_read_only_database_is_noticed_by_the_probe(where: str) -> None:
    """A standby that was promoted by name answers queries, but takes no rows."""
    database = urlsplit(where).path[1:]
    async with ResultStore.open(where) as owner:
        await execute(owner, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        async with ResultStore.open(where) as store:
            with pytest.raises(StoreUnavailableError, match="read-only"):
                await store.probe()
            with pytest.raises(StoreUnavailableError, match="read-only"):
                await store.record([SUCCEEDED])


@pytest.mark.parametrize(
    "column",
    [
        {"job_id": "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(2_000))},
        {"run": 1 << 40},
        {"seq": 1 << 70},
        {"model": "a\0b"},
        {"model": "\udc80"},
        {"status": None},
    ],
    ids=["index", "int32", "int64", "NUL", "surrogate", "constraint"],
)
async def test_a_refused_value_is_no_outage(where: str, column: dict[str, object]) -> None:
    """The committer reduces a row that is refused, and waits for a store that is away."""

    def insert(connection: Connection) -> None:
        row = to_row(numbered(1)) | column
        connection.change(UPSERT_POSTGRESQL, {name: [value] for name, value in row.items()})

    async with ResultStore.open(where) as store:
        with pytest.raises(StoreError) as raised:
            await store._database.run(insert, write=True)
        assert not isinstance(raised.value, StoreUnavailableError)
        assert await store.record([SUCCEEDED]) == 1
