"""Stored results as JSON lines: the Message Batches result shape plus nightmill's own fields."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.result import Attempt, ErrorInfo, Result
from nightmill.state import JobState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import BinaryIO

    from nightmill.store import ResultStore

STDOUT: Final = "-"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")


async def export_jsonl(
    store: ResultStore,
    batch: str,
    out: str | Path,
    *,
    statuses: Collection[JobState] | None = None,
    ordered: bool = True,
) -> int:
    """Write the results of `batch` as JSON lines to the file `out`, "-" for stdout; count them.

    A file appears whole or not at all, in one rename. Lines come in the order of the source, or as
    the jobs finished when not `ordered`; only those of `statuses` when given. The same rows give
    the same bytes. Raises what the store raises, and OSError when `out` cannot be written.
    """
    written = 0
    with _opened(out) as file:
        async for result in store.stream(batch, statuses=statuses, ordered=ordered):
            file.write(to_line(result))
            written += 1
    return written


def to_line(result: Result) -> bytes:
    """Return `result` as one JSON line; times are RFC 3339 in UTC, None where unknown."""
    line = {
        "custom_id": result.custom_id,
        "result": _batches_result(result),
        "job_id": result.job_id,
        "run": result.run,
        "model": result.model,
        "stop_reason": result.stop_reason,
        "fix": result.error.fix if result.error else None,
        "usage": result.usage,
        "attempt_count": result.attempt_count,
        "snooze_count": result.snooze_count,
        "attempts": [_attempt(each) for each in result.attempts],
        "request_id": result.request_id,
        "worker": result.worker,
        "enqueued_at": _rfc3339(result.enqueued_at),
        "started_at": _rfc3339(result.started_at),
        "finished_at": _rfc3339(result.finished_at),
    }
    return msgspec.json.encode(line) + b"\n"


def _batches_result(result: Result) -> dict[str, object]:
    """Return the `result` object of the Message Batches API."""
    match result.status:
        case JobState.SUCCEEDED:
            return {"type": "succeeded", "message": _one_line(result.message)}
        case JobState.CANCELLED:
            return {"type": "canceled"}
        case JobState.EXPIRED:
            return {"type": "expired"}
        case _:
            error = result.error or _UNKNOWN
            inner = {"type": error.type, "message": error.message}
            return {"type": "errored", "error": {"type": "error", "error": inner}}


def _one_line(message: msgspec.Raw | None) -> msgspec.Raw | None:
    """Return `message` untouched, or compacted where its own line breaks would end ours."""
    if message is None or not any(end in bytes(message) for end in (b"\n", b"\r")):
        return message
    return msgspec.Raw(msgspec.json.format(bytes(message), indent=-1))


def _attempt(attempt: Attempt) -> dict[str, object]:
    return msgspec.structs.asdict(attempt) | {"started_at": _rfc3339(attempt.started_at)}


def _rfc3339(epoch_ms: int | None) -> str | None:
    """Return 2026-01-31T23:59:59.123Z; 0 and None mean that the time is not known."""
    if not epoch_ms:
        return None
    moment = _EPOCH + timedelta(milliseconds=epoch_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _opened(out: str | Path) -> Iterator[BinaryIO]:
    """Open stdout, a device or pipe as it is, or a file that replaces `out` when all went well."""
    path = Path(out)
    if str(out) == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with _replacing(path.resolve()) as file:
            yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
