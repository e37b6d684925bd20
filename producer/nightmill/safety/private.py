"""Folders and files for their own user alone: a data directory holds prompts and answers."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = 0o700
FILE: Final = 0o600
OTHERS: Final = 0o077
"""Rights of the group and of all users."""


def make_folder(folder: Path) -> None:
    """Make a data directory, or close one of this user to others. Raises OSError.

    A directory that is more than that is not closed: one that the work is done in, such as the
    home directory, or one that is shared by all users, such as /tmp.
    """
    folder.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    shared = folder.stat().st_mode & stat.S_ISVTX
    if not shared and not Path.cwd().is_relative_to(folder.resolve()):
        close(folder)


def require_folder(folder: Path) -> None:
    """Make a data directory as make_folder does. Raises SettingsError when it is not writable."""
    try:
        make_folder(folder)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise unusable(folder, error) from None
        raise _unwritable(folder) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder)


def require_writable(path: Path) -> None:
    """Raise SettingsError when a file of a data directory is there, but cannot be written."""
    if exists(path) and not os.access(path, os.W_OK):
        raise _unwritable(path)


def _unwritable(path: Path) -> SettingsError:
    return SettingsError(
        f"cannot write {path.absolute()}. Set NIGHTMILL_DATA_DIR to a writable directory, e.g. "
        "/var/lib/nightmill"
    )


def make_file(path: Path) -> None:
    """Make an empty file, or close one of this user to others. An error is left to its user."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))
    close(path)


def opener(path: str, flags: int) -> int:
    """Open a file for this user alone; `open` takes this as its `opener`."""
    number = os.open(path, flags, FILE)
    close(Path(path))
    return number


def close(path: Path) -> None:
    """Take the rights to a file or folder from other users, if it is this user's."""
    with suppress(OSError):  # it is missing, or its disk knows no rights
        found = path.stat()
        if found.st_uid == os.getuid() and found.st_mode & OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)


def warnings(folder: Path) -> Iterator[str]:
    """Yield a warning when others may read or write a data directory, and it is not ours."""
    with suppress(OSError):
        found = folder.stat()
        if found.st_uid != os.getuid():
            yield (
                f"warning: {folder} belongs to another user (uid {found.st_uid}), who can read "
                "the prompts and answers in it: set NIGHTMILL_DATA_DIR to a folder of your own"
            )


def exists(path: Path) -> bool:
    """Return whether there is something at `path`. Raises SettingsError when we may not look."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unusable(path.parent, error) from None
    return True


def missing(place: str | Path) -> bool:
    """Return whether `place` is a path with nothing at it, and no URL. Raises as `exists` does."""
    return isinstance(place, Path) and not exists(place)


def unusable(path: Path, error: OSError) -> SettingsError:
    """Return the error for a data directory, or a file in it, that cannot be used."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return SettingsError(
            f"{path} cannot be a directory, a file is in the way: "
            "move that file, or set NIGHTMILL_DATA_DIR to another place"
        )
    return SettingsError(
        f"cannot use {path}: {error.strerror}; make it readable and writable, "
        "or set NIGHTMILL_DATA_DIR to a directory that is"
    )
