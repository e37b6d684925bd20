"""Messages between a supervisor and its worker, over the worker's standard input.

It is a socket. The supervisor sends one byte for a stop. A worker that an exception ends sends a
Report. When the supervisor is gone, the socket is at its end.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

SUPERVISED: Final = "--supervised"
"""Argument of a worker process whose standard input is the socket of its supervisor."""
STDIN: Final = 0
MAX_PROBLEM: Final = 500
"""Longest text about an exception, characters."""
MAX_REPORT: Final = 8192
"""Longest report, bytes."""


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
