"""Numbers and times as the pages show them. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from markupsafe import escape

from nightmill.records.bounds import date_of
from nightmill.reports.progress import dollars, duration, short
from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable

_KIBI: Final = 1024
_SECOND_MS: Final = 1_000
_FEW_S: Final = 9.95
NONE: Final = "–"  # noqa: RUF001 - what a table shows for no value


def number(value: float | None) -> str:
    """Return 1,234,567."""
    return NONE if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 as 12 % or 99.9 %; 100 % only for all of it."""
    if share is None:
        return NONE
    text = f"{share * 100:.3g} %"
    return "99.9 %" if share < 1 and text.startswith("100") else text


def rate(value: float | None) -> str:
    """Return jobs a second."""
    return NONE if value is None else f"{value:,.1f}/s"


def when(epoch_ms: int | None) -> str:
    """Return a time in UTC, to the second."""
    date = None if epoch_ms is None else date_of(epoch_ms)
    return date.strftime("%Y-%m-%d %H:%M:%S") if date else NONE


def ago(epoch_ms: int | None, now_ms: int) -> str:
    """Return how long ago a time was: 42s, 3m 05s, 2h 07m."""
    return NONE if epoch_ms is None else duration(max(0, now_ms - epoch_ms) / 1000)


def took(ms: int) -> str:
    """Return how long something took: 420 ms, 4.2s, 42s, 3m 05s."""
    if ms < _SECOND_MS:
        return f"{ms} ms"
    seconds = ms / _SECOND_MS
    return f"{seconds:.1f}s" if seconds < _FEW_S else duration(seconds)


def key(text: str) -> str:
    """Return a short id of an element that stands for `text`, which may have 1 kB."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def printed(text: str) -> int:
    """Return how many bytes of a page a text takes: `visible`, escaped, in UTF-8."""
    return len(escape(visible(text)).encode(errors="replace"))


def size(number: int | None) -> str:
    """Return bytes as 12 KiB or 1.5 GiB; 0, which is not known, as nothing."""
    if not number:
        return NONE
    amount = float(number)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < _KIBI:
            return f"{amount:,.0f} {unit}"
        amount /= _KIBI
    return f"{amount:,.1f} GiB"


def short_of(value: float | None) -> str:
    """Return a rate or a limit as 999, 1.2k or 34.5M."""
    return NONE if value is None else short(round(value))


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "ago": ago,
    "bytes": size,
    "dollars": dollars,
    "duration": duration,
    "key": key,
    "number": number,
    "percent": percent,
    "rate": rate,
    "short": short,
    "short_of": short_of,
    "took": took,
    "when": when,
}
"""Name in templates -> function."""
