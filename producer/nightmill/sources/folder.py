"""A directory -> rows: one for each regular file, in the order of their paths.

Hidden files are left out. The columns are `path` (relative to the directory, also the `custom_id`),
`name`, `stem`, `suffix`, `size` (bytes) and, when a template uses it, `text`, which must be UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.sources.jsonl import too_long
from nightmill.sources.line import Rejected, Row, rejected
from nightmill.sources.opening import file_system, is_url, unreadable
from nightmill.sources.recoded import encoding_of


class _File(msgspec.Struct, frozen=True):
    path: str
    size: int
    read: Callable[[], bytes]


def read_folder(
    folder: str, cap: int, *, text: bool, encoding: str | None = None
) -> Iterator[Row | Rejected]:
    """Yield the files below `folder`, a path or a URL. With `text`, they have that column.

    `encoding` is that of their texts; None: UTF-8, or UTF-16 where the first bytes show it.

    Raises SourceError for a directory that cannot be read.
    """
    for number, file in enumerate(_remote(folder) if is_url(folder) else _local(folder), 1):
        path = PurePosixPath(file.path)
        columns: dict[str, object] = {
            "custom_id": file.path,
            "path": file.path,
            "name": path.name,
            "stem": path.stem,
            "suffix": path.suffix,
            "size": file.size,
        }
        try:
            if text:
                columns["text"] = _text(file, cap, encoding)
            yield Row(number=number, columns=columns, table=True)
        except InvalidParamsError as error:
            yield rejected(number, error, file.path.encode(errors="replace"))


def _text(file: _File, cap: int, encoding: str | None) -> str:
    if file.size > cap:
        raise too_long(f"{file.path!a:.200}", file.size, cap)
    try:
        data = file.read()
        name = encoding or encoding_of(data)
        return data.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at {error.start}"
        fix = "name its --encoding, or leave it out"
        problem = f"{file.path!a:.200} is not {error.encoding.upper()} ({found}); {fix}"
    except Exception as error:  # noqa: BLE001 - every file system has its own errors
        problem = str(unreadable(file.path, error))
    raise InvalidParamsError("text", problem)


def _local(folder: str, under: str = "") -> Iterator[_File]:
    try:
        with os.scandir(Path(folder, under)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(str(Path(folder, under)), error) from None
    for entry in found:
        path = f"{under}{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _local(folder, f"{path}/")
        elif entry.is_file():
            yield _File(path, entry.stat().st_size, Path(entry.path).read_bytes)


def _remote(url: str) -> Iterator[_File]:
    files, root = file_system(url)
    try:
        found = files.find(root, detail=True)
    except Exception as error:  # noqa: BLE001 - every file system has its own errors
        raise unreadable(url, error) from None
    prefix = root.rstrip("/") + "/"
    for name in sorted(found):
        path = name.removeprefix(prefix)
        if not any(part.startswith(".") for part in path.split("/")):
            yield _File(path, found[name]["size"], lambda name=name: files.cat_file(name))  # type: ignore[misc]
