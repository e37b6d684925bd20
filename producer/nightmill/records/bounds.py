"""The bounds of what enters: names that both stores can index, integers that both can hold."""

from __future__ import annotations

import re
import reprlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta

from nightmill.errors import InvalidParamsError

MAX_NAME_BYTES: Final = 512
"""Longest custom_id, given job id or batch name, bytes of UTF-8. PostgreSQL indexes 2,704 bytes."""
MAX_INT: Final = (1 << 63) - 1
MAX_RUN: Final = (1 << 31) - 2
"""Largest number of a run: its column has 32 bits, and a requeue adds 1."""
MIN_DATE_MS: Final = -62_135_596_800_000
"""The beginning of the year 1, epoch ms."""
MAX_DATE_MS: Final = 253_402_300_799_999
"""The end of the year 9999, epoch ms."""

Int64 = Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]
Run = Annotated[int, Meta(ge=0, le=MAX_RUN)]
DateMs = Annotated[int, Meta(ge=MIN_DATE_MS, le=MAX_DATE_MS)]
"""A time that is a date, epoch ms."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_BYTES_A_CHARACTER: Final = 4
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_UNFIT: Final = re.compile(r"[\0\ud800-\udfff]")
"""What the stores cannot hold in a text."""
_short: Final = reprlib.Repr()
_short.maxstring = 40


def date_of(epoch_ms: int | None) -> datetime | None:
    """Return a time in UTC; None when it is not known (0 or None) or is not a date."""
    if not epoch_ms or not MIN_DATE_MS <= epoch_ms <= MAX_DATE_MS:
        return None
    return _EPOCH + timedelta(milliseconds=epoch_ms)


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate replaced, so that it can be encoded."""
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def excess(name: str | None) -> str:
    """Return the size and the limit of a name that is too long, for a message; "" for others."""
    if name is None or len(name) * _MAX_BYTES_A_CHARACTER <= MAX_NAME_BYTES:
        return ""
    size = len(name.encode(errors="surrogatepass"))
    return f"{size:,} bytes of UTF-8; allowed: {MAX_NAME_BYTES}" if size > MAX_NAME_BYTES else ""


def require_name(field: str, name: str | None) -> None:
    """Refuse an id or a batch's name that a store cannot hold; None passes.

    Raises InvalidParamsError that names `field`, what was given and what is allowed.
    """
    if name is None:
        return
    if problem := excess(name):
        raise InvalidParamsError(field, f"given {_short.repr(name)}, {problem}; shorten it")
    if found := _UNFIT.search(name):
        what = "NUL" if found[0] == "\0" else f"lone surrogate {found[0]!a}"
        raise InvalidParamsError(field, f"{what} at character {found.start()}; remove it")
