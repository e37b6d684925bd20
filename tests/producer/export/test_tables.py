"""Flat exports, which pandas, polars, DuckDB and pyarrow load without a conversion."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import fsspec
import msgspec
import pandas as pd
import polars as pl
import pytest
from pyarrow import parquet

from nightmill.errors import ExportError
from nightmill.export import COLUMNS, export
from nightmill.sources import source_of
from nightmill.store import ResultStore
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = msgspec.Raw(b'{"messages":[{"role":"user","content":"Say, \\"hi\\"\\n"}]}')
ANSWER = msgspec.Raw('{"content":[{"type":"text","text":"hi,\\n漢字"}]}'.encode())
ROWS = 3


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a store that holds a failure, a row with everything, and one with hard text."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        await opened.record([FAILED, SUCCEEDED, numbered(1, params=REQUEST, message=ANSWER)])
        yield opened


@pytest.fixture
async def table(store: ResultStore, tmp_path: Path) -> Path:
    """Return the batch as Parquet."""
    out = tmp_path / "out.parquet"
    assert await export(store, "night", out, format="parquet") == ROWS
    return out


def test_parquet_has_one_typed_row_a_job(table: Path) -> None:
    """Hugging Face datasets reads Parquet through pyarrow too."""
    read = parquet.read_table(table)
    assert read.column_names == list(COLUMNS)
    first, second, third = read.to_pylist()
    assert (first["prompt"], first["text"]) == ('Say, "hi"\n', "hi,\n漢字")
    assert (second["cost"], second["output_tokens"], second["attempts"]) == (0.000625, 22, 1)
    assert third["text"] is None
    assert (third["error_type"], third["fix"]) == ("invalid_request_error", "give at least 1")
    assert first["finished_at"].isoformat() == "2023-11-14T22:13:22.005000+00:00"


def test_pandas_polars_and_duckdb_load_parquet_as_it_is(table: Path) -> None:
    """Results need no conversion before they are used."""
    texts = ["hi,\n漢字", "漢字", None]
    assert pl.read_parquet(table)["text"].to_list() == texts
    frame = pd.read_parquet(table)
    assert [None if pd.isna(text) else text for text in frame["text"]] == texts
    with duckdb.connect() as connection:
        query = (
            "SELECT sum(output_tokens), max(finished_at) - min(enqueued_at) FROM read_parquet(?)"
        )
        total, took = connection.execute(query, [str(table)]).fetchall()[0]
    assert total == 44
    assert took.total_seconds() == pytest.approx(1.882)


async def test_csv_keeps_text_with_quotes_and_line_breaks(
    store: ResultStore, tmp_path: Path
) -> None:
    """Answers are prose with commas, quotes and line breaks."""
    out = tmp_path / "out.csv"
    assert await export(store, "night", out, format="csv", fields=["custom_id", "text"]) == ROWS
    for frame in (pd.read_csv(out), pl.read_csv(out)):
        assert frame["custom_id"].to_list() == ["line-1", "line-7", "line-8"]
        assert frame["text"].to_list()[:2] == ["hi,\n漢字", "漢字"]


async def test_fields_choose_and_order_nested_and_flat_lines(
    store: ResultStore, tmp_path: Path
) -> None:
    """Most users need two columns."""
    out = tmp_path / "out.jsonl"
    await export(store, "night", out, fields=["usage", "custom_id"])
    assert list(json.loads(out.read_text().splitlines()[0])) == ["usage", "custom_id"]
    await export(store, "night", out, fields=["text", "cost"], flat=True)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"text": "hi,\n漢字", "cost": 0.000625},
        {"text": "漢字", "cost": 0.000625},
        {"text": None, "cost": 0.0},
    ]


async def test_an_unknown_field_is_named_with_those_there_are(
    store: ResultStore, tmp_path: Path
) -> None:
    """A typing mistake leaves the output file as it was."""
    out = tmp_path / "out.csv"
    with pytest.raises(ExportError, match=r'no field "txt"; there are: custom_id, .*text'):
        await export(store, "night", out, format="csv", fields=["txt"])
    assert not out.exists()


async def test_the_columns_of_the_source_are_added_to_the_results(
    store: ResultStore, tmp_path: Path
) -> None:
    """A dataset needs question, labels and answer; lines without a row are left out."""
    source = tmp_path / "in.jsonl"
    lines: list[object] = [{"prompt": "x", "label": n, "tags": ["a"]} for n in range(1, 9)]
    lines[6] = {"prompt": "seven", "label": 0.5, "extra": True}
    source.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out.parquet"
    await export(store, "night", out, format="parquet", source=source_of(source))
    read = parquet.read_table(out, columns=["seq", "label", "tags", "extra", "input_prompt"])
    assert [tuple(row.values()) for row in read.to_pylist()] == [
        (1, 1.0, '["a"]', None, "x"),
        (7, 0.5, None, True, "seven"),
        (8, 8.0, '["a"]', None, "x"),
    ]


async def test_a_url_gets_the_whole_export_or_none(store: ResultStore) -> None:
    """Datasets are kept in object stores; half an export must not look like one."""
    url = "memory://bucket/night.parquet"
    await export(store, "night", url, format="parquet")
    with fsspec.open(url) as file:
        assert pl.read_parquet(io.BytesIO(file.read())).height == ROWS
    assert [path.rpartition("/")[2] for path in fsspec.filesystem("memory").find("/bucket")] == [
        "night.parquet"
    ]


async def test_a_url_that_needs_a_package_says_which(store: ResultStore) -> None:
    """The extra installs fsspec; each cloud needs a package of its own."""
    with pytest.raises(ExportError, match=r"s3://bucket/x\.jsonl: .*s3fs"):
        await export(store, "night", "s3://bucket/x.jsonl")


@pytest.mark.parametrize(
    ("name", "begins"),
    [("o.csv", b"custom_id,"), ("O.CSV", b"custom_id,"), ("o.parquet", b"PAR1"), ("o.txt", b"{")],
)
async def test_the_suffix_of_the_file_asks_for_its_format(
    store: ResultStore, tmp_path: Path, name: str, begins: bytes
) -> None:
    """`run -o answers.csv` wrote JSON Lines into it."""
    await export(store, "night", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
