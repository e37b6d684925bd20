"""Where the embedded server listens: `run` starts it before it imports Redis's client."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nightmill.errors import SettingsError
from nightmill.safety import private

SOCKET: Final = "valkey.sock"
SOCKET_PATH_MAX: Final = 103
"""Longest path of a unix socket that every system takes, bytes."""
SHORT_SOCKETS: Final = Path("/tmp")  # noqa: S108 - TMPDIR may differ between commands


def embedded_socket(data_dir: Path) -> Path:
    """Return the socket of the embedded server of `data_dir`: the same path in every command.

    The socket is `valkey.sock` in `data_dir`. When that path is too long, or a URL would have to
    escape it (clients differ in how they read escapes), it is a short path in SHORT_SOCKETS.
    """
    home = data_dir.resolve()
    path = home / SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX and quote(os.fsencode(path)) == str(path):
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return SHORT_SOCKETS / f"nightmill-{os.getuid()}" / f"{name}.sock"


def require_own_socket(path: Path) -> None:
    """Raise SettingsError unless the socket and its folder are this user's own.

    Any user may make a folder in SHORT_SOCKETS, and a server there would get all prompts. In a data
    directory the socket may also be that of the directory's owner: root may look at another's.
    """
    try:
        folder, socket = path.parent.lstat(), path.lstat()
    except OSError as error:
        raise private.unusable(path, error) from None
    shared = path.name != SOCKET
    owners = {os.getuid()} if shared else {os.getuid(), folder.st_uid}
    own = folder.st_uid in owners and socket.st_uid in owners and stat.S_ISSOCK(socket.st_mode)
    if shared and not is_private(folder):
        own = False
    if not own:
        raise SettingsError(
            f"{path} is not a socket of this user in a private folder of this user: another user "
            f"may have made it; remove {path.parent if shared else path} and try again"
        )


def is_private(folder: os.stat_result) -> bool:
    """Return whether a folder is this user's own, and nobody else has a right to it."""
    own = stat.S_ISDIR(folder.st_mode) and folder.st_uid == os.getuid()
    return own and not folder.st_mode & private.OTHERS
