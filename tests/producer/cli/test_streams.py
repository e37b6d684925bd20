"""A standard stream that is full, closed, ASCII or read by `head` brings no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

BAD_INPUT: Final = 2
READER_GONE: Final = 141
QUIET: Final = (["--help"], ["--version"], ["settings"], ["run", "in.jsonl", "--dry-run"])
"""Commands that need neither a server nor a store."""
C_LOCALE: Final = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ASCII: Final = [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C"}, C_LOCALE]


def shell(folder: Path, line: str, *args: str, **env: str) -> tuple[int, str]:
    """Run a shell line in which "$@" is the command; return its exit code and its stderr."""
    (folder / "in.jsonl").write_text('{"custom_id": "é · 😀", "prompt": "é · 😀"}\n')
    done = subprocess.run(
        ["/bin/bash", "-c", line, "sh", sys.executable, "-m", "nightmill", *args],
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    err = done.stderr.decode()
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return done.returncode, err


@pytest.mark.parametrize("args", QUIET)
def test_a_stdout_that_takes_nothing_is_an_error_in_one_line(
    tmp_path: Path, args: list[str]
) -> None:
    """The exit code was 120 with the interpreter's own words, or 0 while all was lost."""
    code, err = shell(tmp_path, '"$@" > /dev/full', *args)
    assert (code, err) == (BAD_INPUT, "error: standard output: No space left on device\n")
    code, err = shell(tmp_path, '"$@" >&-', *args)
    assert (code, err) == (BAD_INPUT, "error: standard output: Bad file descriptor\n")


@pytest.mark.parametrize("args", QUIET)
@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_a_stderr_that_takes_nothing_changes_nothing(
    tmp_path: Path, args: list[str], where: str
) -> None:
    """The disk of a cron job's log was full: its run ended before the first call, with code 120."""
    assert shell(tmp_path, f'"$@" {where}', *args)[0] == 0
    assert shell(tmp_path, f'"$@" {where}', "nosuch")[0] == BAD_INPUT


@pytest.mark.parametrize("args", QUIET)
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, args: list[str]) -> None:
    """`| head` closes the pipe; the command ends quietly, as one that SIGPIPE ended."""
    assert shell(tmp_path, '"$@" | true; exit ${PIPESTATUS[0]}', *args) == (READER_GONE, "")


@pytest.mark.parametrize("env", ASCII, ids=["ioencoding", "lang", "locale"])
def test_an_ascii_terminal_gets_escapes(tmp_path: Path, env: dict[str, str]) -> None:
    """A dry run, which shows the request, ended with UnicodeEncodeError."""
    code, err = shell(tmp_path, '"$@" > out', "run", "in.jsonl", "--dry-run", **env)
    assert (code, err) == (0, "")
    shown = (tmp_path / "out").read_text("utf-8")
    assert "é" in shown or "\\u00e9" in shown


def test_json_on_an_ascii_terminal_is_the_same_value(tmp_path: Path) -> None:
    """An escape of Python is no JSON, and punctuation must not become another one."""
    args = ("enqueue", "in.jsonl", "--dry-run", "--json")
    shell(tmp_path, '"$@" > ascii', *args, PYTHONIOENCODING="ascii")
    shell(tmp_path, '"$@" > utf8', *args, PYTHONIOENCODING="utf-8")
    shown = (tmp_path / "ascii").read_bytes()
    assert shown.isascii()
    assert json.loads(shown) == json.loads((tmp_path / "utf8").read_bytes())


def test_an_argument_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Ids go to Redis and the store as UTF-8."""
    code, err = shell(tmp_path, "\"$@\" $'\\xff:a'", "show")
    assert code == BAD_INPUT
    assert err.startswith("error: not UTF-8: ")
    assert "\\udcff:a" in err


def test_a_directory_that_is_gone_is_an_error_in_one_line(tmp_path: Path) -> None:
    """The current directory was deleted: what needs it says so."""
    line = 'mkdir gone; cd gone; rmdir ../gone; "$@"'
    code, err = shell(tmp_path, line, "run", "in.jsonl", "--dry-run")
    assert code == BAD_INPUT
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_a_log_whose_disk_is_full_does_not_end_a_run(tmp_path: Path) -> None:
    """No call was made, there was no out.jsonl, and nothing was said."""
    code, _ = shell(tmp_path, '"$@" 2> /dev/full', "run", "in.jsonl", "--simulate", "-o", "o.jsonl")
    assert code == 0
    assert json.loads((tmp_path / "o.jsonl").read_text())["result"]["type"] == "succeeded"
