"""A row that the store refused, reduced to what any store takes. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.result import ErrorInfo

if TYPE_CHECKING:
    from nightmill.records.result import Result

LONGEST_ID: Final = 512
"""Bytes of UTF-8 that every store can index."""


def reduced(row: Result, problem: str) -> Result:
    """Return `row` with its key, its state and its answer; `problem` says why it was refused.

    What a store may refuse is left out: the request, the attempts and odd text. The message is
    kept where it is text that can be stored.
    """
    note = f"stored reduced, since the store refused the row: {problem}"
    error = row.error or ErrorInfo(type="row_reduced", message=note)
    return msgspec.structs.replace(
        row,
        job_id=short(row.job_id),
        custom_id=None if row.custom_id is None else short(row.custom_id),
        params=None,
        attempts=(),
        error=msgspec.structs.replace(error, fix=note),
        request_hash=None,
        request_id=None,
    )


def short(text: str) -> str:
    """Return `text`, or its start and its hash where it is longer than LONGEST_ID."""
    data = text.encode(errors="replace")
    if len(data) <= LONGEST_ID:
        return data.decode()
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return data[: LONGEST_ID - 33].decode(errors="ignore") + "#" + digest
