"""Opens a file of this machine by its real path, without following a link on the way.

A path is checked first and opened later. In between, a user who may write to a folder on it can put
a link in the place of that folder, and the link may lead out of the roots. So the file is opened
part by part, each below the descriptor of the folder before it, and a link in any place is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

# O_PATH needs no right to list a folder. Systems without it open folders for reading.
_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe is not waited for


def open_real(path: Path) -> BinaryIO:
    """Open `path`, which is absolute and has no link in it. Raises OSError, ELOOP for a link.

    Raises IsADirectoryError for anything that is no regular file.
    """
    first, *rest = path.parts
    folder = os.open(first, _FOLDER)
    try:
        for part in rest[:-1]:
            inner = _open(part, _FOLDER, folder)
            os.close(folder)
            folder = inner
        number = _open(rest[-1] if rest else ".", _FILE, folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise IsADirectoryError
    return os.fdopen(number, "rb")


def _open(part: str, flags: int, folder: int) -> int:
    """Open one part of a path. Systems report a link in place of a folder in two ways."""
    try:
        return os.open(part, flags, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from None
        raise
