"""Faults of a PostgreSQL store: stopped, half open, locked beyond its timeouts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from tests.chaos.fleet import ENTRIES, GRACE_S, SUPERVISED, running_fleet
from tests.chaos.proxy import proxied
from tests.chaos.report import Report, judge
from tests.chaos.store import CAUGHT_UP_S
from tests.postgres import Postgres, postgres
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.proxy import Proxy

SOCKET: Final = ".s.PGSQL.5432"
NOTICED_S: Final = 15.0
"""Time in which a worker must notice a connection that is half open."""


async def postgres_away(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Stop PostgreSQL, then end one worker and kill the other: the spool keeps their answers."""
    jobs, away_s = (120, 3) if scale == 1 else (200 * scale, 6 * scale)
    with postgres() as server:
        async with running_fleet(folder, latency_s=0.4, store_url=server.url) as fleet:
            await fleet.feed(range(jobs))
            await fleet.start_workers(2)
            await fleet.wait_for_rows(jobs // 6)
            server.stop()
            called = await fleet.quiet()
            first, second = fleet.workers
            exit_s = await fleet.end(first)
            fleet.kill(second)
            fleet.start_worker(*SUPERVISED)  # it restarts its workers until the store is back
            await asyncio.sleep(away_s)
            still = (await fleet.stats())["totals"]["calls"]
            server.start()
            back = time.monotonic()
            await fleet.wait_for_rows(called)
            recovery_s = time.monotonic() - back
            await fleet.wait_for_rows(jobs, within=120)
            report = await judge(fleet, f"PostgreSQL away for {away_s} s", jobs, extra=0)
    report.recovery_s = recovery_s
    report.expect("all rows stored <= 30 s after", kept=recovery_s <= CAUGHT_UP_S)
    report.expect(f"claims stop: {called} then {still} calls", kept=called == still < jobs)
    report.expect(f"exit <= grace + 2 s: {exit_s:.1f}", kept=exit_s <= GRACE_S + 2)
    report.expect("the spool is empty at the end", kept=not list((folder / "spool").glob("*")))
    return report


async def half_open_store(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lose every connection to PostgreSQL without FIN or RST, then restore the network."""
    jobs = 150 * scale
    # The short form waits less for the server than a worker does by default.
    command, noticed = ((ENTRIES / "hasty.py", "2"), 5.0) if scale == 1 else ((), NOTICED_S)
    with postgres() as server:
        async with AsyncExitStack() as stack:
            link, url = await stack.enter_async_context(_linked(server, folder))
            fleet = await stack.enter_async_context(
                running_fleet(folder, latency_s=0.4, store_url=server.url)
            )
            await fleet.feed(range(jobs))
            await fleet.start_workers(2, *command, NIGHTMILL_STORE_URL=url)
            await fleet.wait_for_rows(jobs // 6)
            link.lose()
            began = time.monotonic()
            await until(lambda: fleet.logged("store away"), within=2 * noticed)
            noticed_s = time.monotonic() - began
            called = await fleet.quiet()
            unstored = called - await fleet.rows()
            spooled = len(fleet.spooled())
            link.restore()
            back = time.monotonic()
            await fleet.wait_for_rows(jobs, within=120)
            report = await judge(fleet, "PostgreSQL half open", jobs, extra=0)
    report.recovery_s = time.monotonic() - back
    report.expect(f"noticed <= {noticed:.0f} s: {noticed_s:.1f}", kept=noticed_s <= noticed)
    report.expect(f"{unstored} answers, {spooled} in the spool", kept=0 < unstored <= spooled)
    report.expect(f"claims stop after {called} calls", kept=called < jobs)
    report.expect("all rows stored <= 30 s after", kept=report.recovery_s <= CAUGHT_UP_S)
    return report


@asynccontextmanager
async def _linked(server: Postgres, folder: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """Put a proxy in front of the server; yield it and the store's URL through it."""
    async with proxied(server._folder / SOCKET, folder / SOCKET) as link:
        yield link, f"postgresql://postgres@/postgres?host={folder}"


async def lock_timeout(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lock the table for longer than the role's lock_timeout."""
    return await _locked("lock_timeout", folder, scale)


async def statement_timeout(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lock the table for longer than the role's statement_timeout."""
    return await _locked("statement_timeout", folder, scale)


async def _locked(setting: str, folder: Path, scale: int) -> Report:
    """Lock the table while workers commit; every commit meets the timeout `setting`."""
    jobs, locked_s = 150 * scale, 2.0 * scale
    with postgres() as server:
        async with running_fleet(folder, latency_s=0.4, store_url=server.url) as fleet:
            await _run(server, f"ALTER ROLE postgres SET {setting} = '300ms'")
            await fleet.feed(range(jobs))
            await fleet.start_workers(2)
            await fleet.wait_for_rows(jobs // 6)
            async with _table_locked(server):
                await asyncio.sleep(locked_s)
                called = await fleet.quiet()
            back = time.monotonic()
            await fleet.wait_for_rows(jobs, within=120)
            report = await judge(fleet, f"PostgreSQL's {setting} for {locked_s} s", jobs, extra=0)
    report.recovery_s = time.monotonic() - back
    report.expect("the store is reported away", kept=bool(fleet.logged("store away")))
    report.expect(f"claims stop after {called} calls", kept=called < jobs)
    report.expect("all rows stored <= 30 s after", kept=report.recovery_s <= CAUGHT_UP_S)
    return report


@asynccontextmanager
async def _table_locked(server: Postgres) -> AsyncIterator[None]:
    async with _connected(server) as connection, connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("LOCK TABLE results IN ACCESS EXCLUSIVE MODE")
        yield


async def _run(server: Postgres, statement: str) -> None:
    async with _connected(server) as connection:
        await connection.execute(statement)


@asynccontextmanager
async def _connected(server: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(host=str(server._folder), user="postgres")
    try:
        yield connection
    finally:
        await connection.close()
