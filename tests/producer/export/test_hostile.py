"""Exports of rows that no endpoint, producer or worker should lead to: each row is written."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest
from pyarrow import parquet

from nightmill.export import COLUMNS, Format, export
from nightmill.records.state import JobState
from nightmill.sources import source_of
from nightmill.store import ResultStore
from tests.producer.store.hostile import GOOD, NIGHT
from tests.producer.store.samples import numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.store.connection import Connection

ROWS = len(NIGHT) + len(GOOD)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a store that holds hostile rows between good ones."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        await opened.record([*NIGHT, *GOOD])
        yield opened


def read(out: Path) -> dict[int, dict[str, Any]]:
    """Return the JSON lines of an export by the line of their job's id, as any JSON reader does."""
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert len(lines) == ROWS
    return {
        int(each["job_id"].removeprefix("night:line-")): each
        for each in lines
        if "line-" in each["job_id"]
    }


async def test_json_lines_have_every_row(store: ResultStore, tmp_path: Path) -> None:
    """`text: null` in one answer ended the export of all of them."""
    out = tmp_path / "out.jsonl"
    assert await export(store, "night", out) == ROWS
    messages = {n: line["result"].get("message") for n, line in read(out).items()}
    assert messages[12]["content"] == [{"type": "text", "text": None}]
    assert messages[18]["content"][0]["input"] == {"n": None}  # NaN is not JSON
    assert messages[19]["content"] == [{"type": "text", "text": "x\N{REPLACEMENT CHARACTER}"}]
    assert messages[20] == '{"type":"message","content":[{"ty'
    assert messages[22] == ""
    assert messages[101] == json.loads(bytes(GOOD[0].message or b""))


async def test_flat_lines_have_the_text_of_every_row(store: ResultStore, tmp_path: Path) -> None:
    """A block that is no text adds nothing; a string is text."""
    out = tmp_path / "out.jsonl"
    assert await export(store, "night", out, flat=True) == ROWS
    texts = {n: line["text"] for n, line in read(out).items()}
    assert [texts[n] for n in range(12, 18)] == ["", "ab", "plain", "", "", ""]
    assert (texts[18], texts[19], texts[101]) == ("x", "x\N{REPLACEMENT CHARACTER}", "漢字")


async def test_csv_has_every_row_and_column(store: ResultStore, tmp_path: Path) -> None:
    """The csv module reads what was written."""
    out = tmp_path / "out.csv"
    assert await export(store, "night", out, format="csv") == ROWS
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS
    assert all(row.keys() == COLUMNS.keys() for row in rows)


async def test_parquet_has_every_row(store: ResultStore, tmp_path: Path) -> None:
    """Its columns are typed, so one value out of range would fail the whole file."""
    out = tmp_path / "out.parquet"
    assert await export(store, "night", out, format="parquet") == ROWS
    assert parquet.read_table(out).num_rows == ROWS
    assert pl.read_parquet(out)["input_tokens"].max() == (1 << 63) - 1


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
async def test_hostile_columns_of_the_source_are_exported_beside_hostile_rows(
    store: ResultStore, tmp_path: Path, kind: Format
) -> None:
    """A number over int64 makes its column text."""
    source = tmp_path / "in.jsonl"
    lines = [{"prompt": "x", "label": 1 << (n * 9), "odd": {"n": None}} for n in range(1, 31)]
    source.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / f"out.{kind}"
    assert await export(store, "night", out, format=kind, source=source_of(source)) == ROWS
    if kind == "parquet":
        labels = parquet.read_table(out, columns=["seq", "label"]).to_pylist()
        assert {row["label"] for row in labels if row["seq"] == 2} == {str(1 << 18)}


async def test_rows_of_an_earlier_version_are_exported(store: ResultStore, tmp_path: Path) -> None:
    """It stored times and attempts as they came."""

    def unbounded(connection: Connection) -> None:
        attempts = '[{"n":1,"started_at":100000000000000000000,"outcome":"lost"}]'
        connection.change(
            "UPDATE results SET enqueued_at = 100000000000000000, started_at = -9000000000000000,"
            " finished_at = 9223372036854775807, attempts = :attempts",
            {"attempts": attempts},
        )

    await store._database.run(unbounded, write=True)
    out = tmp_path / "out.jsonl"
    for flat in (False, True):
        assert await export(store, "night", out, flat=flat) == ROWS
    assert await export(store, "night", tmp_path / "out.parquet", format="parquet") == ROWS


async def test_a_line_of_valid_json_keeps_its_bytes(store: ResultStore, tmp_path: Path) -> None:
    """Only a message that is not JSON is changed."""
    odd = msgspec.Raw(b'{"n":1e400,"big":123456789012345678901234567890,"a":1.50,"a":2}')
    await store.record([numbered(1, batch="day", message=odd)])
    out = tmp_path / "out.jsonl"
    assert await export(store, "day", out, statuses=[JobState.SUCCEEDED]) == 1
    assert bytes(odd) in out.read_bytes()
