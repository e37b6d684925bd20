"""`nightmill results` in every format, and its error messages."""

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
async def stored(shell: Shell, rig: Rig) -> Shell:
    """Return a shell with a batch "night" of one success (line 7) and one failure (line 8)."""
    await rig.store.record([SUCCEEDED, FAILED])
    return shell


def rows(text: str) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_csv_has_a_row_a_job(stored: Shell) -> None:
    """A spreadsheet can open the file."""
    done = stored("results", "night", "--format", "csv", "--fields", "custom_id,status,cost")
    assert done.code == 0
    assert list(csv.reader(io.StringIO(done.out)))[1:] == [
        ["line-7", "succeeded", "0.000625"],
        ["line-8", "failed", "0.0"],
    ]


def test_parquet_goes_to_a_file_as_a_whole(stored: Shell) -> None:
    """A data frame can load the file. No temporary file is left."""
    done = stored("results", "night", "--format", "parquet", "-o", "night.parquet")
    assert (done.code, done.out, done.err) == (0, "", '2 results of batch "night"\n')
    assert pl.read_parquet(stored.folder / "night.parquet")["text"].to_list() == ["漢字", None]
    assert [each.name for each in stored.folder.iterdir() if "parquet" in each.name] == [
        "night.parquet"
    ]


def test_flat_lines_have_the_columns_of_the_source(stored: Shell) -> None:
    """Users want the labels of their input next to the answers."""
    lines = [json.dumps({"prompt": "x", "label": n}) + "\n" for n in range(1, 9)]
    (stored.folder / "in.jsonl").write_text("".join(lines))
    done = stored("results", "night", "--flat", "--source", "in.jsonl", "--succeeded")
    (row,) = rows(done.out)
    assert (row["custom_id"], row["label"], row["stop_reason"]) == ("line-7", 7, "end_turn")


def test_a_url_is_written_through_fsspec(stored: Shell) -> None:
    """Results can be written to a bucket."""
    url = f"file://{stored.folder}/out.jsonl"
    assert stored("results", "night", "-o", url).code == 0
    assert len(rows((stored.folder / "out.jsonl").read_text())) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ("--fields", "txt", "--flat"),
            'no field "txt"; there are: custom_id, ',
        ),
        (("--fields", "text"), 'JSON Lines have no "text"; add --flat (or --format csv) for one '),
        (("--fields", "result", "--flat"), 'flat rows have no "result"; JSON Lines without --flat'),
        (("--fields", ","), "--fields names no field"),
        (("--source", "no.jsonl"), "no.jsonl: no such file"),
        (("-o", "nowhere://x/y"), "nowhere://x/y: Protocol not known"),
        (("-o", "no/such.jsonl"), "no/such.jsonl: cannot be written: No such file"),
    ],
)
def test_an_export_that_fails_is_one_line_of_error(
    stored: Shell, options: tuple[str, ...], problem: str
) -> None:
    """The command exits 2 and names the problem."""
    done = stored("results", "night", *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {problem}")
    assert len(done.err.splitlines()) == 1
