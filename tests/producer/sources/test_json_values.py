"""JSON arrays, and objects over several lines, are read as JSON Lines are."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.sources import Line, Rejected, check_source, json_values, read_source, source_of
from nightmill.sources.json_values import read_values
from tests.producer.sources.reading import DEFAULTS, asked, read, write

ROWS: Final[list[dict[str, Any]]] = [
    {"prompt": 'a "quoted" {[ \\'},
    {"prompt": "b\n]}", "stop_sequences": ["x", "}"]},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4)
"""Small: to make large ones took a minute, and they have no other ends of chunks."""


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff" + json.dumps(ROWS, indent=4),
        "\n\n " + json.dumps(ROWS) + "\n",
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps(row, indent=2) for row in ROWS),
        ",\n".join(json.dumps(row, indent=2) for row in ROWS),
        json.dumps(ROWS, indent=2).replace("\n", "\r\n"),
    ],
)
def test_an_array_and_spread_objects_are_read(tmp_path: Path, data: str) -> None:
    """An array was refused; two objects over three lines each were six "not JSON" rows."""
    path = write(tmp_path, "in.json", data.encode())
    assert list(asked(path).values()) == [row["prompt"] for row in ROWS]


def test_rows_are_numbered_by_their_lines(tmp_path: Path) -> None:
    """In an array on one line they are counted: each needs its own number."""
    spread = "".join(json.dumps(row, indent=2) + "\n" for row in ROWS)
    assert list(asked(write(tmp_path, "in.jsonl", spread.encode()))) == ["line-1", "line-4"]
    assert list(asked(write(tmp_path, "in.json", json.dumps(ROWS).encode()))) == [
        "line-1",
        "line-2",
    ]


def test_a_bad_object_is_a_bad_row(tmp_path: Path) -> None:
    """Reading goes on, and a missing end is reported."""
    data = b'[{"prompt": "a"}, {"prompt": 5}, oops, {"prompt": "b"}, {"prompt": "c"'
    first, second, third, fourth = read(write(tmp_path, "in.json", data))
    assert isinstance(first, Line)
    assert isinstance(second, Rejected)
    assert "prompt: given 5" in str(second.error)
    assert isinstance(third, Rejected)
    assert "not JSON" in str(third.error)
    assert isinstance(fourth, Rejected)
    assert "not JSON" in str(fourth.error)


def test_an_empty_array_has_no_jobs(tmp_path: Path) -> None:
    """It is an error, as for a file of blank lines."""
    path = write(tmp_path, "in.json", b"[ ]\n")
    with pytest.raises(Exception, match="no jobs in it"):
        check_source(source_of(path), DEFAULTS, ids=tmp_path / "ids.db")


def test_a_large_array_is_read_in_flat_memory(tmp_path: Path) -> None:
    """One line of 30 MB; only one row is in memory, and a row that is too large is refused."""
    path = tmp_path / "in.json"
    rows = [{"prompt": "x" * 30_000}] * 1000
    rows[500] = {"prompt": "x" * (5 << 20)}
    path.write_text(json.dumps(rows))
    tracemalloc.start()
    lines = [isinstance(line, Line) for line in read_source(source_of(path), DEFAULTS)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines.count(True) == 999
    assert peak < 20 << 20


@given(OBJECTS, st.integers(1, 40), st.sampled_from([None, 1]))
def test_values_are_found_wherever_a_chunk_ends(
    rows: list[dict[str, object]], size: int, indent: int | None
) -> None:
    """A chunk may end inside a string, or after a backslash."""
    text = json.dumps(rows, indent=indent)

    class Slow(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            return super().read(size)

    found = [json.loads(raw) for _, raw, _ in read_values(Slow(text.encode()), 1 << 20)]
    assert found == rows
    numbers = [number for number, _, _ in read_values(Slow(text.encode()), 1 << 20)]
    assert len(set(numbers)) == len(numbers)


def test_a_file_of_lines_is_no_array() -> None:
    """The first line decides; one bad line must not change how the others are read."""
    for head in (b'{"a": 1}\n{"b": 2}\n', b'{"a": 1,\n', b"[1]\n", b"oops\n", b"{nope\n{}\n"):
        assert not json_values.is_spread(head) or head == b'{"a": 1,\n'
    assert json_values.is_spread(b'{\n"a": 1}')
    assert json_values.is_spread(b'[{"a"')


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"prompt": "a"}{"prompt": "b"}\n', "each object needs a line of its own: jq -c . IN"),
        (b'{"requests": [{"params": {}}]}', "a list of objects, requests; make it one object a l"),
        (b'{"data": [{"prompt": "a"}]}', "jq -c '.[\"data\"][]' IN > OUT"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1", "body": {}}', "an OpenAI batch"),
        (
            b'{"custom_id": "a", "result": {"type": "errored"}}',
            "a line of results, not of",
        ),
    ],
)
def test_what_is_nearly_a_file_of_requests_is_named(
    tmp_path: Path, data: bytes, message: str
) -> None:
    """The message was "no request in this line", with no word about what it is."""
    (bad,) = read(write(tmp_path, "in.jsonl", data))
    assert isinstance(bad, Rejected)
    assert message in str(bad.error)
