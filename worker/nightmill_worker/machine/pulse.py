"""Signs of life of the processes of `nightmill worker`, for its check of health in a container.

Each process holds the lock of a file of its own and touches the file from its event loop: a process
that died holds no lock, and one whose event loop is blocked does not touch it. Redis is no part of
this: a worker that waits for Redis must not be restarted, since it may hold answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from nightmill.safety import private
from nightmill_worker.jobs.tasks import end_tasks

FOLDER: Final = "health"
BEAT_S: Final = 5.0
"""Between two signs of life, seconds."""
HUNG_S: Final = 20.0
"""Time without a sign of life after which a process counts as hung, seconds."""
OLD_S: Final = 3600.0
"""Age from which on a file of another machine or container is removed, seconds."""

Kind: TypeAlias = Literal["supervisor", "worker"]


@contextlib.asynccontextmanager
async def beating(data_dir: Path, kind: Kind) -> AsyncIterator[None]:
    """Give signs of life for the length of a block. A disk that takes none ends no worker."""
    folder = data_dir / FOLDER
    path = folder / f"{kind}-{os.getpid()}@{_host()}"
    file = None
    with contextlib.suppress(OSError):
        private.make_folder(folder)
        _remove_dead(folder)
        file = _held(path)
    if file is None:
        yield
        return
    task = asyncio.create_task(_beat(file))
    try:
        yield
    finally:
        await end_tasks(task)
        path.unlink(missing_ok=True)
        os.close(file)


def _held(path: Path) -> int:
    """Return a new file whose lock this process holds. Raises OSError."""
    while True:
        file = private.opener(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # another process took it for a dead one's


async def _beat(file: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            os.utime(file)
        await asyncio.sleep(BEAT_S)


class Sign(NamedTuple):
    """What one file tells."""

    kind: str
    pid: str
    age_s: float


def read_signs(folder: Path) -> Iterator[Sign]:
    """Yield the signs of the processes of this machine, or container, that live."""
    for path in sorted(folder.glob(f"*@{_host()}")):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if not _is_free(file.fileno()):
                kind, _, pid = path.name.partition("@")[0].partition("-")
                yield Sign(kind, pid, max(0.0, time.time() - os.fstat(file.fileno()).st_mtime))


def check(data_dir: Path) -> str:
    """Return what is wrong with the workers of this machine, "" when nothing is."""
    signs = list(read_signs(data_dir / FOLDER))
    if not any(sign.kind == "supervisor" for sign in signs):
        return f"no `nightmill worker` runs here with DATA_DIR {data_dir}"
    for sign in signs:
        if sign.age_s > HUNG_S:
            return f"{sign.kind} process {sign.pid} hangs: no sign of life for {sign.age_s:.0f} s"
    if not any(sign.kind == "worker" for sign in signs):
        return "no worker process runs; its supervisor starts another: the reason is in its log"
    return ""


def _remove_dead(folder: Path) -> None:
    """Remove the files of processes that were killed."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError), path.open("rb") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > OLD_S
            if (old or path.name.endswith(f"@{_host()}")) and _is_free(file.fileno()):
                path.unlink(missing_ok=True)  # its lock is ours until the file is closed


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host() -> str:
    """Return the name of this machine; of a container, its own."""
    return socket.gethostname().replace("/", "_")
