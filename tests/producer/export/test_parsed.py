"""Outputs in exports: JSON lines with `output`, and columns that need no parsing."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.api import types

from nightmill.errors import ExportError
from nightmill.export import export
from nightmill.export.unchanged import export_once
from nightmill.records.acceptance import acceptance, to_text
from nightmill.records.message import Message
from nightmill.sources import source_of
from nightmill.store import ResultStore
from nightmill.store.batches import StoredBatch
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SCHEMA = {
    "$ref": "#/$defs/Review",
    "$defs": {
        "Label": {"enum": ["pos", "neg"]},
        "Review": {
            "type": "object",
            "properties": {
                "label": {"$ref": "#/$defs/Label"},
                "stars": {"type": "integer"},
                "score": {"type": ["number", "null"]},
                "sure": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "about": {"type": "object"},
                "any": {},
            },
            "required": ["label"],
        },
    },
}
FULL = {
    "label": "pos",
    "stars": 4,
    "score": 1,
    "sure": True,
    "tags": ["a", "漢"],
    "about": {"x": [1]},
    "any": "text",
}


async def fill(store: ResultStore, schema: object, *outputs: object) -> None:
    """Store a batch whose answers are `outputs`."""
    accept = to_text(acceptance(schema=schema))
    await store.note("night", StoredBatch(state="fed", accept=accept))
    for number, output in enumerate(outputs, 1):
        text = f"Here:\n```json\n{json.dumps(output)}\n```"
        message = Message({"content": [{"type": "text", "text": text}]})
        await store.record([msgspec.structs.replace(numbered(number), message=message)])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open an empty store."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        yield opened


async def test_parquet_has_a_typed_column_for_each_field(
    store: ResultStore, tmp_path: Path
) -> None:
    """Everybody parsed the text column again, and a third of the rows failed."""
    await fill(store, SCHEMA, FULL, {"label": "neg", "stars": 2.0, "score": None})
    await store.record([FAILED])
    out = tmp_path / "out.parquet"
    assert await export(store, "night", out) == 3
    frame = pd.read_parquet(out)
    schema = pq.read_schema(out)
    assert {name: str(schema.field(name).type) for name in schema.names if "output." in name} == {
        "output.label": "string",
        "output.stars": "int64",
        "output.score": "double",
        "output.sure": "bool",
        "output.tags": "string",
        "output.about": "string",
        "output.any": "string",
    }
    assert frame["output.label"].tolist()[:2] == ["pos", "neg"]
    assert types.is_numeric_dtype(frame["output.stars"])
    assert frame["output.stars"].sum() == 6
    assert frame["output.score"].tolist()[0] == 1.0
    assert json.loads(frame["output.tags"][0]) == ["a", "漢"]
    assert json.loads(frame["output.about"][0]) == {"x": [1]}
    assert frame["output.label"].isna().tolist() == [False, False, True]


async def test_json_lines_have_the_output_and_csv_its_fields(
    store: ResultStore, tmp_path: Path
) -> None:
    """A row that failed has none."""
    await fill(store, SCHEMA, FULL)
    await store.record([FAILED])
    await export(store, "night", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["output"] for line in lines] == [FULL, None]
    assert list(lines[0])[:3] == ["custom_id", "result", "output"]
    await export(store, "night", tmp_path / "out.csv", fields=["output.label", "output.tags"])
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows == [["output.label", "output.tags"], ["pos", '["a","漢"]'], ["", ""]]


async def test_a_batch_without_a_schema_is_exported_as_before(
    store: ResultStore, tmp_path: Path
) -> None:
    """Readers of its lines see no new field."""
    await store.record([SUCCEEDED])
    await export(store, "night", tmp_path / "out.jsonl")
    assert "output" not in json.loads((tmp_path / "out.jsonl").read_text())
    with pytest.raises(ExportError, match='no field "output"'):
        await export(store, "night", tmp_path / "out.csv", fields=["output"])


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "object"}, {"enum": ["a", 1]}])
async def test_an_output_without_named_fields_is_one_column(
    store: ResultStore, tmp_path: Path, schema: object
) -> None:
    """A list of any length has no columns."""
    await fill(store, schema, [1, {"a": 2}])
    await export(store, "night", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["output"].tolist() == ['[1,{"a":2}]']


async def test_a_column_of_the_source_keeps_apart_from_the_output(
    store: ResultStore, tmp_path: Path
) -> None:
    """A data set that is labelled again has such a column already."""
    await fill(store, {"type": "integer"}, 5)
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "output": "old", "output.label": "x"}\n')
    await export(store, "night", tmp_path / "out.csv", source=source_of(str(source)), format="csv")
    row = next(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert (row["output"], row["input_output"], row["output.label"]) == ("5", "old", "x")


async def test_an_export_is_written_again_when_the_schema_changes(
    store: ResultStore, tmp_path: Path
) -> None:
    """The file of an earlier run had no outputs and was left as it was."""
    await fill(store, {"type": "integer"}, 5)
    out = tmp_path / "out.jsonl"
    await export_once(store, "night", out, tmp_path)
    assert json.loads(out.read_text())["output"] == 5
    await store.note("night", StoredBatch(state="fed"))
    await export_once(store, "night", out, tmp_path)
    assert "output" not in json.loads(out.read_text())


async def test_odd_acceptances_and_messages_do_not_stop_an_export(
    store: ResultStore, tmp_path: Path
) -> None:
    """Another program, or a newer version, may have written them."""
    await fill(store, {"properties": {"a": {"type": 5}, "b": None}, "type": 3}, {"a": 1}, "no", 7)
    await export(store, "night", tmp_path / "out.csv", fields=["output.a", "output.b"])
    assert (tmp_path / "out.csv").read_text().split() == ["output.a,output.b", "1,", ",", ","]
    await store.note("night", StoredBatch(state="fed", accept='{"new": 1}'))
    assert await export(store, "night", tmp_path / "out.csv") == 3


async def test_whole_numbers_that_a_column_cannot_hold_are_left_out(
    store: ResultStore, tmp_path: Path
) -> None:
    """1e30 is an integer for JSON Schema. It ended the export of Parquet with a traceback."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    await fill(store, schema, {"n": 1e30}, {"n": 1.0}, {"n": -(2**63)})
    await export(store, "night", tmp_path / "out.parquet")
    column = pq.read_table(tmp_path / "out.parquet")["output.n"].to_pylist()
    assert column == [None, 1, -(2**63)]
    await export(store, "night", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text().split("\n")[0])["output"]["n"] == 1e30
