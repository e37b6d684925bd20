"""Why jobs of a batch failed: like failures in one group, with an example and the way to fix it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.result import ErrorInfo

if TYPE_CHECKING:
    from nightmill.store import ResultStore

_VARIES: Final = re.compile(r"\b(?:req_\w+|[0-9a-f]{12,}|\d[\d,.]*)\b")
"""Numbers and ids: messages that differ in nothing else are one group."""
_RETRY_UNCHANGED: Final = frozenset(
    {"api_error", "overloaded_error", "rate_limit_error", "timeout_error", "connection_error"}
)
"""Error types that say nothing against the request."""
_FEED_AGAIN: Final = frozenset({"invalid_payload", "payload_gone"})
"""Error types of jobs whose row has no request that could be sent again."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A group of failures with one type and one message, numbers and ids aside."""

    type: str
    message: str
    """The message of one of them."""
    count: int
    example: str
    """The job_id of one of them."""
    fix: str | None
    """What to change before the jobs run again, None when nothing is known."""
    command: str
    """The command that runs them again."""


async def failures(store: ResultStore, batch: str) -> list[Failure]:
    """Return why jobs of `batch` failed, the most frequent first. Raises what the store raises."""
    groups: dict[tuple[str, str], Failure] = {}
    for error, count, example in await store.errors(batch):
        key = (error.type, _VARIES.sub("#", error.message))
        group = groups.get(key)
        if group is None:
            groups[key] = _failure(batch, error, count, example)
        else:
            groups[key] = msgspec.structs.replace(group, count=group.count + count)
    return sorted(groups.values(), key=lambda each: -each.count)


def _failure(batch: str, error: ErrorInfo, count: int, example: str) -> Failure:
    return Failure(
        type=error.type,
        message=error.message,
        count=count,
        example=example,
        fix=error.fix,
        command=_command(batch, error.type),
    )


def _command(batch: str, kind: str) -> str:
    name, error = shlex.quote(batch), shlex.quote(kind)
    if kind in _FEED_AGAIN:
        return f"nightmill enqueue IN.jsonl --batch {name} --changed rerun"
    if kind in _RETRY_UNCHANGED:
        return f"nightmill retry {name} --error {error}"
    return f"nightmill retry {name} --error {error} --set FIELD=VALUE"
