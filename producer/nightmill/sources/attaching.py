"""Attachments by reference: the job says where a file is, and a worker reads it when it calls."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import urlsplit

from nightmill.errors import InvalidParamsError
from nightmill.params import dotted

Kind = Literal["image", "document"]

FILE: Final = "$file"
"""Stands, with a path or an fsspec URL, where the data of a file would."""

_TYPES: Final[dict[Kind, dict[str, str]]] = {
    "image": {
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".gif": "image/gif",
        ".webp": "image/webp",
    },
    "document": {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/plain"},
}


def block(kind: Kind, column: str, value: object, folder: str) -> dict[str, object]:
    """Return the content block for the file that `column` names.

    An http(s) URL is passed on for the endpoint to fetch. A relative path becomes absolute, under
    `folder`. Raises InvalidParamsError.
    """
    field = dotted((column,))
    if not isinstance(value, str) or not value:
        raise InvalidParamsError(field, f"no {kind} in this row; allowed: a path or a URL")
    if value.startswith(("http://", "https://")):
        return {"type": kind, "source": {"type": "url", "url": value}}
    path = urlsplit(value).path if "://" in value else value
    known = _TYPES[kind]
    media_type = known.get(PurePosixPath(path).suffix.lower())
    if media_type is None:
        problem = f"{value!r:.100} is no {kind} that is known; allowed: {', '.join(known)}"
        raise InvalidParamsError(field, problem)
    source = {
        "type": "text" if media_type == "text/plain" else "base64",
        "media_type": media_type,
        "data": {FILE: _whole(value, folder)},
    }
    return {"type": kind, "source": source}


def _whole(path: str, folder: str) -> str:
    """Return a path that means the same on every machine that sees the same files."""
    if "://" in path:
        return path
    if "://" in folder:
        return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118 - resolves no link
