"""Opening an input: every way it can go wrong ends in a SourceError of one clear line."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from nightmill.errors import SourceError

STDIN: Final = Path("-")
BUFFER_BYTES: Final = 1 << 18


def is_stream(path: Path) -> bool:
    """Tell whether `path` can be read only once: "-" (standard input), a pipe, a terminal."""
    return path == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open `path` ("-" is standard input) for reading bytes.

    Raises SourceError when it is missing, a directory, unreadable or empty.
    """
    if path == STDIN and sys.stdin is None:
        raise SourceError(f"{path}: standard input is closed")
    try:
        # Not sys.stdin: a thread that reads it for ever would crash the interpreter's exit.
        which = sys.stdin.fileno() if path == STDIN else path
        stream = open(which, "rb", buffering=BUFFER_BYTES, closefd=path != STDIN)  # noqa: SIM115
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise SourceError(
            f"{path}: is a directory; give a file of one JSON object a line"
        ) from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    with stream:
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise SourceError(f"{path}: the file is empty; give one JSON object a line")
        yield stream
