"""Input files: a bad one is an error of one line; a good one is read in constant memory."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.params import Defaults
from nightmill.sources import (
    Line,
    Rejected,
    Summary,
    check_source,
    is_stream,
    read_checked,
    read_rejects,
    source_of,
)
from nightmill.sources.jobs import lines
from nightmill.sources.jsonl import read_jsonl
from nightmill.sources.opening import open_source

DEFAULTS: Final = Defaults(model="default-model", max_tokens=64, max_payload_bytes=1 << 20)
MESSAGES: Final = [{"role": "user", "content": "Hi"}]
GOOD: Final = b'{"prompt": "Hi"}\n'
CAP: Final = 3 * DEFAULTS.max_payload_bytes + (1 << 16)


def read(data: bytes) -> list[Line | Rejected]:
    """Return the lines of a stream of `data`."""
    return list(read_stream(io.BytesIO(data)))


def read_stream(stream: BinaryIO) -> Iterator[Line | Rejected]:
    """Return the lines of a JSON Lines stream."""
    return lines(read_jsonl(stream, CAP), DEFAULTS)


def read_one(row: object) -> Line | Rejected:
    """Return the line of a stream of this one row."""
    (line,) = read(json.dumps(row).encode())
    return line


def good(lines: Iterable[Line | Rejected]) -> Iterator[Line]:
    """Yield the lines, which must all be jobs."""
    for line in lines:
        assert isinstance(line, Line), line
        yield line


def refusal(row: object) -> InvalidParamsError:
    """Return the error of this one bad row."""
    line = read_one(row)
    assert isinstance(line, Rejected)
    assert line.error.line == line.number == 1
    return line.error


def checked(folder: Path, data: bytes) -> Summary:
    """Check a file with this content."""
    path = folder / "in.jsonl"
    path.write_bytes(data)
    return check_source(source_of(path), DEFAULTS, ids=folder / "ids.db")


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "a", "params": {"messages": MESSAGES, "temperature": 0, "new": {"x": 1}}},
        {"custom_id": "a", "messages": MESSAGES, "temperature": 0, "new": {"x": 1}},
    ],
)
def test_params_and_the_bare_request_are_the_same_job(row: object) -> None:
    """Files have both shapes. Fields that the contract does not know pass in both."""
    (line,) = good([read_one(row)])
    assert (line.number, line.custom_id, line.model) == (1, "a", "default-model")
    assert json.loads(line.body) == {
        "messages": MESSAGES,
        "temperature": 0,
        "new": {"x": 1},
        "model": "default-model",
        "max_tokens": 64,
    }


def test_a_prompt_row_becomes_one_user_message() -> None:
    """A table of prompts is the simplest input. Its nulls are left out of the request."""
    row = {"prompt": "Hi", "model": "mine", "max_tokens": 5, "system": None, "custom_id": None}
    (line,) = good([read_one(row)])
    assert line.custom_id == "line-1"
    assert json.loads(line.body) == {"model": "mine", "max_tokens": 5, "messages": MESSAGES}


def test_a_byte_order_mark_crlf_and_blank_lines_are_accepted() -> None:
    """Editors write them. Lines are numbered as in an editor: blank lines count."""
    lines = good(read(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n \t\n" + GOOD.strip()))
    assert [line.custom_id for line in lines] == ["line-1", "line-4"]
    assert read(b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "line 1: given [1] (list); allowed: one object a line"),
        ({"custom_id": "a"}, "line 1: no request in this line"),
        ({"params": None}, "line 1: params: given null"),
        ({"params": {"messages": MESSAGES}, "model": "m"}, "line 1: model: unknown field"),
        ({"prompt": ""}, "line 1: prompt: given '' (string)"),
        ({"prompt": ["Hi"]}, "line 1: prompt: given ['Hi'] (list)"),
        ({"prompt": "Hi", "label": 3}, "line 1: label: unknown field in this line; put other"),
        ({"prompt": "Hi", "messages": MESSAGES}, "line 1: messages: unknown field"),
        ({"prompt": "Hi", "max_tokens": 0}, "line 1: max_tokens: given 0 (integer)"),
        ({"prompt": "Hi", "temperature": 1.5}, "line 1: temperature: given 1.5"),
        ({"prompt": "Hi", "temperature": float("nan")}, "line 1: temperature: given nan"),
        ({"messages": []}, "line 1: messages: given [] (list)"),
        (
            {"params": {"messages": [{"role": "system", "content": "x"}]}},
            "line 1: messages.0.role: given 'system' (string); allowed: user or assistant; move",
        ),
        ({"prompt": "Hi", "custom_id": 17}, "line 1: custom_id: given 17 (integer)"),
        ({"prompt": "Hi", "custom_id": ""}, "line 1: custom_id: given ''"),
        ({"prompt": "Hi", "custom_id": "x" * 257}, "it has 257 characters"),
        ({"prompt": "Hi", "custom_id": "a\nb"}, "no control characters"),
        ({"prompt": "Hi", "custom_id": "\ud83d"}, "no control characters"),
    ],
)
def test_a_bad_row_says_line_field_and_what_is_allowed(row: object, message: str) -> None:
    """One line on the terminal must be enough to correct the input."""
    text = str(refusal(row))
    assert message in text
    assert "\n" not in text


def test_reading_goes_on_after_a_bad_line() -> None:
    """With --skip-bad the rest of the file is fed."""
    first, second, third = read(b"{oops\x07\n" + b'{"prompt": "\xff"}\n' + GOOD)
    assert isinstance(first, Rejected)
    assert str(first.error).startswith("line 1: not JSON")
    assert first.snippet == "{oops\ufffd\ufffd"
    assert isinstance(second, Rejected)
    assert str(second.error).startswith("line 2: not UTF-8 (byte 0xff at 12)")
    assert isinstance(third, Line)


def test_a_request_over_the_limit_is_refused_with_its_size() -> None:
    """A job of 2 MiB is too large for Redis, and is refused before it gets there."""
    text = str(refusal({"prompt": "x" * (2 << 20)}))
    assert "the request is 2,097,235 bytes; allowed: 1,048,576" in text


def test_a_request_written_in_escapes_counts_by_what_is_sent() -> None:
    """JSON escapes make other scripts two or three times longer than the UTF-8 that is sent."""
    assert isinstance(read_one({"prompt": "ж" * (500 << 10)}), Line)


def test_an_endless_line_is_never_held_in_memory() -> None:
    """A file without a line end may be larger than the machine's memory."""
    data = io.BytesIO(b'{"prompt": "' + b"x" * (64 << 20) + b'"}\n' + GOOD)
    tracemalloc.start()
    first, second = read_stream(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(first, Rejected)
    assert "the line is 67,108,879 bytes; allowed: 3,211,264" in str(first.error)
    assert isinstance(second, Line)
    assert second.number == 2
    assert peak < 8 << 20


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\x00\x00", GOOD + GOOD + b"\0\n", b"\0" * 99])
def test_a_binary_file_is_one_error_naming_the_line(data: bytes, tmp_path: Path) -> None:
    """A binary file is one error, not one for each line."""
    number = data[: data.index(b"\0")].count(b"\n") + 1
    with pytest.raises(SourceError, match=f"^line {number}: a NUL byte"):
        checked(tmp_path, data)


def test_a_utf_16_file_is_read(tmp_path: Path) -> None:
    """Some editors save text as UTF-16: it was refused as a binary file."""
    assert checked(tmp_path, GOOD.decode().encode("utf-16")).jobs == 1


def test_a_file_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    """Each kind of wrong path has its own message."""
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, message in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "is a directory"),
        (empty, "the file is empty"),
        (loop, "cannot be read"),
    ):
        with pytest.raises(SourceError, match=message) as caught, open_source(str(path)):
            pass
        assert str(caught.value).startswith(str(path))


