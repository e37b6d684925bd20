"""The embedded server while it runs: its lock files, a command to it, its stop.

Three lock files hold the server's state. The locks are the kernel's, so it frees those of a killed
process. `server.lock` is held while the server is started or stopped. `users.lock` is shared by all
users of the server. `valkey.lock` is inherited by the server's process: it is held while that runs.
Lock files are never removed: two processes could then lock two files of the same name.

Only the standard library is imported, so that the guard stays small.
"""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

GATE: Final = "server.lock"
USERS: Final = "users.lock"
LIFE: Final = "valkey.lock"
REPLY_S: Final = 1.0
"""Longest wait for one reply, seconds."""


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file that exists; child processes do not inherit it. Raises OSError."""
    return path.open("rb")


@contextmanager
def exclusive(file: IO[bytes]) -> Iterator[None]:
    """Hold the exclusive lock of `file`; wait for it without a limit."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def try_lock(file: IO[bytes], kind: int) -> bool:
    """Take the lock of `file`, LOCK_SH or LOCK_EX, unless another process keeps it from us."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(home: Path) -> bool:
    """Return whether a server process of the directory `home` exists, answering or not."""
    try:
        with open_lock(home / LIFE) as life:
            return not try_lock(life, fcntl.LOCK_SH)  # shared: others may look, too
    except FileNotFoundError:  # it never ran
        return False


def ask(address: Path, command: bytes) -> bytes | None:
    """Return the start of the server's reply: b"" when none comes, None when it does not listen."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REPLY_S)
        try:
            connection.connect(str(address))
        except OSError:
            return None
        try:
            connection.sendall(command)
            return connection.recv(64)
        except OSError:
            return b""


def stop(home: Path, address: Path) -> None:
    """Stop the server, if it can be reached, and return when its process is gone."""
    # NOSAVE only concerns snapshots, which are off: the append-only file is still flushed.
    if ask(address, b"SHUTDOWN NOSAVE FORCE\r\n") == b"":
        with open_lock(home / LIFE) as life:
            fcntl.flock(life, fcntl.LOCK_EX)
