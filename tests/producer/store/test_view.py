"""Programs in other languages read the results: docs/store.md."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from nightmill.store import ResultStore
from nightmill.store.schema import RESULTS_V1, VIEW
from tests.producer.store.samples import FAILED, SUCCEEDED

if TYPE_CHECKING:
    from nightmill.records.result import Result

ROOT = Path(__file__).parents[3]
ROWS = (
    msgspec.structs.replace(SUCCEEDED, batch="nightly"),
    msgspec.structs.replace(FAILED, batch="nightly", request_hash="rehearsed-1"),
)
ALL = "SELECT * FROM results_v1 ORDER BY seq, job_id"


def documented(command: str) -> str:
    """Return the SQL that docs/store.md gives to `command`."""
    page = (ROOT / "docs" / "store.md").read_text()
    found = re.search(rf"^\$ {command}.*?\"\n(.*?)\"\n", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def check(rows: list[dict[str, object]], answers: list[tuple[object, ...]]) -> None:
    """Check what the view has of ROWS, and what the query of the page found."""
    by_id = {row["job_id"]: row for row in rows}
    for stored in ROWS:
        row = by_id[stored.job_id]
        assert list(row) == [*RESULTS_V1, "rehearsal"]
        for name in ("batch", "custom_id", "seq", "run", "model", "cost", "finished_at"):
            assert row[name] == getattr(stored, name), name
        assert row["status"] == stored.status.value
        assert row["rehearsal"] == (stored is ROWS[1])
    assert json.loads(str(by_id[SUCCEEDED.job_id]["message"])) == SUCCEEDED.message
    assert answers == [(SUCCEEDED.custom_id, SUCCEEDED.text)]


async def filled(where: str | Path, rows: tuple[Result, ...] = ROWS) -> None:
    """Make a store with `rows`."""
    async with ResultStore.open(where) as store:
        await store.record(rows)


async def test_sqlite_is_read_by_its_own_driver(path: Path) -> None:
    """Only Python programs had a documented way to the results."""
    await filled(path)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        answers = file.execute(documented("sqlite3")).fetchall()
        file.row_factory = sqlite3.Row
        check([dict(row) for row in file.execute(ALL)], answers)


async def test_postgresql_is_read_by_its_own_driver(new_database: str) -> None:
    """The same for the store of a fleet."""
    await filled(new_database)
    server = await asyncpg.connect(new_database)
    try:
        answers = [tuple(row) for row in await server.fetch(documented("psql"))]
        check([dict(row) for row in await server.fetch(ALL)], answers)
    finally:
        await server.close()


def test_the_view_is_described_once() -> None:
    """The migration has a copy, because a released step is never edited."""
    versions = ROOT / "producer/nightmill/store/migrations/versions"
    texts = re.findall(r'"(.*?)"', (versions / "v0004_view.py").read_text())
    assert VIEW in "".join(texts)


async def test_a_page_of_the_view_is_read_by_its_index(path: Path) -> None:
    """A view that computed `batch` or `seq` would read every row of the store for each page."""
    await filled(path)
    page = f"{ALL.removesuffix(' ORDER BY seq, job_id')} WHERE batch = 'nightly' AND "
    page += "(seq, job_id) > (1, 'a') ORDER BY seq, job_id LIMIT 500"
    with closing(sqlite3.connect(path)) as file:
        plan = file.execute(f"EXPLAIN QUERY PLAN {page}").fetchall()
    assert "results_batch_seq" in plan[0][-1]
    assert "SORT" not in str(plan).upper()
