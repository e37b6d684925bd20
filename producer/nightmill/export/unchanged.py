"""Exports a batch to a file, unless the file is there already as the same export wrote it."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.export import export
from nightmill.records.acceptance import id_of
from nightmill.safety import private

if TYPE_CHECKING:
    from pathlib import Path

    from nightmill.store import ResultStore

FILE: Final = "exports.json"
"""In the data directory: path of a file -> Note. Without its note a file is only written again."""
MOST: Final = 1_000
"""Files that are remembered."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One exported file: what it was made of, and the file as it was then."""

    rows: str
    """This program's version, the store's identity, the batch, and its rows' version."""
    lines: int
    """Results in it."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was written, by its file system."""


async def export_once(store: ResultStore, batch: str, out: Path, data_dir: Path) -> int:
    """Bring `out` up to date as `export` writes it; return how many results it has.

    A file that was written from the same rows and not changed since stays as it is. Raises what
    `export` raises.
    """
    path, name = data_dir / FILE, str(out.resolve())  # noqa: ASYNC240 - a local path
    rows = await _rows(store, batch)
    noted = _read(path).get(name)
    if noted is not None and noted == _note(out, rows, noted.lines):
        return noted.lines
    lines = await export(store, batch, out)
    written = _note(out, rows, lines)
    if written is not None and await _rows(store, batch) == rows:  # else some came meanwhile
        others = {each: note for each, note in _read(path).items() if each != name}
        _write(path, {**dict(list(others.items())[1 - MOST :]), name: written})
    return lines


async def _rows(store: ResultStore, batch: str) -> str:
    known = await store.known(batch)
    accept = id_of((known and known.accept) or "")
    state = await store.state(batch)
    return f"{version('nightmill')} {await store.identity()} {batch} {accept} {state}"


def _note(out: Path, rows: str, lines: int) -> Note | None:
    """Return the note of `out` as it is now, None when it is not a file."""
    try:
        found = out.stat()
    except OSError:
        return None
    if not out.is_file():
        return None
    return Note(rows=rows, lines=lines, size=found.st_size, mtime_ns=found.st_mtime_ns)


def _read(path: Path) -> dict[str, Note]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Note])
    except (OSError, msgspec.MsgspecError, RecursionError):
        return {}


def _write(path: Path, notes: dict[str, Note]) -> None:
    temporary = path.with_name(f".{FILE}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=private.opener) as file:
            file.write(msgspec.json.encode(notes))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
