"""One result as a flat row: plain columns that tables and data frames can load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from nightmill.records.bounds import date_of
from nightmill.records.result import Result

Kind = Literal["text", "int", "float", "bool", "time"]
Row = dict[str, object]


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Request(msgspec.Struct):
    messages: list[_Turn] = []


_request = msgspec.json.Decoder(_Request)

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
    "cost_input": ("float", lambda r: r.cost_parts and r.cost_parts.input),
    "cost_output": ("float", lambda r: r.cost_parts and r.cost_parts.output),
    "cost_cache_read": ("float", lambda r: r.cost_parts and r.cost_parts.cache_read),
    "cost_cache_write": ("float", lambda r: r.cost_parts and r.cost_parts.cache_write),
    "cost_web_search": ("float", lambda r: r.cost_parts and r.cost_parts.web_search),
    "attempts": ("int", lambda r: r.attempt_count),
    "snoozes": ("int", lambda r: r.snooze_count),
    "error_type": ("text", lambda r: r.error.type if r.error else None),
    "error_message": ("text", lambda r: r.error.message if r.error else None),
    "fix": ("text", lambda r: r.error.fix if r.error else None),
    "job_id": ("text", lambda r: r.job_id),
    "batch": ("text", lambda r: r.batch),
    "seq": ("int", lambda r: r.seq),
    "run": ("int", lambda r: r.run),
    "rehearsal": ("bool", lambda r: r.rehearsal),
    "request_id": ("text", lambda r: r.request_id),
    "worker": ("text", lambda r: r.worker),
    "lane": ("text", lambda r: r.lane),
    "queue_ms": ("int", lambda r: r.queue_ms),
    "call_ms": ("int", lambda r: r.call_ms),
    "enqueued_at": ("time", lambda r: date_of(r.enqueued_at)),
    "started_at": ("time", lambda r: date_of(r.started_at)),
    "finished_at": ("time", lambda r: date_of(r.finished_at)),
}
COLUMNS: Final[dict[str, Kind]] = {name: kind for name, (kind, _) in _COLUMNS.items()}
"""Column -> kind, in order. Times are in UTC, durations in milliseconds, cost in US dollars."""


def row_of(result: Result) -> Row:
    """Return `result` as column -> plain value; None for a value that it does not have."""
    return {name: read(result) for name, (_, read) in _COLUMNS.items()}


def _prompt(result: Result) -> str | None:
    """Return the text of the last user turn; None without a request, or with one that is odd."""
    if result.params is None:
        return None
    try:
        turns = _request.decode(result.params).messages
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    for turn in reversed(turns):
        if turn.role == "user":
            if isinstance(turn.content, str):
                return turn.content
            return "".join(block.text for block in turn.content if block.type == "text")
    return None
