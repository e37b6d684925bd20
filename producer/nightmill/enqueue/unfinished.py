"""Jobs that have not ended, as Redis holds them: their requests, and giving them other ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.chunks import chunks_of
from nightmill.errors import BatchEndedError, InvalidParamsError, PayloadError
from nightmill.params import recheck
from nightmill.queue import wire
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import ENDED
from nightmill.records.stop_reasons import counted_as

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from nightmill.enqueue.prepare import Ready
    from nightmill.params import Defaults
    from nightmill.store import Stored

PART: Final = 100
"""Payloads that are read at once: each may have megabytes."""


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is queued or in flight.

    `request` is its request as requests are compared, or the one that it gets when its call has
    ended; None when it cannot be read.
    """

    request: bytes | None
    run: int
    in_flight: bool


async def unfinished(redis: Redis, ids: Sequence[str], defaults: Defaults) -> dict[str, Unfinished]:
    """Return job id -> job, for those of `ids` that are in Redis. Raises QueueUnavailableError."""
    found: dict[str, Unfinished] = {}
    script = redis.register_script(wire.script("unfinished"))
    for some in chunks_of(ids, PART):
        with redis_errors():
            there = await script(args=list(some))
        for job_id, (payload, in_flight) in zip(some, there, strict=True):
            if payload:
                found[job_id] = _read(payload, defaults, in_flight=bool(in_flight))
    return found


def _read(payload: bytes, defaults: Defaults, *, in_flight: bool) -> Unfinished:
    try:
        job, _ = wire.decode_job(payload)
        request = job.api.beside(recheck(bytes(job.params), defaults))
    except (PayloadError, InvalidParamsError):
        return Unfinished(request=None, run=0, in_flight=in_flight)
    return Unfinished(request=request, run=job.run, in_flight=in_flight)


class Replacement(msgspec.Struct, frozen=True):
    """A new request for a job; `row`: the stored row that answers it already."""

    job: Ready
    row: Stored | None = None


class Replacer:
    """Gives jobs of a batch that have not ended other requests."""

    def __init__(self, redis: Redis, batch: str) -> None:
        """Use a client that the caller closes."""
        self._batch = batch
        self._script = redis.register_script(wire.script("replace"))

    async def replace(self, items: Sequence[Replacement]) -> list[bool]:
        """Replace the requests; return for each whether its job was still in Redis.

        A job in flight gets the new request when its call has ended. Raises BatchEndedError and
        QueueUnavailableError.
        """
        there: list[bool] = []
        for some in chunks_of(items, PART):
            args: list[str | bytes] = [self._batch]
            for item in some:
                row = item.row
                ended = (row.status, counted_as(row.status, row.stop_reason)) if row else ("", "")
                args += (item.job.job_id, item.job.queue, item.job.payload, *ended)
            with redis_errors():
                codes: bytes = await self._script(args=args)
            if (flag := codes.decode()) in ENDED:
                raise BatchEndedError(self._batch, flag)
            there += [code != ord("0") for code in codes]
        return there
