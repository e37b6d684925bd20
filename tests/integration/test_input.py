"""Invalid input gives one clear line and exit 2, and no job is enqueued."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.shell import Shell

GOOD = b'{"custom_id": "good", "prompt": "hello"}\n'
BAD_LINES = {
    b"{nope": "line 2: ",
    b'{"custom_id": "x"}': "no request in this line",
    b'{"params": {"messages": "hello"}}': "line 2: messages: given",
    b'{"prompt": 5}': "line 2: prompt",
    b'{"prompt": "x", "max_tokens": 0}': "max_tokens",
    b'{"prompt": "x", "max_tokens": "many"}': "max_tokens",
    b'{"prompt": "x", "temperature": 1.5}': "temperature",
    b'{"messages": [{"role": "system", "content": "x"}]}': "move it to `system`",
    b'{"messages": []}': "messages",
    b'{"custom_id": "good", "prompt": "again"}': "was used on line 1",
    b'{"prompt": "' + b"x" * (2 << 20) + b'"}': "MAX_PAYLOAD_BYTES",
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a shell without Redis, endpoint or key: a file is refused before they are needed."""
    return Shell(tmp_path)


def assert_refused(shell: Shell, message: str, *command: str) -> None:
    """Assert that `command` exits 2 with `message` and makes no data directory."""
    done = shell(*command)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.splitlines()[-1].startswith("error: ")
    assert len(done.err) < 1000
    assert not shell.data.exists()


@pytest.mark.parametrize("bad", BAD_LINES, ids=lambda bad: bad[:60].decode())
def test_a_bad_line_is_reported_and_nothing_is_enqueued(shell: Shell, bad: bytes) -> None:
    """An error on the last line must be reported before the run starts, not hours later."""
    (shell.folder / "in.jsonl").write_bytes(GOOD + bad + b"\n")
    assert_refused(shell, BAD_LINES[bad], "run", "in.jsonl", "--simulate")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "in.jsonl: the file is empty"),
        (b"\n \r\n", "in.jsonl: no jobs in it"),
        (b"\x7fELF\x02\x01\0\0\0\0", "a NUL byte"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "in.jsonl: 2 of 3 rows: not UTF-8"),
    ],
)
def test_a_file_without_input_is_reported(shell: Shell, content: bytes, message: str) -> None:
    """`run` and `enqueue` give the same message."""
    (shell.folder / "in.jsonl").write_bytes(content)
    assert_refused(shell, message, "run", "in.jsonl", "--simulate")
    assert_refused(shell, message, "enqueue", "in.jsonl")


def test_a_path_that_is_no_file_is_reported(shell: Shell) -> None:
    """The path does not exist, or is a directory."""
    (shell.folder / "folder").mkdir()
    assert_refused(shell, "missing.jsonl: no such file", "run", "missing.jsonl", "--simulate")
    message = "folder: is a directory; say how its files become jobs"
    assert_refused(shell, message, "run", "folder", "--simulate")
    assert_refused(shell, "-: it is empty", "run", "-", "--batch", "x", "--simulate")


def test_skip_bad_runs_the_good_lines_and_reports_the_others_in_a_file(shell: Shell) -> None:
    """Eleven bad lines do not stop the good one."""
    (shell.folder / "in.jsonl").write_bytes(GOOD + b"\n".join(BAD_LINES) + b"\n")
    done = shell("run", "in.jsonl", "--simulate", "--latency", "0", "--skip-bad")
    assert done.code == 0
    assert f"{len(BAD_LINES)} bad rows skipped; see in@rehearsal.rejected.jsonl" in done.err
    assert [row["custom_id"] for row in shell.rows("in@rehearsal.results.jsonl")] == ["good"]
    assert [row["line"] for row in shell.rows("in@rehearsal.rejected.jsonl")] == [
        2 + i for i in range(len(BAD_LINES))
    ]
    shell.assert_nothing_runs()


def test_a_byte_order_mark_crlf_and_blank_lines_are_accepted(shell: Shell) -> None:
    """Editors and Windows programs write them."""
    lines = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b'\r\n\n  \n{"prompt": "last"}'
    (shell.folder / "in.jsonl").write_bytes(lines)
    done = shell("enqueue", "in.jsonl")
    assert (done.code, done.out) == (0, 'fed 2 jobs as batch "in": 2 new\n')


def test_standard_input_is_a_file_too(shell: Shell) -> None:
    """It is checked as a whole, and messages do not show the name of its temporary copy."""
    done = shell("run", "-", "--batch", "piped", "--simulate", given=GOOD + b"nope\n")
    assert done.code == 2
    assert done.err.startswith("-: line 2: ")
    assert done.err.splitlines()[-1].startswith("error: -: 1 of 2 rows")


def test_a_named_pipe_is_a_stream_too(shell: Shell) -> None:
    """`nightmill run <(make-prompts)` reads a pipe; its rejects file is named after the batch."""
    os.mkfifo(shell.folder / "pipe")
    given = 'printf \'{"prompt": "x"}\nnope\n\' > pipe'
    command = ("run", "pipe", "--batch", "p", "--simulate", "--latency", "0", "--skip-bad")
    with subprocess.Popen(["/bin/sh", "-c", given], cwd=shell.folder):
        assert shell(*command).code == 0
    for kind in ("results", "rejected"):
        assert len(shell.rows(f"p@rehearsal.{kind}.jsonl")) == 1