def test_a_source_that_fails_in_the_middle_names_the_line() -> None:
    """A disk or a pipe may fail after the first lines."""

    class Failing(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if line := super().readline(size):
                return line
            raise OSError(5, "Input/output error")

    with pytest.raises(SourceError, match="line 2: cannot be read: Input/output error"):
        list(read_stream(Failing(GOOD)))


def test_pipes_and_standard_input_are_streams(tmp_path: Path) -> None:
    """A stream can be read only once, so it cannot be checked before it is fed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_stream("-")
    assert is_stream(str(pipe))
    assert not is_stream(str(tmp_path))
    assert not is_stream(str(tmp_path / "none.jsonl"))


def test_a_file_of_blank_lines_has_no_jobs(tmp_path: Path) -> None:
    """It is an error, as for an empty file."""
    with pytest.raises(SourceError, match="no jobs in it"):
        checked(tmp_path, b"\n\r\n \n")


def test_a_good_file_is_counted(tmp_path: Path) -> None:
    """`enqueue` prints this summary before it starts."""
    warm = b'{"prompt": "Hi", "temperature": 0.5, "top_p": 0.5}\n'
    summary = checked(tmp_path, GOOD + warm + warm)
    assert (summary.jobs, summary.rejected, summary.mistakes.shown) == (3, 0, ())
    (warned,) = summary.warnings
    assert (warned.count, warned.first) == (2, 2)


def test_a_duplicate_names_both_lines(tmp_path: Path) -> None:
    """The first line is kept. Ids made from line numbers are compared too."""
    rows = [{"prompt": "a", "custom_id": "x"}, {"prompt": "b"}, {"prompt": "c", "custom_id": "x"}]
    rows.append({"prompt": "d", "custom_id": "line-2"})
    summary = checked(tmp_path, b"\n".join(json.dumps(row).encode() for row in rows))
    assert (summary.jobs, summary.rejected) == (2, 2)
    assert [str(rejected.error) for rejected in read_rejects(summary)] == [
        "line 3: custom_id: 'x' was used on line 1 already; each needs its own",
        "line 4: custom_id: 'line-2' was used on line 2 already; each needs its own",
    ]


def test_the_second_reading_skips_the_very_lines_the_check_rejected(tmp_path: Path) -> None:
    """A line reported as skipped must not be enqueued, also after many chunks of lines."""
    rows = []
    for number in range(1, 3501):
        custom_id = "same" if number % 700 == 0 else f"id-{number}"
        bad = number % 500 == 0
        rows.append({"prompt": "" if bad else "Hi", "custom_id": custom_id})
    summary = checked(tmp_path, b"\n".join(json.dumps(row).encode() for row in rows))
    rejects = [rejected.number for rejected in read_rejects(summary)]
    assert rejects == [500, 1000, 1400, 1500, 2000, 2100, 2500, 2800, 3000, 3500]
    fed = [line.number for line in read_checked(summary, DEFAULTS)]
    assert sorted(fed + rejects) == list(range(1, 3501))
    assert len(fed) == summary.jobs


def test_one_mistake_is_told_once_and_all_rejects_are_kept(tmp_path: Path) -> None:
    """A file in the wrong format has an error in every line: the same line came 3,000 times."""
    summary = checked(tmp_path, b"nonsense\n" * 50)
    assert (summary.jobs, summary.rejected) == (0, 50)
    (line,) = summary.mistakes.lines(50)
    assert line.startswith("50 of 50 rows: not JSON: it does not begin with {; a table needs --f")
    assert line.endswith("(first: line 1)")
    assert len(list(read_rejects(summary))) == 50


def test_a_file_that_changed_after_its_check_is_not_fed_further(tmp_path: Path) -> None:
    """A bad line that the check did not find must not be reported as skipped."""
    summary = checked(tmp_path, GOOD + GOOD)
    Path(summary.source.location).write_bytes(GOOD + b"nonsense\n")
    lines = read_checked(summary, DEFAULTS)
    assert next(lines).number == 1
    with pytest.raises(SourceError, match="changed since it was checked: line 2: not JSON"):
        next(lines)


def test_what_an_earlier_check_left_behind_is_replaced(tmp_path: Path) -> None:
    """A killed command leaves its file behind, perhaps half written."""
    (tmp_path / "ids.db").write_bytes(b"not a database" * 1000)
    assert checked(tmp_path, GOOD).jobs == 1
    assert checked(tmp_path, GOOD).rejected == 0


def test_a_table_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """The disk may be full, or the folder may be missing."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(GOOD)
    with pytest.raises(SourceError, match="the table of ids cannot be written"):
        check_source(source_of(path), DEFAULTS, ids=tmp_path / "gone" / "ids.db")
