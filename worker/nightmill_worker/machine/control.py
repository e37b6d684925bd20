"""Messages between a supervisor and its worker, over the worker's standard input.

It is a socket. The supervisor first sends the settings, and later one byte for a stop. A worker
that an exception ends sends a Report. When the supervisor is gone, the socket is at its end.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import suppress
from enum import Enum
from typing import IO, TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN: Final = 0
STDERR: Final = 2
LENGTH: Final = 4
"""Bytes of the length of the settings, big-endian."""
MAX_PROBLEM: Final = 500
"""Longest text about an exception, characters."""
MAX_REPORT: Final = 8192
"""Longest report, bytes."""


UNUSABLE: Final = 2
"""Exit code of a worker that cannot run with its settings: another start would end the same."""
STORE_AWAY: Final = 75
"""Exit code of a worker that can run once the store is back (EX_TEMPFAIL of sysexits.h)."""


def send_settings(control: socket.socket, variables: dict[str, str], log: IO[bytes] | None) -> None:
    """Send a worker its settings, and the file for its stderr (None: it stays as it is).

    Raises OSError when the worker has ended.
    """
    data = msgspec.json.encode(variables)
    data = len(data).to_bytes(LENGTH) + data
    sent = socket.send_fds(control, [data], [log.fileno()] if log else [])
    control.sendall(data[sent:])


def receive_settings() -> dict[str, str] | None:
    """Wait for the settings, and use the file that came with them, if one did, as stderr.

    Returns None when the supervisor has gone without sending any.
    """
    with socket.socket(fileno=os.dup(STDIN)) as control:
        head, files, *_ = socket.recv_fds(control, LENGTH, 1)
        size = int.from_bytes(head)
        data = control.recv(size, socket.MSG_WAITALL) if size else b""
    for file in files:
        os.dup2(file, STDERR)
        os.close(file)
    return msgspec.json.decode(data, type=dict[str, str]) if data and len(data) == size else None


class Request(Enum):
    """What the other end of standard input asks for; the value is the byte that it sends."""

    STOP = b"s"
    """Stop gracefully: calls under way have the grace period to finish."""
    STOP_AT_ONCE = b"n"
    """Give the jobs of calls under way back at once."""
    GONE = b""
    """The other end is closed: stop gracefully; nobody waits for this process any more."""


def listen(receive: Callable[[Request], None]) -> None:
    """Call `receive` from a thread with what arrives on standard input, if that is a pipe.

    A terminal, a file or a closed standard input is not read.
    """
    try:
        mode = os.fstat(STDIN).st_mode
    except OSError:  # closed
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_read, args=(receive,), name="control", daemon=True).start()


def _read(receive: Callable[[Request], None]) -> None:
    request = None
    while request is not Request.GONE:
        try:
            byte = os.read(STDIN, 1)
        except OSError:  # a reset socket: its other end is gone, too
            byte = b""
        with suppress(ValueError):  # another byte has no meaning
            request = Request(byte)
            receive(request)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ended a worker process."""

    problem: str
    """Type and text of the exception, on one line."""
    lost: bool = False
    """Whether answers are lost, as far as the worker can know."""


_decoder = msgspec.json.Decoder(Report)


def send(report: Report) -> None:
    """Send the supervisor what ends this process; a supervisor that is gone does not matter."""
    with suppress(OSError):
        os.write(STDIN, msgspec.json.encode(report))


def received(data: bytes) -> Report | None:
    """Return what a worker sent before its end; None: nothing, as a killed process."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


def describe(error: BaseException) -> str:
    """Return type and text of an exception on one line; of a group, those of its first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:MAX_PROBLEM]
