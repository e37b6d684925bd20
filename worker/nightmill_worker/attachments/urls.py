"""Measures and reads files at URLs, through fsspec."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

WEB: Final = ("http", "https")


def size_at(url: str) -> int | None:
    """Return the bytes of the file at `url`, None where the server does not report them."""
    size = _opened(url)[0].info(url).get("size")
    return None if size is None else int(size)


def read_at(url: str, limit: int) -> bytes:
    """Return the file at `url` to its end, but at most one byte more than `limit`."""
    files, path = _opened(url)
    pieces, left = [], limit + 1
    # On the web it is one answer, from its beginning to its end. A server that sends no parts of
    # files answers each part with the whole file: one that had become smaller came twice.
    whole = {"block_size": 0} if _is_web(url) else {}
    with files.open(path, "rb", **whole) as file:
        # A stream of unknown length returns what has arrived, which is less than what it was
        # asked for. Only an empty piece is the end.
        while left and (piece := file.read(left)):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of `url` and the path in it.

    HTTP redirects are not followed, because they may lead out of the root.
    """
    from fsspec.core import url_to_fs  # noqa: PLC0415 - slow to import; only for URLs

    files, path = url_to_fs(url, **({"max_redirects": 1} if _is_web(url) else {}))
    return files, path


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme.lower() in WEB
