"""Brings the values of a row into what both databases can hold. Pure.

PostgreSQL stores neither NUL nor lone surrogates, and indexes no key over 2,704 bytes. Both have
64-bit integers. Readers need times that are dates. A value out of range is clamped: a row with one
wrong number is worth more than no row.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.records.bounds import (
    MAX_DATE_MS,
    MAX_INT,
    MAX_NAME_BYTES,
    without_surrogates,
)

if TYPE_CHECKING:
    from nightmill.records.result import Result

S = TypeVar("S", bound=msgspec.Struct)

MAX_COUNT: Final = (1 << 31) - 1
"""Largest integer of an INTEGER column: runs, attempts, snoozes."""
_EARLY_MS: Final = 1 << 47
"""A power of two before MAX_DATE_MS, epoch ms (the year 6429)."""
MAX_DOLLARS: Final = 1e15
MAX_BATCH_BYTES: Final = MAX_NAME_BYTES
MAX_JOB_ID_BYTES: Final = 2 * MAX_NAME_BYTES + 76
"""Bytes of UTF-8 of the indexed columns; a batch job's id is its batch, a colon, its custom_id."""
_DIGEST: Final = 16
_NUL: Final = "\0"
_REPLACED: Final = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Return `text` with each NUL and each lone surrogate replaced."""
    if text.isascii() and _NUL not in text:
        return text
    return without_nul(without_surrogates(text))


def without_nul(text: str) -> str:
    """Return `text` with each NUL replaced."""
    return text.replace(_NUL, _REPLACED) if _NUL in text else text


def job_key(job_id: str) -> str:
    """Return the primary key of the row of `job_id`."""
    if len(job_id) <= MAX_NAME_BYTES and job_id.isascii() and _NUL not in job_id:
        return job_id
    return shortened(clean(job_id), MAX_JOB_ID_BYTES)


def batch_key(batch: str) -> str:
    """Return what the column `batch` holds for a batch's name; "" stays ""."""
    return shortened(clean(batch), MAX_BATCH_BYTES)


def shortened(text: str, longest: int) -> str:
    """Return `text`, or its start and a hash of it where it has over `longest` bytes of UTF-8."""
    if len(text) * 4 <= longest or len(data := text.encode()) <= longest:
        return text
    digest = hashlib.blake2b(data, digest_size=_DIGEST).hexdigest()
    return data[: longest - len(digest) - 1].decode(errors="ignore") + "#" + digest


def clamped(number: int, most: int = MAX_INT) -> int:
    """Return `number`, or the nearest one that a column up to `most` can hold."""
    return max(-most - 1, min(number, most))


def date_ms(epoch_ms: int) -> int:
    """Return `epoch_ms`, or the nearest time between 1970 and 9999."""
    return epoch_ms if 0 <= epoch_ms <= MAX_DATE_MS else max(0, min(epoch_ms, MAX_DATE_MS))


def dollars(cost: float | None) -> float | None:
    """Return `cost`, within a range that can be summed; None for what is not a number."""
    if cost is None or not math.isfinite(cost):
        return None
    return max(-MAX_DOLLARS, min(cost, MAX_DOLLARS))


def fits(result: Result) -> bool:
    """Tell whether the numbers of `result` are in range, which is so for nearly every row.

    It may say no to a late date that is in range: `bounded` leaves such a date as it is.
    """
    usage = result.usage
    columns = (
        (result.seq or 0)
        | usage.input_tokens
        | usage.output_tokens
        | usage.cache_read_input_tokens
        | usage.cache_creation_input_tokens
        | usage.cache_creation_1h_input_tokens
        | usage.web_search_requests
        | (result.queue_ms or 0)
        | result.call_ms
    )
    counts = result.run | result.attempt_count | result.snooze_count | result.turns
    times = result.enqueued_at | result.finished_at | (result.started_at or 0)
    cost = result.cost
    return (
        0 <= columns <= MAX_INT
        and 0 <= counts <= MAX_COUNT
        and 0 <= times < _EARLY_MS
        and (cost is None or -MAX_DOLLARS <= cost <= MAX_DOLLARS)
    )


def bounded(result: Result) -> Result:
    """Return `result` with all numbers in range, and with texts that can be encoded."""
    return msgspec.structs.replace(
        result,
        seq=None if result.seq is None else clamped(result.seq),
        run=clamped(result.run, MAX_COUNT),
        attempt_count=clamped(result.attempt_count, MAX_COUNT),
        snooze_count=clamped(result.snooze_count, MAX_COUNT),
        turns=clamped(result.turns, MAX_COUNT),
        usage=bounded_fields(result.usage),
        queue_ms=None if result.queue_ms is None else clamped(result.queue_ms),
        call_ms=clamped(result.call_ms),
        enqueued_at=date_ms(result.enqueued_at),
        started_at=None if result.started_at is None else date_ms(result.started_at),
        finished_at=date_ms(result.finished_at),
        cost=dollars(result.cost),
        error=None if result.error is None else bounded_fields(result.error),
        attempts=tuple(map(bounded_fields, result.attempts)),
        snooze_reasons={clean(why): clamped(n) for why, n in result.snooze_reasons.items()},
    )


def bounded_fields(struct: S) -> S:
    """Return a struct of plain fields with its integers clamped and its texts cleaned."""
    changes: dict[str, object] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, str):
            changes[name] = clean(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            changes[name] = clamped(value)
    return msgspec.structs.replace(struct, **changes)
