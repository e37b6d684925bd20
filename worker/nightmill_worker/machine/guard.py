"""The guard of an embedded server: a process that stops it when all its users were killed.

Users stop the server themselves when they leave. After a kill -9 of all of them, nothing else does.
`python -m nightmill_worker.machine.guard HOME ADDRESS` returns at once; its child is the guard. It
ends with the server.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from nightmill_worker.machine.running_server import (
    GATE,
    USERS,
    exclusive,
    lives,
    open_lock,
    stop,
    try_lock,
)

GUARD: Final = "guard.lock"
"""Lock file that the guard holds."""
LOOK_S: Final = 1.0
"""Between two looks for users, seconds."""
ADOPT_S: Final = 5.0
"""Time that a server without users is left running, seconds: the next command can use it."""


def guard(home: Path, address: Path) -> None:
    """Stop the server of `home` once it had no users for ADOPT_S; return when it does not run.

    Raises FileNotFoundError when the directory was removed.
    """
    with open_lock(home / GUARD) as own:
        fcntl.flock(own, fcntl.LOCK_EX)  # a guard before us ends soon, or goes on in our place
        unused_since: float | None = None
        with open_lock(home / GATE) as gate, open_lock(home / USERS) as users:
            while lives(home):
                _wait(home, LOOK_S)
                with exclusive(gate):  # no user comes or leaves meanwhile
                    if _is_used(users):
                        unused_since = None
                    elif unused_since is None:
                        unused_since = time.monotonic()
                    elif time.monotonic() - unused_since >= ADOPT_S:
                        stop(home, address)


def _is_used(users: IO[bytes]) -> bool:
    if not try_lock(users, fcntl.LOCK_EX):
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return False


def _wait(home: Path, seconds: float) -> None:
    """Wait until the server's process ends, for `seconds` at most."""
    try:
        server = os.pidfd_open(int((home / "valkey.pid").read_text()))
    except (OSError, ValueError, AttributeError):  # it is gone, or this is no Linux
        time.sleep(seconds)
        return
    try:
        select.select([server], [], [], seconds)
    finally:
        os.close(server)


def main() -> None:
    """Start the guard as a daemon."""
    if os.fork() == 0:
        home, address = map(Path, sys.argv[1:])
        with suppress(FileNotFoundError):
            guard(home, address)
    os._exit(0)  # the parent has nothing to clean up, and the child is done


if __name__ == "__main__":
    main()
