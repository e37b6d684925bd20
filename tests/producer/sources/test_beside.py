"""The API version and the betas that a source's rows, or its options, ask for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nightmill.errors import InvalidParamsError
from nightmill.params import api_of
from nightmill.records.api import Api
from nightmill.records.job import request_hash
from nightmill.sources import Line, Rejected, Template, items_of, read_source, source_of
from tests.producer.sources.reading import DEFAULTS, SAY, read, write

NEW = Api(anthropic_version="2026-10-21", anthropic_beta=("a-2025-01-01", "b"))


def apis(found: list[Line | Rejected]) -> list[Api]:
    """Return what the jobs ask for; all rows must be good."""
    assert all(isinstance(line, Line) for line in found), found
    return [line.api for line in found if isinstance(line, Line)]


@pytest.mark.parametrize(
    "row",
    [
        b'{"params": {"messages": [{"role": "user", "content": "a"}]}, %s}\n',
        b'{"messages": [{"role": "user", "content": "a"}], %s}\n',
        b'{"prompt": "a", %s}\n',
    ],
)
def test_a_line_names_its_version_and_betas_in_each_shape(tmp_path: Path, row: bytes) -> None:
    """There was no way to send a beta header for one job; in the body the API refuses the names."""
    both = b'"anthropic_version": "2026-10-21", "anthropic_beta": ["a-2025-01-01", "b"]'
    (line,) = read(write(tmp_path, "in.jsonl", row % both))
    assert isinstance(line, Line), line
    assert line.api == NEW
    assert b"anthropic" not in line.body


def test_a_table_names_them_in_columns(tmp_path: Path) -> None:
    """A template uses no other columns; an empty cell names nothing."""
    table = b'text,anthropic_version,anthropic_beta\nx,2026-10-21,"a-2025-01-01, b"\ny,,\n'
    assert apis(read(write(tmp_path, "in.csv", table), SAY)) == [NEW, Api()]


def test_options_are_for_rows_that_name_none_and_betas_add_up(tmp_path: Path) -> None:
    """A row's own version is the more exact one; a beta for all rows must not remove a row's."""
    rows = b'{"prompt": "a", "anthropic_version": "2023-06-01", "anthropic_beta": "b"}\n'
    source = source_of(write(tmp_path, "in.jsonl", rows + b'{"prompt": "b"}\n'))
    source = msgspec.structs.replace(source, api=api_of("2026-10-21", ["all"]))
    assert apis(list(read_source(source, DEFAULTS))) == [
        Api(anthropic_version="2023-06-01", anthropic_beta=("all", "b")),
        Api(anthropic_version="2026-10-21", anthropic_beta=("all",)),
    ]


@pytest.mark.parametrize(
    ("version", "beta", "field"),
    [
        ("2026-10-21\r\nx-evil: 1", None, "anthropic_version"),
        ("2026-10-21\n", None, "anthropic_version"),
        ("latest", None, "anthropic_version"),
        (20261021, None, "anthropic_version"),
        (None, ["ok", "a\nx-evil: 1"], "anthropic_beta.1"),
        (None, "a\x00", "anthropic_beta"),
        (None, "\N{LATIN SMALL LETTER E WITH ACUTE}", "anthropic_beta"),
        (None, ["b" * 101], "anthropic_beta.0"),
        (None, [f"b{i}" for i in range(33)], "anthropic_beta"),
        (None, {"a": 1}, "anthropic_beta"),
        (None, [7], "anthropic_beta.0"),
    ],
)
def test_a_value_that_could_make_another_header_is_refused(
    version: object, beta: object, field: str
) -> None:
    """They become headers, so a line feed would begin a header of the row's choice."""
    row = {"prompt": "a", "anthropic_version": version, "anthropic_beta": beta}
    (found,) = list(items_of([row], DEFAULTS))  # type: ignore[arg-type]
    assert isinstance(found, Rejected)
    assert found.error.field == field


def test_a_request_that_asks_for_another_version_is_another_request() -> None:
    """`run` again with a beta must call again; without one, the hashes of old rows still hold."""
    body = b'{"model":"m"}'
    assert request_hash(body, Api()) == request_hash(body)
    hashes = {request_hash(body, api) for api in (Api(), NEW, Api(anthropic_beta=("b",)))}
    assert len(hashes) == 3


def test_a_template_row_from_python_keeps_its_version() -> None:
    """`enqueue_many` and `feed` take rows of any columns."""
    rows = [{"text": "x", "anthropic_beta": ["b"]}]
    (line,) = list(items_of(rows, DEFAULTS, Template(prompt="{{ text }}")))  # type: ignore[arg-type]
    assert isinstance(line, Line)
    assert line.api == Api(anthropic_beta=("b",))


def test_an_option_that_is_wrong_names_the_option() -> None:
    """The user typed --api-version, not a field of a row."""
    with pytest.raises(InvalidParamsError, match="--api-version"):
        api_of("yesterday", None, names=("--api-version", "--beta"))
