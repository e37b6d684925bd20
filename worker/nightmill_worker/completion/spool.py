"""The spool: answers that the store cannot take now, safe on this machine's disk.

Each process has one file under DATA_DIR/spool and locks it as long as it lives. A file without a
lock was left by a process that is gone; the first process that finds it drains it. A line is a
checksum and JSON: a damaged line is recognised, and the others can still be read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec

from nightmill.safety import private
from nightmill_worker.jobs.turns import Continuation
from nightmill_worker.queue.records import Finish

SUFFIX: Final = ".jsonl"


class Spooled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row as the store's columns and the finish that follows its commit; or a continuation."""

    row: dict[str, Any] = {}
    finish: Finish | None = None
    continuation: Continuation | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Spooled)


class Spool:
    """The file of one process; made when it is first needed."""

    def __init__(self, folder: Path, name: str) -> None:
        """Take the folder that the machine's workers share, and this process's name."""
        self._folder = folder
        self._path = folder / f"{name}{SUFFIX}"
        self._file: int | None = None
        self._size = 0

    def append(self, items: Iterable[Spooled]) -> None:
        """Return when all of `items` are on the disk; none of them is when OSError is raised."""
        if self._file is None:
            self._file = self._open()
        data = memoryview(b"".join(map(_line, items)))
        size = self._size + len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # half a line would damage the next one
                os.ftruncate(self._file, self._size)
            raise
        self._size = size

    def clear(self) -> None:
        """Remove the file: the store has it all."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Leave the file to the process that starts next."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._size = None, 0

    def _open(self) -> int:
        self._folder.mkdir(mode=private.FOLDER, parents=True, exist_ok=True)
        private.close(self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        file = private.opener(str(self._path), flags)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file's name outlives a power loss, too
        finally:
            os.close(folder)
        return file

    def orphans(self) -> Iterator[Orphan]:
        """Yield, one at a time, the files that ended processes left behind.

        A file that cannot be opened is passed over: it must not keep the others from the store.
        """
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                file = path.open("rb")
            except OSError:  # drained by another process meanwhile, or not ours to read
                continue
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                if os.fstat(file.fileno()).st_nlink:
                    yield Orphan(path, file)

    def is_used_by(self, name: str) -> bool:
        """Return whether answers of the process `name` wait here for the store."""
        return self._path.with_name(f"{name}{SUFFIX}").exists()

    def is_used(self) -> bool:
        """Return whether answers of any process, gone or not, wait here for the store."""
        return any(self._folder.glob(f"*{SUFFIX}"))


class Orphan:
    """A spool file whose process is gone, locked for us. `damaged` counts the lines set aside."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Take the file, locked."""
        self.path = path
        self.damaged = 0
        self._file = file
        self._aside: BinaryIO | None = None

    @property
    def aside(self) -> Path:
        """Where damaged lines go."""
        return self.path.with_suffix(".damaged")

    def __iter__(self) -> Iterator[Spooled]:
        """Yield what can be read; set aside what cannot."""
        self._file.seek(0)
        for line in self._file:
            item = _parsed(line)
            if item is not None:
                yield item
            else:
                self._set_aside(line)

    def __enter__(self) -> Self:
        """Read."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Remove the file when all of it was drained, else leave it for the next try."""
        if self._aside is not None:
            os.fsync(self._aside.fileno())
            self._aside.close()
        if kind is None:
            self.path.unlink(missing_ok=True)

    def refuse(self, item: Spooled) -> None:
        """Set aside an item that is no row."""
        self._set_aside(_line(item))

    def _set_aside(self, line: bytes) -> None:
        if self._aside is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self._aside = os.fdopen(private.opener(str(self.aside), flags), "wb", buffering=0)
        self._aside.write(line)
        self.damaged += 1


def _line(item: Spooled) -> bytes:
    body = _encode(item)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _parsed(line: bytes) -> Spooled | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # another version wrote it
        return None
