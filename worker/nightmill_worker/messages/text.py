"""Text from outside, made fit for rows, JSON and every database."""

from __future__ import annotations

import re
from typing import Final

NAME_CHARS: Final = 256
"""Characters kept of a name: a request id, a model, a stop reason, an error type."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
"""A NUL, which PostgreSQL refuses, or half of a surrogate pair, which UTF-8 cannot encode."""


def clean(text: str, limit: int = NAME_CHARS) -> str:
    """Return at most `limit` characters of `text`, with U+FFFD for what no row can hold."""
    if text.isascii() and len(text) <= limit and "\0" not in text:
        return text
    return _UNFIT.sub(REPLACEMENT, text[:limit])


def beginning(data: bytes | bytearray, limit: int) -> str:
    """Return the beginning of UTF-8 `data` as text of at most `limit` bytes."""
    return clean(bytes(data[:limit]).decode(errors="replace"), limit)
