"""The roots: which paths and URLs attachments may be read from, and reading one of them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote, urlsplit

import msgspec

from nightmill.errors import NightmillError
from nightmill.records.result import ErrorInfo
from nightmill.setting_values import split_roots
from nightmill_worker.attachments.local import open_real
from nightmill_worker.attachments.urls import read_at, size_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nightmill.settings import Settings

FIX_ROOTS: Final = (
    "set NIGHTMILL_ATTACH_ROOTS on the workers to the folders and URLs that attachments are in"
)
FIX_MISSING: Final = "put the file there, for every worker to see, or correct the path"
FIX_READ: Final = "correct what the message says, on every worker"
FIX_REDIRECT: Final = "give the URL that the file itself is at, and have it in ATTACH_ROOTS"
FIX_AWAY: Final = "check the disk or the network that the file is on"
GONE: Final = (404, 410)
"""HTTP statuses that say the file does not exist."""
REFUSALS: Final = range(400, 500)
"""HTTP statuses that would repeat, except PASSING."""
PASSING: Final = (408, 425, 429)
BAD_PATH: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""Errors of the path itself: they would repeat."""


class FileRefusedError(NightmillError):
    """A file is missing, not allowed, too large or not of its media type."""

    def __init__(self, kind: str, message: str, fix: str) -> None:
        """Take the error type of the failed job, the message, and what to fix."""
        super().__init__(message)
        self.info = ErrorInfo(type=kind, message=message, fix=fix)


class FileUnavailableError(NightmillError):
    """A file cannot be read now. It may be readable later."""

    def __init__(self, message: str) -> None:
        """Take the error's text."""
        super().__init__(message)
        self.info = ErrorInfo(type="attachment_unavailable", message=message, fix=FIX_AWAY)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A file that may be read."""

    name: str
    """The path or URL as the request has it."""
    path: str
    """The real path, links followed, or the URL."""
    size: int | None
    """Bytes when it was found, None where a server does not report them."""
    limit: int
    """The most bytes it may have."""

    def read(self) -> bytes:
        """Return its bytes.

        Raises FileRefusedError, also above the limit, and FileUnavailableError, also when there
        are not as many bytes as when it was found: it is being written, or it was cut.
        """
        read = read_at if "://" in self.path else _read
        with _explained(self.name):
            data = read(self.path, self.limit)
        if len(data) > self.limit:
            raise _too_large(self.name, "more", self.limit)
        if self.size is not None and len(data) != self.size:
            message = f"{self.name}: has {self.size:,} bytes, but {len(data):,} were read"
            raise FileUnavailableError(message)
        return data


class Roots(msgspec.Struct, frozen=True, kw_only=True):
    """The folders (real paths) and URLs that files may be read below."""

    folders: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the roots of ATTACH_ROOTS."""
        given = [root.removeprefix("file://") for root in split_roots(settings.attach_roots)]
        folders = tuple(Path(root).resolve() for root in given if "://" not in root)
        return cls(folders=folders, urls=tuple(root for root in given if "://" in root))

    def find(self, file: str, limit: int) -> Found:
        """Find a file and measure it. A relative path is tried below each folder in turn.

        Raises FileRefusedError and FileUnavailableError.
        """
        with _explained(file):
            if "://" not in file or file.startswith("file://"):
                path = self._local(file)
                with open_real(path) as opened:
                    size: int | None = os.fstat(opened.fileno()).st_size
            else:
                if not any(_below(file, root) for root in self.urls):
                    raise _outside(file, self.urls)
                path, size = Path(), size_at(file)
        if size is not None and size > limit:
            raise _too_large(file, f"{size:,}", limit)
        return Found(
            name=file, path=str(path) if path.is_absolute() else file, size=size, limit=limit
        )

    def _local(self, name: str) -> Path:
        """Return the real path, links followed, of a file below a root; it need not exist."""
        path = unquote(urlsplit(name).path) if "://" in name else name
        wanted = [Path(os.path.realpath(folder / path)) for folder in self.folders]
        allowed = [real for real in wanted if any(real.is_relative_to(f) for f in self.folders)]
        if not allowed:
            raise _outside(name, self.folders)
        return next((real for real in allowed if real.exists()), allowed[0])


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn any error of reading the file `name` into one of the two errors above."""
    try:
        yield
    except NightmillError:
        raise
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        raise _ours(name, error) from None


def _ours(name: str, error: BaseException) -> NightmillError:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _ours(name, error.__cause__)  # fsspec raises this when an HTTP server is away
    status = getattr(error, "status", 0)  # the HTTP status, if the error has one
    if isinstance(error, FileNotFoundError | NotADirectoryError) or status in GONE:
        return FileRefusedError("attachment_missing", f"{name}: no such file", FIX_MISSING)
    if isinstance(error, IsADirectoryError):
        return FileRefusedError("attachment_missing", f"{name}: is not a file", FIX_MISSING)
    if getattr(error, "history", ()):  # the redirects before it, if it is aiohttp's
        message = f"{name}: it is a redirect, which may lead out of the root"
        return FileRefusedError("attachment_refused", message, FIX_REDIRECT)
    repeats = (
        isinstance(error, PermissionError | ImportError | ValueError)
        or getattr(error, "errno", None) in BAD_PATH
        or (status in REFUSALS and status not in PASSING)
    )
    if repeats:
        return FileRefusedError("attachment_refused", f"{name}: cannot be read: {error}", FIX_READ)
    return FileUnavailableError(f"{name}: {str(error) or type(error).__name__}")


def _too_large(name: str, size: str, limit: int) -> FileRefusedError:
    message = f"{name}: has {size} bytes; allowed: {limit:,}"
    return FileRefusedError("attachment_too_large", message, "make the file smaller")


def _outside(name: str, roots: Sequence[object]) -> FileRefusedError:
    known = ", ".join(map(str, roots)) or "none"
    message = f"{name}: is not below a root that attachments may be read from ({known})"
    return FileRefusedError("attachment_refused", message, FIX_ROOTS)


def _below(url: str, root: str) -> bool:
    """Return whether `url` is below `root`: the same scheme and host, and a path inside it.

    A path with `..`, a backslash or a chained URL (`::`) is never inside.
    """
    asked, allowed = urlsplit(url), urlsplit(root)
    path = unquote(unquote(asked.path))
    evasive = "::" in url or "\\" in path or any(part == ".." for part in path.split("/"))
    same = (asked.scheme.lower(), asked.netloc) == (allowed.scheme.lower(), allowed.netloc)
    return same and not evasive and (asked.path + "/").startswith(allowed.path.rstrip("/") + "/")


def _read(path: str, limit: int) -> bytes:
    with open_real(Path(path)) as file:
        return file.read(limit + 1)
