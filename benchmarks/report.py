"""The time and the memory of `nightmill report` over many rows of about 2 kB.

`python -m benchmarks.report [--rows N]` prints a row for SQLite and one for PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.store import result
from benchmarks.table import Table
from nightmill.records.result import Bill
from nightmill.store import ResultStore
from nightmill.store.rows import COLUMNS
from tests.postgres import postgres

if TYPE_CHECKING:
    from nightmill.store.connection import Connection

NIGHTMILL: Final = Path(sys.executable).with_name("nightmill")
START: Final = 1_764_450_000_000
SERIES: Final = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) ",
    "postgresql": "WITH s(n) AS (SELECT generate_series(2::bigint, {rows})) ",
}
CHANGED: Final = {
    "job_id": "'b:line-' || s.n",
    "seq": "s.n",
    "finished_at": f"{START} + s.n * 28",
    "call_ms": "500 + s.n * 7919 % 30011",
    "queue_ms": "s.n * 104729 % 900007",
    "output_tokens": "s.n * 31 % 4096",
    "input_tokens": "s.n * 17 % 9001",
    "status": "CASE WHEN s.n % 100 = 0 THEN 'failed' ELSE 'succeeded' END",
    "error": 'CASE WHEN s.n % 100 = 0 THEN \'{"type":"overloaded_error","message":"no"}\' END',
}


async def fill(where: str, rows: int) -> None:
    """Store one row, and copies of it that differ as those of a night do."""
    one = msgspec.structs.replace(
        result("b", 1),
        enqueued_at=START,
        started_at=START,
        finished_at=START,
        cost_parts=Bill(input=0.0001, output=0.01),
    )

    def copy(connection: Connection) -> None:
        columns = ", ".join(CHANGED.get(name, name) for name in COLUMNS)
        series = SERIES[connection.dialect].format(rows=rows)
        select = f"SELECT {columns} FROM s, results WHERE seq = 1"  # noqa: S608 - our own names
        if connection.dialect == "sqlite":
            connection.change(f"INSERT INTO results ({', '.join(COLUMNS)}) {series}{select}")
        else:
            connection.change(f"{series}INSERT INTO results ({', '.join(COLUMNS)}) {select}")

    async with ResultStore.open(where) as store:
        await store.record([one])
        await store.database.run(copy, write=True)


def report(name: str, where: str, folder: Path) -> tuple[str, ...]:
    """Write the report of the batch; return its time, its memory and its size."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("NIGHTMILL_")}
    env |= {"NIGHTMILL_STORE_URL": where, "NIGHTMILL_REDIS_URL": "redis://127.0.0.1:1"}
    began = time.perf_counter()
    process = subprocess.Popen([NIGHTMILL, "report", "b", "-o", "r.html"], cwd=folder, env=env)  # noqa: S603 - our own command
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    size = (folder / "r.html").stat().st_size
    return name, f"{took:.1f}", f"{used.ru_maxrss / 1024:.0f}", f"{size / 1000:.0f}"


def measure(rows: int, only: str | None = None) -> Table:
    """Measure both databases, or one."""
    found = []
    with tempfile.TemporaryDirectory(prefix="nm-") as home:
        folder = Path(home)
        if only != "postgresql":
            where = f"sqlite:///{folder / 'r.db'}"
            asyncio.run(fill(where, rows))
            found.append(report("SQLite", where, folder))
        if only != "sqlite":
            with postgres() as server:
                asyncio.run(fill(server.url, rows))
                found.append(report("PostgreSQL", server.url, folder))
    return Table(
        title="report",
        what=f"`nightmill report` of a batch of {rows:,} rows of about 2 kB; bars: 60 s, 300 MB.",
        heads=("store", "s", "RSS MB", "page kB"),
        rows=tuple(found),
    )


async def run_report(*, quick: bool) -> Table:
    """Return the table; a quick one has fewer rows."""
    return await asyncio.to_thread(measure, 50_000 if quick else 1_000_000)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    args = parser.parse_args()
    print(measure(args.rows, args.only))


if __name__ == "__main__":
    main()
