"""Why jobs of a batch failed: like failures in one group, with an example and the way to fix it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.result import ErrorInfo
from nightmill.records.stop_reasons import (
    FIXES,
    REFUSAL,
    TRUNCATED,
    counted_as,
    described,
    not_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.store import ResultStore

_VARIES: Final = re.compile(r"\b(?:req_\w+|[0-9a-f]{12,}|\d[\d,.]*)\b")
"""Numbers and ids: messages that differ in nothing else are one group."""
MOST: Final = 500
"""Groups that are kept."""
COMPARED: Final = 1_000
"""Characters of a message that tell groups apart."""
OTHER: Final = "(other types)"
REST: Final = "(and other messages)"
"""Before the message of a group whose jobs have different messages."""
_FIELDS: Final = {
    "invalid_request_error": "FIELD=VALUE",
    "not_found_error": "model=NAME",
    "context_exceeded": "model=NAME",
    "input_cut": "max_tokens=N",
    "refused": "model=NAME",
    "truncated": "max_tokens=N",
    "response_too_large": "max_tokens=N",
}
"""Error types that a field of the request causes -> what --set is to change."""
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


def shortened(message: str, longest: int) -> str:
    """Return at most `longest` characters of a message; an endpoint's may have any length."""
    return message if len(message) <= longest else f"{message[: longest - 3]}..."


async def failures(store: ResultStore, batch: str) -> list[Failure]:
    """Return why jobs of `batch` failed, the most frequent first. Raises what the store raises."""
    groups = _Groups(batch)
    async for page in store.errors(batch):
        groups.add(page)
    return groups.found()


def grouped(batch: str, errors: Iterable[tuple[ErrorInfo, int, str]]) -> list[Failure]:
    """Return groups of errors, each with its number of jobs and the id of one of them."""
    groups = _Groups(batch)
    groups.add(errors)
    return groups.found()


class _Groups:
    """At most MOST groups, and one more with the rest of each type: endpoints make up messages."""

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._groups: dict[tuple[str, str | None], Failure] = {}

    def add(self, errors: Iterable[tuple[ErrorInfo, int, str]]) -> None:
        for error, count, example in errors:
            key: tuple[str, str | None] = (error.type, _VARIES.sub("#", error.message[:COMPARED]))
            if key not in self._groups and len(self._groups) >= MOST:
                kind = error.type if len(self._groups) < 2 * MOST else OTHER
                key = (error.type, None) if (error.type, None) in self._groups else (kind, None)
            before = self._groups.get(key)
            if before is not None:
                new = msgspec.structs.replace(before, count=before.count + count)
            else:
                new = _failure(self._batch, error, count, example)
                if key[1] is None:
                    new = _rest(self._batch, new, key[0])
            self._groups[key] = new

    def found(self) -> list[Failure]:
        return sorted(self._groups.values(), key=lambda each: -each.count)


def _failure(batch: str, error: ErrorInfo, count: int, example: str) -> Failure:
    return Failure(
        type=error.type,
        message=error.message,
        count=count,
        example=example,
        fix=error.fix,
        command=_command(batch, error.type),
    )


def _rest(batch: str, one: Failure, kind: str) -> Failure:
    """Return the group of which `one` is the first job; its jobs have different messages."""
    command = f"nightmill retry {shlex.quote(batch)}" if kind == OTHER else one.command
    message = f"{REST} {one.message}"
    return msgspec.structs.replace(one, type=kind, message=message, command=command)


def _command(batch: str, kind: str) -> str:
    name, error = shlex.quote(batch), shlex.quote(kind)
    if kind in _FEED_AGAIN:
        return f"nightmill enqueue IN.jsonl --batch {name} --changed rerun"
    change = f" --set {_FIELDS[kind]}" if kind in _FIELDS else ""
    return f"nightmill retry {name} --error {error}{change}"


async def not_whole_answers(store: ResultStore, batch: str) -> list[Failure]:
    """Return the answers of `batch` that are not whole, by stop reason, as failures do."""
    groups: dict[str, Failure] = {}
    for status, stop_reason, count, example in await store.stops(batch):
        name = counted_as(status, stop_reason)
        before = groups[name].count if name in groups else 0
        groups[name] = stopped(batch, name, before + count, example)
    numbers = not_whole({name: group.count for name, group in groups.items() if name})
    return [groups[name] for name in numbers]


def stopped(batch: str, name: str, count: int, example: str) -> Failure:
    """Return the group of answers of `batch` that stopped with the stop reason `name`."""
    return Failure(
        type=f"stop reason {name}",
        message=described(name),
        count=count,
        example=example,
        fix=FIXES.get(name),
        command=_stop_command(batch, name),
    )


def _stop_command(batch: str, name: str) -> str:
    retry = f"nightmill retry {shlex.quote(batch)}"
    if name == TRUNCATED:
        return f"{retry} --truncated --set max_tokens=N"
    change = " --set model=NAME" if name == REFUSAL else ""
    return f"{retry} --stop-reason {shlex.quote(name)}{change}"
