"""The history of one job as text: its state, every call, every wait, what it cost."""

from __future__ import annotations

from textwrap import shorten as shortened
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import PayloadError
from nightmill.queue import wire
from nightmill.queue.queued_job import read_queued
from nightmill.records.bounds import date_of
from nightmill.records.counts import text
from nightmill.records.message import Message, is_null
from nightmill.records.result import Attempt, Result
from nightmill.reports.conversation import answer_lines, request_lines
from nightmill.reports.labels import HistoryLabel

if TYPE_CHECKING:
    from redis.asyncio import Redis

_TIME: Final = "%Y-%m-%d %H:%M:%S"
_attempt = msgspec.json.Decoder(Attempt)


def stored_history(result: Result) -> list[str]:
    """Return the history of a stored job, one line an item."""
    kept, calls = len(result.attempts), result.attempt_count + result.snooze_count
    run = f" ({HistoryLabel.RUN} {result.run})" if result.run else ""
    lines = [f"{result.job_id}: {result.status}{run}"]
    facts = [
        f"{HistoryLabel.MODEL} {result.model}",
        f"{HistoryLabel.LANE} {result.lane or 'unknown'}",
        f"{HistoryLabel.WORKER} {result.worker or 'unknown'}",
        f"{HistoryLabel.ENQUEUED} {_time(result.enqueued_at)} UTC",
        f"{HistoryLabel.FINISHED} {_time(result.finished_at)} UTC",
        f"{_seconds(result.queue_ms)} {HistoryLabel.QUEUE_TIME}",
        f"{_seconds(result.call_ms)} {HistoryLabel.CALL_TIME}",
    ]
    if calls:
        facts.append(_totals(result))
    facts += [line for each in result.attempts for line in _call(each)]
    if kept < calls:
        facts.append(f"{calls - kept} calls in between are not kept")
    lines += [f"  {line}" for line in facts + _outcome(result)]
    if result.params is not None:
        request = result.api.beside(bytes(result.params))
        lines += ["", HistoryLabel.REQUEST, *_indented(request_lines(request))]
    if result.message is not None:
        lines += ["", HistoryLabel.ANSWER, *_indented(answer_lines(result.message))]
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _totals(result: Result) -> str:
    """Return how many calls counted against MAX_ATTEMPTS, and why the others did not."""
    reasons = ", ".join(f"{times} {why}" for why, times in result.snooze_reasons.items())
    return (
        f"{HistoryLabel.COUNTED}: {result.attempt_count}, "
        f"{HistoryLabel.NOT_COUNTED}: {result.snooze_count}" + (f" ({reasons})" if reasons else "")
    )


def _outcome(result: Result) -> list[str]:
    usage = result.usage
    tokens = f"{usage.input_tokens:,} in + {usage.output_tokens:,} out {HistoryLabel.TOKENS}"
    if usage.cache_read_input_tokens or usage.cache_creation_input_tokens:
        tokens += f", {HistoryLabel.CACHE} {usage.cache_read_input_tokens:,} read"
        tokens += f" + {usage.cache_creation_input_tokens:,} written"
    price = "cost unknown" if result.cost is None else f"${result.cost:.6f}"
    stop_reason = f"{HistoryLabel.STOP_REASON} {result.stop_reason or 'none'}"
    lines = [f"{tokens}, {price}", stop_reason]
    if result.error is not None:
        lines.append(f"{HistoryLabel.ERROR} {result.error.type}: {result.error.message}")
        lines += [f"{HistoryLabel.FIX}: {result.error.fix}"] if result.error.fix else []
    return lines


def _call(attempt: Attempt) -> list[str]:
    status = f" HTTP {attempt.status}" if attempt.status else ""
    why = f", {attempt.error_type}: {attempt.error_message}" if attempt.error_message else ""
    request = f" [{attempt.request_id}]" if attempt.request_id else ""
    took = _seconds(attempt.duration_ms)
    start = _time(attempt.started_at)
    lines = [f"{attempt.n}. {start} {attempt.outcome}{status} after {took}{why}{request}"]
    if not is_null(attempt.answer):
        answer = " ".join(answer_lines(Message(attempt.answer)))
        lines.append(f"   {shortened(answer, width=75, placeholder=' ...')}")
    if attempt.wait_ms:
        lines.append(f"   {HistoryLabel.WAITED} {_seconds(attempt.wait_ms)}")
    return lines


def _read_call(raw: bytes) -> list[str]:
    try:
        return _call(_attempt.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ["? this call's record cannot be read"]


async def waiting_history(redis: Redis, job_id: str) -> list[str] | None:
    """Return the history of a job that is not stored yet, None when Redis does not know the job.

    Raises QueueUnavailableError.
    """
    found = await read_queued(redis, job_id)
    if found is None:
        return None
    payload, record, attempts = found
    state = found.state
    lines = [f"{job_id}: {state.replace('_', ' ')}"]
    if b"worker" in record and state == "in_flight":
        answered = record.get(b"answered") == record.get(b"token")
        what = "holds its answer until the store accepts it" if answered else "runs its call"
        lines.append(f"  {HistoryLabel.WORKER} {text(record[b'worker'])} {what}")
    lines += [f"  {line}" for each in attempts for line in _read_call(each)]
    try:
        job, _ = wire.decode_job(payload)
    except PayloadError as error:
        return [*lines, "", HistoryLabel.REQUEST, f"  cannot be read: {error}"]
    request = job.api.beside(bytes(job.params))
    return [*lines, "", HistoryLabel.REQUEST, *_indented(request_lines(request))]


def _time(epoch_ms: int) -> str:
    """Return the time in UTC, to the second; "?" when it is not known or not a date."""
    time = date_of(epoch_ms)
    return time.strftime(_TIME) if time else "?"


def _seconds(ms: int | None) -> str:
    return "?" if ms is None else f"{ms / 1000:,.1f} s"
