"""The targets of an export: a file, stdout, a device or pipe, or a URL."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from nightmill.errors import ExportError, ExtraMissingError
from nightmill.export.tables import require_format
from nightmill.safety.visible import visible_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

STDOUT: Final = "-"


def is_terminal(out: str | Path) -> bool:
    """Return whether an export to `out` is shown on a terminal."""
    return str(out) == STDOUT and sys.stdout.isatty()


@contextmanager
def opened(out: str | Path) -> Iterator[BinaryIO]:
    """Open the target of an export. A file that exists is replaced at the end, after no error.

    `out` is a file, "-" for stdout, or a URL that fsspec knows. Devices and pipes are written
    directly. Raises OSError, ExtraMissingError.
    """
    if "://" in str(out):
        with _uploading(str(out)) as file:
            yield file
        return
    path = Path(out)
    if str(out) == STDOUT:
        yield cast("BinaryIO", _Shown()) if is_terminal(out) else sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with _replacing(path.resolve()) as file:
            yield file


def require_writable(out: str | Path) -> None:
    """Try out the target of an export before the work is done: raise what `opened` would raise.

    Raises ExtraMissingError, and ExportError that names `out`.
    """
    require_format(out)
    if "://" in str(out):
        _file_system(str(out))
        return
    path = Path(out)
    try:
        if str(out) != STDOUT and (not path.exists() or path.is_file()):
            with _temporary(path.resolve()):
                pass
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
    except OSError as error:
        raise ExportError(f"{out}: cannot be written: {error.strerror}") from None


class _Shown:
    """Stdout that is a terminal: what would control it is written as an escape of JSON."""

    def write(self, line: bytes) -> None:
        """Write a whole line of JSON or CSV, which is UTF-8."""
        text = line.decode()
        body = text.rstrip("\r\n")
        shown = visible_json(body).replace("\r", "\\u000d") + text[len(body) :]
        sys.stdout.buffer.write(shown.encode())


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    with _temporary(path) as (file, temporary):
        yield file
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file beside `path`, and where it is; remove it unless it was moved."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Others may write to the folder too. A link at a name that can be guessed is not followed.
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _uploading(url: str) -> Iterator[BinaryIO]:
    files, path = _file_system(url)
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{os.getpid()}.tmp"
    try:
        with files.open(temporary, "wb") as file:
            yield file
        files.mv(temporary, path)
    except BaseException:
        with suppress(OSError):
            files.rm_file(temporary)
        raise


def _file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it. Raises ExtraMissingError."""
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError(f"{url}: pip install 'nightmill[parquet]'") from None
    try:
        files, path = url_to_fs(url)
    except (ImportError, ValueError) as error:  # its text names the package to install
        raise ExtraMissingError(f"{url}: {error}") from None
    return files, path
