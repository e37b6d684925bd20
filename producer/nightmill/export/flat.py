"""One result as one flat row: plain columns that every table and data frame can load."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from nightmill.records.result import Result

Kind = Literal["text", "int", "float", "bool", "time"]
Row = dict[str, object]


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Asked(msgspec.Struct):
    messages: list[_Turn] = []


_asked = msgspec.json.Decoder(_Asked)

# name -> (kind, how to read it)
_COLUMNS: Final[dict[str, tuple[Kind, Callable[[Result], object]]]] = {
    "custom_id": ("text", lambda r: r.custom_id),
    "status": ("text", lambda r: r.status.value),
    "prompt": ("text", lambda r: _prompt(r)),  # noqa: PLW0108 - defined below
    "text": ("text", lambda r: r.text if r.message is not None else None),
    "stop_reason": ("text", lambda r: r.stop_reason),
    "model": ("text", lambda r: r.model),
    "input_tokens": ("int", lambda r: r.usage.input_tokens),
    "output_tokens": ("int", lambda r: r.usage.output_tokens),
    "cache_read_input_tokens": ("int", lambda r: r.usage.cache_read_input_tokens),
    "cache_creation_input_tokens": ("int", lambda r: r.usage.cache_creation_input_tokens),
    "cost": ("float", lambda r: r.cost),
    "attempts": ("int", lambda r: r.attempt_count),
    "snoozes": ("int", lambda r: r.snooze_count),
    "error_type": ("text", lambda r: r.error.type if r.error else None),
    "error_message": ("text", lambda r: r.error.message if r.error else None),
    "fix": ("text", lambda r: r.error.fix if r.error else None),
    "job_id": ("text", lambda r: r.job_id),
    "batch": ("text", lambda r: r.batch),
    "seq": ("int", lambda r: r.seq),
    "run": ("int", lambda r: r.run),
    "request_id": ("text", lambda r: r.request_id),
    "worker": ("text", lambda r: r.worker),
    "lane": ("text", lambda r: r.lane),
    "queue_ms": ("int", lambda r: r.queue_ms),
    "call_ms": ("int", lambda r: r.call_ms),
    "enqueued_at": ("time", lambda r: _moment(r.enqueued_at)),
    "started_at": ("time", lambda r: _moment(r.started_at)),
    "finished_at": ("time", lambda r: _moment(r.finished_at)),
}
COLUMNS: Final[dict[str, Kind]] = {name: kind for name, (kind, _) in _COLUMNS.items()}
"""Every column, in order, and its kind. Times are in UTC, durations in ms, cost in dollars."""


def row_of(result: Result) -> Row:
    """Return `result` as column -> plain value, None where there is none."""
    return {name: read(result) for name, (_, read) in _COLUMNS.items()}


def _prompt(result: Result) -> str | None:
    """Return the text of the last user message, None when the request was not kept."""
    if result.params is None:
        return None
    try:
        turns = _asked.decode(result.params).messages
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    for turn in reversed(turns):
        if turn.role == "user":
            if isinstance(turn.content, str):
                return turn.content
            return "".join(block.text for block in turn.content if block.type == "text")
    return None


def _moment(epoch_ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC) if epoch_ms else None
