"""Why jobs of a batch failed: alike failures together, with an example and what would fix them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.result import ErrorInfo

if TYPE_CHECKING:
    from nightmill.store import ResultStore

_VARIES: Final = re.compile(r"\b(?:req_\w+|[0-9a-f]{12,}|\d[\d,.]*)\b")
_AS_IT_WAS: Final = frozenset(
    {"api_error", "overloaded_error", "rate_limit_error", "timeout_error", "connection_error"}
)
_FEED_AGAIN: Final = frozenset({"invalid_payload", "payload_gone"})


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Failures with one type and message, numbers and ids aside; `example` is a job's id.

    `command` is what would run them again, `fix` what to change first, if anything.
    """

    type: str
    message: str
    count: int
    example: str
    fix: str | None
    command: str


async def failures(store: ResultStore, batch: str) -> list[Failure]:
    """Return why jobs of `batch` failed, the most frequent first. Raises what the store raises."""
    groups: dict[tuple[str, str], Failure] = {}
    for error, count, example in await store.errors(batch):
        key = (error.type, _VARIES.sub("#", error.message))
        seen = groups.get(key)
        if seen is None:
            groups[key] = _failure(batch, error, count, example)
        else:
            groups[key] = msgspec.structs.replace(seen, count=seen.count + count)
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
    if kind in _AS_IT_WAS:
        return f"nightmill retry {name} --error {error}"
    return f"nightmill retry {name} --error {error} --set FIELD=VALUE"
