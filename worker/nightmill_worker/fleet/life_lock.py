"""Which worker processes of a data directory have ended: each holds the lock of a file of its own.

The kernel frees the lock when the process ends, however it ends, and not before: a frozen process
keeps it. A process id would not do, since containers have ids of their own.

A free lock proves an end only where the lock was taken through the same kernel and the same mount.
A machine that shares the directory over a network may not see our locks. So the file names the boot
of the kernel, and the file itself as that mount numbers it; any other file proves nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nightmill.safety import private

SUFFIX: Final = ".lock"
LONGEST: Final = 200
"""Longest content that is read, bytes."""
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class LifeLock:
    """The lock of one worker process."""

    def __init__(self, folder: Path, worker: str) -> None:
        """Take the folder that the workers of a data directory share, and this worker's name."""
        self._path = folder / f"{worker}{SUFFIX}"
        self._file: int | None = None

    def hold(self) -> None:
        """Hold the lock until `leave`. Where that fails, leases are waited for, as ever."""
        with contextlib.suppress(OSError):
            private.make_folder(self._path.parent)
            file = private.opener(str(self._path), os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(file, _mark(file))  # only now does it prove anything
            except OSError:
                os.close(file)
                self._path.unlink(missing_ok=True)
                raise
            self._file = file

    def leave(self, *, remove: bool) -> None:
        """Free the lock; with `remove`, this worker holds no leases."""
        if self._file is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def ended(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and file of each worker whose process has ended; its lock is held meanwhile."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if _has_ended(file):
                yield path.name.removesuffix(SUFFIX), path
        finally:
            os.close(file)


def _has_ended(file: int) -> bool:
    """Take the lock of a file that proves an end; return whether it did."""
    try:
        if os.read(file, LONGEST) != _mark(file):
            return False
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file).st_nlink > 0  # else another worker was faster
    except OSError:
        return False


def _mark(file: int) -> bytes:
    """Return what an open lock file has to hold. Raises OSError where there is no boot id."""
    found = os.fstat(file)
    return b"%b %d %d\n" % (BOOT.read_bytes().strip(), found.st_dev, found.st_ino)
