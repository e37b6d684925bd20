"""One job's whole story in words: where it stands, every call, every wait, what it took."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.result import Attempt, Result

if TYPE_CHECKING:
    from redis.asyncio import Redis

_DAY: Final = "%Y-%m-%d %H:%M:%S"
_attempt = msgspec.json.Decoder(Attempt)


def tell(result: Result) -> list[str]:
    """Return the story of a stored job, a line an item."""
    kept, calls = len(result.attempts), result.attempt_count + result.snooze_count
    lines = [
        f"{result.job_id}: {result.status}" + (f" (run {result.run})" if result.run else ""),
        f"  model {result.model}, lane {result.lane or 'unknown'}, worker {result.worker}",
        f"  enqueued {_at(result.enqueued_at)}, finished {_at(result.finished_at)}",
        f"  {_seconds(result.queue_ms)} in the queue, {_seconds(result.call_ms)} in calls",
    ]
    if calls:
        reasons = ", ".join(f"{times} {why}" for why, times in result.snooze_reasons.items())
        lines.append(
            f"  counted attempts: {result.attempt_count}, not counted: {result.snooze_count}"
        )
        lines[-1] += f" ({reasons})" if reasons else ""
    lines += [f"  {line}" for each in result.attempts for line in _call(each)]
    if kept < calls:
        lines.append(f"  {calls - kept} calls in between are not kept")
    return lines + [f"  {line}" for line in _end(result)]


def _end(result: Result) -> list[str]:
    usage = result.usage
    tokens = f"{usage.input_tokens:,} in + {usage.output_tokens:,} out tokens"
    if usage.cache_read_input_tokens or usage.cache_creation_input_tokens:
        tokens += f", cache {usage.cache_read_input_tokens:,} read"
        tokens += f" + {usage.cache_creation_input_tokens:,} written"
    price = "cost unknown" if result.cost is None else f"${result.cost:.6f}"
    lines = [f"{tokens}, {price}, stop reason {result.stop_reason or 'none'}"]
    if result.error is not None:
        lines.append(f"error {result.error.type}: {result.error.message}")
        lines += [f"to fix it: {result.error.fix}"] if result.error.fix else []
    return lines


def _call(attempt: Attempt) -> list[str]:
    status = f" HTTP {attempt.status}" if attempt.status else ""
    why = f", {attempt.error_type}: {attempt.error_message}" if attempt.error_message else ""
    request = f" [{attempt.request_id}]" if attempt.request_id else ""
    took = _seconds(attempt.duration_ms)
    at = _at(attempt.started_at)
    lines = [f"{attempt.n}. {at} {attempt.outcome}{status} after {took}{why}{request}"]
    if attempt.wait_ms:
        lines.append(f"   waited {_seconds(attempt.wait_ms)}")
    return lines


async def tell_waiting(redis: Redis, job_id: str) -> list[str] | None:
    """Return the story so far of a job that has no row yet, None when Redis does not know it.

    Raises QueueUnavailableError.
    """
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.exists(keys.PAYLOAD + job_id)
            pipe.hgetall(keys.RECORD + job_id)
            pipe.lrange(keys.ATTEMPTS + job_id, 0, -1)
            there, record, attempts = await pipe.execute()
    if not there:
        return None
    state = record.get(b"state", b"queued").decode()
    lines = [f"{job_id}: {state}"]
    if b"worker" in record and state == "in_flight":
        answered = record.get(b"answered") == record.get(b"token")
        what = "holds its answer until the store takes it" if answered else "runs its call"
        lines.append(f"  worker {record[b'worker'].decode()} {what}")
    return lines + [f"  {line}" for each in attempts for line in _call(_attempt.decode(each))]


def _at(epoch_ms: int) -> str:
    """Return the time in UTC, to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime(_DAY) if epoch_ms else "?"


def _seconds(ms: int | None) -> str:
    return "?" if ms is None else f"{ms / 1000:,.1f} s"
