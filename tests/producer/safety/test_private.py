"""Data directories and their files: no other user may read the prompts and answers in them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.errors import SettingsError
from nightmill.safety import private
from nightmill.store import ResultStore
from tests.producer.store.samples import SUCCEEDED

NOBODY = 65534
WITHOUT_RIGHTS = """
import ctypes, os, sys
for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "nightmill", *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Run with the umask of most systems."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """Return the rights to a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [None, 0o755, 0o777])
async def test_a_data_directory_and_its_store_are_private(
    tmp_path: Path, before: int | None
) -> None:
    """With one's own Redis they were 0755 and 0644: every user could read all prompts."""
    home = tmp_path / "home"
    if before is not None:
        home.mkdir()
        home.chmod(before)
        for name in ("results.db", "results.db-wal"):
            (home / name).touch(0o644)
    async with ResultStore.open(home / "results.db") as store:
        await store.record([SUCCEEDED])
        modes = {path.name: mode(path) for path in home.iterdir()}
    assert mode(home) == 0o700
    assert modes == dict.fromkeys(("results.db", "results.db-wal", "results.db-shm"), 0o600)


async def test_a_store_at_a_url_is_made_private_and_then_left_alone(tmp_path: Path) -> None:
    """Its place and its rights are the user's decision."""
    folder = tmp_path / "shared"
    folder.mkdir(0o755)
    path = folder / "r.db"
    async with ResultStore.open(f"sqlite:///{path}"):
        assert mode(path) == 0o600
    path.chmod(0o640)
    async with ResultStore.open(f"sqlite:///{path}"):
        assert mode(path) == 0o640
    assert mode(folder) == 0o755


def test_a_folder_that_is_more_than_a_data_directory_keeps_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NIGHTMILL_DATA_DIR=. must not lock others out of a project, nor out of /tmp."""
    work, shared = tmp_path / "work", tmp_path / "shared"
    (work / "deep").mkdir(parents=True)
    work.chmod(0o755)
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.chdir(work / "deep")
    for folder in (work, shared):
        private.make_folder(folder)
    assert (mode(work), mode(shared)) == (0o755, 0o1777)


def test_a_file_that_is_opened_is_private(tmp_path: Path) -> None:
    """A log of an earlier version is closed to others, too."""
    for name in ("new.log", "old.log"):
        path = tmp_path / name
        if name == "old.log":
            path.touch(0o644)
        with open(path, "ab", opener=private.opener):
            assert mode(path) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_left_alone_with_a_warning(tmp_path: Path) -> None:
    """We may not change its rights, and its owner can read all that we write."""
    os.chown(tmp_path, NOBODY, NOBODY)
    tmp_path.chmod(0o777)
    private.make_folder(tmp_path)
    assert mode(tmp_path) == 0o777
    (warning,) = private.warnings(tmp_path)
    assert "belongs to another user (uid 65534)" in warning
    assert list(private.warnings(tmp_path / "gone")) == []


def test_a_place_that_cannot_be_a_directory_is_one_clear_error(tmp_path: Path) -> None:
    """The error says what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="a file is in the way: move that file"):
        private.require_folder(tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be a directory"):
        private.require_folder(tmp_path / "file" / "home")


def as_another_user(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command without root's right to read and write every file."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS, *command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def given_away(path: Path, *, readable: bool) -> None:
    """Let another user own a path, or take our own rights to it."""
    path.chmod(0o555 if readable else 0o700)
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    elif not readable:
        path.chmod(0)


@pytest.mark.parametrize(
    "command", [["results", "b"], ["errors", "b"], ["status"], ["show", "b:1"]]
)
def test_a_command_of_another_user_is_refused_in_one_line(
    tmp_path: Path, command: list[str]
) -> None:
    """It ended with a traceback, exit code 1."""
    home = tmp_path / ".nightmill"
    home.mkdir()
    (home / "results.db").touch()
    given_away(home, readable=False)
    done = as_another_user(tmp_path, *command)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: cannot use .nightmill")
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["run", "in.jsonl"], ["worker"]])
def test_a_data_directory_that_is_read_only_is_refused_in_one_line(
    tmp_path: Path, command: list[str]
) -> None:
    """With one's own Redis, `run` ended with a traceback, and workers were started for ever."""
    (tmp_path / "in.jsonl").write_text('{"prompt":"hi"}\n')
    home = tmp_path / "home"
    home.mkdir()
    given_away(home, readable=True)
    done = as_another_user(
        tmp_path,
        *command,
        NIGHTMILL_DATA_DIR=str(home),
        NIGHTMILL_REDIS_URL="redis://127.0.0.1:1",
        NIGHTMILL_API_KEY="k",
    )
    assert done.returncode == 2, done.stderr
    problem = f"cannot write {home}. Set NIGHTMILL_DATA_DIR to a writable directory"
    assert done.stderr == f"error: {problem}, e.g. /var/lib/nightmill\n"
