"""The wait that an endpoint asks for. A value from outside never raises and is always bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MAX_S: Final = 900.0
"""Longest wait that an endpoint can ask for, seconds. After it one call is tried."""
HEADER_CHARS: Final = 64
"""Characters of a number or a date."""


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that the endpoint asks for, 0 to RETRY_AFTER_MAX_S seconds, or None.

    `retry-after-ms` comes before `retry-after`, which is seconds or an HTTP date. A date counts
    from the answer's own `date`, because `now` may be wrong. A negative, past or unreadable value
    counts as absent.
    """
    millis = _number(headers.get("retry-after-ms"))
    wait = None if millis is None else millis / 1000
    if wait is None and (given := headers.get("retry-after")) is not None:
        wait = _number(given)
        if wait is None:
            sent_at = _moment(headers.get("date"))
            wait = _until(given, now if sent_at is None else sent_at)
    return None if wait is None else min(wait, RETRY_AFTER_MAX_S)


def _number(text: str | None) -> float | None:
    """Return a finite number >= 0, None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(text: str, now: float) -> float | None:
    """Return the seconds from `now` to an HTTP date, None when it is past or not a date."""
    moment = _moment(text)
    return None if moment is None or moment < now else moment - now


def _moment(text: str | None) -> float | None:
    """Return an HTTP date as epoch seconds, None for anything else."""
    if not text or len(text) > HEADER_CHARS:
        return None
    try:
        moment = parsedate_to_datetime(text)
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" means no zone
        return zoned.timestamp()
    except (ValueError, TypeError, LookupError, ArithmeticError):  # all occur: a year of 20 digits
        return None
