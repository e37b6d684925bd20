"""Signs of life: a process that died or hangs is found, and what is left of it is removed."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from nightmill_worker.machine import pulse
from nightmill_worker.machine.pulse import FOLDER, HUNG_S, Kind, beating, check
from tests.rig import until


async def test_live_processes_are_healthy_and_leave_nothing(tmp_path: Path) -> None:
    """The supervisor and at least one worker."""
    assert "no `nightmill worker` runs here" in check(tmp_path)
    async with beating(tmp_path, "supervisor"):
        assert "no worker process runs" in check(tmp_path)
        async with beating(tmp_path, "worker"):
            assert check(tmp_path) == ""
        assert "no worker process runs" in check(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []


@pytest.mark.parametrize("kind", ["supervisor", "worker"])
async def test_a_blocked_event_loop_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Its file is not touched any more; a loop that goes on touches it again."""
    monkeypatch.setattr(pulse, "BEAT_S", 0.05)
    async with beating(tmp_path, "supervisor"), beating(tmp_path, "worker"):
        await asyncio.sleep(0)
        (path,) = (tmp_path / FOLDER).glob(f"{kind}-*")
        past = time.time() - HUNG_S - 5
        os.utime(path, (past, past))  # and no other task runs until the next await
        assert f"{kind} process {os.getpid()} hangs: no sign of life for 25 s" in check(tmp_path)
        await until(lambda: check(tmp_path) == "")


async def test_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    """Those of this machine at once, those of a container that is gone when they are old."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    mine = folder / f"worker-1@{pulse._host()}"
    for path in (mine, folder / "worker-1@gone", folder / "worker-2@starts"):
        path.touch()
    os.utime(folder / "worker-1@gone", (1, 1))
    async with beating(tmp_path, "supervisor"):
        names = {path.name for path in folder.iterdir()}
    assert names == {f"supervisor-{os.getpid()}@{pulse._host()}", "worker-2@starts"}


async def test_other_containers_are_not_looked_at(tmp_path: Path) -> None:
    """They share the folder, and not the fate."""
    async with beating(tmp_path, "supervisor"), beating(tmp_path, "worker"):
        other = tmp_path / FOLDER / "worker-1@other"
        other.touch()
        os.utime(other, (1, 1))
        assert check(tmp_path) == ""


async def test_a_disk_that_takes_no_file_ends_no_worker(tmp_path: Path) -> None:
    """The check fails then; the calls go on."""
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    async with beating(tmp_path, "worker"):
        pass
