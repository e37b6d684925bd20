"""Files that are named after a batch: they are in the working directory, whatever its name is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightmill.cli.checking import _side_path
from nightmill.cli.file_names import MAX_BYTES, file_of
from nightmill.export.outputs import opened
from nightmill.sources import Source

SUFFIX = ".results.jsonl"


def test_an_ordinary_name_is_the_files_name() -> None:
    """Scripts and people know where the results are."""
    for name in ("prompts", "2026-01 night #1", "naïve", "-x", ".hidden"):
        assert file_of(name, SUFFIX) == Path(f"{name}{SUFFIX}")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/cron.d/x", "a/../../x", "..", ".", "a/b", "~/x", ""]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """The batch `../x` wrote its results outside."""
    path = tmp_path / file_of(name, SUFFIX)
    assert path.parent == tmp_path
    path.touch()
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_differ_have_files_that_differ() -> None:
    """One batch must not replace the results of another."""
    names = ["a/b", "a-b", "a_b", "x" * 300, "x" * 301, "é" * 150, "é" * 151]
    assert len({file_of(name, SUFFIX) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["x" * 512, "é" * 256, "漢" * 170])
def test_the_longest_name_fits(tmp_path: Path, name: str) -> None:
    """It has 512 bytes. The export after a whole run must not fail because of it."""
    path = tmp_path / file_of(name, SUFFIX)
    with opened(path) as file:
        file.write(b"row")
    assert path.read_bytes() == b"row"
    assert len(os.fsencode(path.name)) <= MAX_BYTES


def test_the_side_file_of_bad_rows_is_in_the_folder_too() -> None:
    """--skip-bad names it after the batch."""
    assert _side_path("../x", Source(location="in.jsonl")) == Path("..%2Fx.rejected.jsonl")
