"""The store goes away for a while: nothing lost, nothing paid for twice, nothing claimed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill.errors import StoreUnavailableError
from tests.chaos.mill import BATCH, Mill, milling
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Postgres

JOBS = 300
AWAY_S = 4.0
CAUGHT_UP_S = 30.0
SUPERVISED = ("-m", "nightmill", "worker", "--processes", "2")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="nm-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Run a PostgreSQL that may be stopped."""
    with postgres() as running:
        yield running


async def stored(mill: Mill, rows: int, *, within: float = 60) -> None:
    """Wait until `rows` rows are stored; our own connections broke, too."""
    assert mill.store
    async with asyncio.timeout(within):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                if sum((await mill.store.counts(BATCH)).values()) >= rows:
                    return
            await asyncio.sleep(0.05)


async def judge(mill: Mill) -> None:
    """Every job has one succeeded row, and was called once."""
    rows = await mill.results()
    assert sorted(row.custom_id or "" for row in rows) == sorted(map(str, range(JOBS)))
    assert {row.status for row in rows} == {"succeeded"}
    calls = await mill.calls()
    assert sum(each["calls"] for each in calls.values()) == JOBS
    assert mill.crashed() == 0
    assert not list((mill.folder / "spool").glob("*"))


async def test_postgresql_away_with_a_restart_inside(folder: Path, server: Postgres) -> None:
    """Answers outlive the store's outage and the end of the process that holds them."""
    async with milling(folder, latency_s=0.4, store_url=server.url) as mill:
        await mill.start_workers(2)
        await mill.feed(range(JOBS))
        await mill.wait_for_rows(50)
        server.stop()
        called = await mill.quiet()
        assert called < JOBS
        first, second = mill.workers
        assert await mill.end(first) < 6
        mill.kill(second)
        mill.start_worker(*SUPERVISED)  # whose workers end and start until the store is back
        assert sum(each["calls"] for each in (await mill.calls()).values()) == called
        await asyncio.sleep(AWAY_S)
        server.start()
        await stored(mill, called, within=CAUGHT_UP_S)
        await stored(mill, JOBS)
        await judge(mill)
