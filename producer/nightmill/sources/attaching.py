"""Attachments by reference: a job holds the path of a file, and a worker reads it at the call."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import urlsplit

from nightmill.errors import InvalidParamsError
from nightmill.params import dotted

Kind = Literal["image", "document"]

FILE: Final = "$file"
"""Key of a reference: `{"$file": "a path or an fsspec URL"}` in place of the file's data."""

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
    """Return the content block for the file whose path or URL, `value`, is in `column`.

    An http(s) URL goes into the request as it is, and the endpoint fetches it. A relative path
    becomes absolute, under `folder`. Raises InvalidParamsError.
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
        problem = f"{value!r:.100} is no known {kind} type; allowed: {', '.join(known)}"
        raise InvalidParamsError(field, problem)
    source = {
        "type": "text" if media_type == "text/plain" else "base64",
        "media_type": media_type,
        "data": {FILE: _absolute(value, folder)},
    }
    return {"type": kind, "source": source}


def _absolute(path: str, folder: str) -> str:
    """Return `path` made absolute, so that it means the same file in a worker's directory."""
    if "://" in path:
        return path
    if "://" in folder:
        return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118 - resolves no link
