"""Attachments by reference: a job holds the path of a file, and a worker reads it at the call."""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import HEAD_BYTES, IMAGE_TYPES, PDF, dotted, media_type_of, other_type_of

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


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A content block for a file, and a warning about the file ("" for none)."""

    block: dict[str, object]
    warning: str = ""


def attach(kind: Kind, column: str, value: object, folder: str) -> Attached:
    """Return the content block for the file whose path or URL, `value`, is in `column`.

    An http(s) URL goes into the request as it is, and the endpoint fetches it. A relative path
    becomes absolute, under `folder`. The first bytes of a file that can be read here show its type;
    its name shows the type of other files, and the worker looks again. Raises InvalidParamsError.
    """
    field = dotted((column,))
    if not isinstance(value, str) or not value.strip():
        raise InvalidParamsError(field, f"no {kind} in this row; allowed: a path or a URL")
    if value.startswith(("http://", "https://")):
        return Attached(block={"type": kind, "source": {"type": "url", "url": value}})
    path = _absolute(value, folder)
    suffix = PurePosixPath(urlsplit(value).path if "://" in value else value).suffix.lower()
    named = _TYPES[kind].get(suffix)
    head = _head(path)
    media_type = named if head is None else _true_type(kind, head, named, field, value)
    if media_type is None:
        problem = f"{value!r:.100} is no known {kind} type; allowed: {', '.join(_TYPES[kind])}"
        raise InvalidParamsError(field, problem)
    warning = ""
    if named not in {None, media_type}:
        warning = f'"{column}": a file named {suffix} is {media_type}, and is sent as that'
    source = {
        "type": "text" if media_type == "text/plain" else "base64",
        "media_type": media_type,
        "data": {FILE: path},
    }
    return Attached(block={"type": kind, "source": source}, warning=warning)


def _true_type(kind: Kind, head: bytes, named: str | None, field: str, value: str) -> str | None:
    """Return the type of a file that begins with `head`; raise when it is none that `kind` takes.

    `named` is the type by its suffix. Text has no first bytes that show it.
    """
    actual = media_type_of(head)
    if named == "text/plain" and actual == PDF and not head.startswith(b"%PDF-"):
        actual = None  # a text may be about PDFs
    allowed = IMAGE_TYPES if kind == "image" else (PDF,)
    if actual in allowed or (kind == "document" and not actual and named == "text/plain" and head):
        return actual or named
    if not actual and not named:
        return None
    what = actual or other_type_of(head) or ("empty" if not head else "of an unknown type")
    types = ", ".join(dict.fromkeys(_TYPES[kind].values()))
    raise InvalidParamsError(field, f"{value!r:.100} is {what}; allowed: {types}")


def _head(path: str) -> bytes | None:
    """Return the first bytes of a regular file; None when it cannot be read here."""
    try:
        if "://" in path or not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - `path` is text
            return None
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return None


def _absolute(path: str, folder: str) -> str:
    """Return `path` made absolute, so that it means the same file in a worker's directory."""
    if "://" in path:
        return path
    if "://" in folder:
        return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118 - resolves no link
