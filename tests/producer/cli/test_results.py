"""`nightmill results` in every format, and what it says when it cannot."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import polars as pl
import pytest

from tests.integration.shell import Shell
from tests.producer.store.samples import FAILED, SUCCEEDED
from tests.rig import Rig


@pytest.fixture
async def night(shell: Shell, rig: Rig) -> Shell:
    """Return a shell with a batch "night" of one success (line 7) and one failure (line 8)."""
    await rig.store.record([SUCCEEDED, FAILED])
    return shell


def rows(text: str) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_csv_has_a_row_a_job(night: Shell) -> None:
    """A spreadsheet opens it."""
    told = night("results", "night", "--format", "csv", "--fields", "custom_id,status,cost")
    assert told.code == 0
    assert list(csv.reader(io.StringIO(told.out)))[1:] == [
        ["line-7", "succeeded", "0.000625"],
        ["line-8", "failed", "0.0"],
    ]


def test_parquet_goes_to_a_file_as_a_whole(night: Shell) -> None:
    """A data frame loads it as it is."""
    told = night("results", "night", "--format", "parquet", "-o", "night.parquet")
    assert (told.code, told.out, told.err) == (0, "", '2 results of batch "night"\n')
    assert pl.read_parquet(night.folder / "night.parquet")["text"].to_list() == ["漢字", None]
    assert [each.name for each in night.folder.iterdir() if "parquet" in each.name] == [
        "night.parquet"
    ]


def test_flat_lines_have_the_columns_of_the_source_beside(night: Shell) -> None:
    """A label that was in the input is wanted beside the answer."""
    lines = [json.dumps({"prompt": "x", "label": n}) + "\n" for n in range(1, 9)]
    (night.folder / "in.jsonl").write_text("".join(lines))
    told = night("results", "night", "--flat", "--source", "in.jsonl", "--succeeded")
    (row,) = rows(told.out)
    assert (row["custom_id"], row["label"], row["stop_reason"]) == ("line-7", 7, "end_turn")


def test_a_url_is_written_through_fsspec(night: Shell) -> None:
    """Results go to a bucket as to a disk."""
    url = f"file://{night.folder}/out.jsonl"
    assert night("results", "night", "-o", url).code == 0
    assert len(rows((night.folder / "out.jsonl").read_text())) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--fields", "txt", "--flat"), 'no field "txt"; there are: custom_id, '),
        (("--fields", ","), "--fields names no field"),
        (("--source", "no.jsonl"), "no.jsonl: no such file"),
        (("-o", "nowhere://x/y"), "nowhere://x/y: Protocol not known"),
        (("-o", "no/such.jsonl"), "no/such.jsonl: cannot be written: No such file"),
    ],
)
def test_what_cannot_be_written_is_one_clear_line(
    night: Shell, options: tuple[str, ...], problem: str
) -> None:
    """Exit 2, and a person knows what to type instead."""
    told = night("results", "night", *options)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"error: {problem}")
    assert len(told.err.splitlines()) == 1
