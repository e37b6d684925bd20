"""Notices: webhooks about one event, beside the completion of a batch. Pure.

A notice waits in Redis until its URL has accepted it. It has the same id and the same body in every
try, so that receivers recognise repeats.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill.records.bounds import Int64

if TYPE_CHECKING:
    from nightmill.records.counts import Counts
    from nightmill.records.result import Result

HELD: Final = {"paused": "batch.paused", "budget": "batch.failed_over_budget"}
"""The flag of a batch -> the type of the notice about it."""
_ENDS: Final = ("succeeded", "failed", "cancelled", "expired")


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event on its way to a URL."""

    url: str
    type: str
    """`batch.paused`, `batch.failed_over_budget`, `account.stopped` or `job.finished`."""
    about: str
    """The batch, the account or the job, for logs."""
    body: str = ""
    """The JSON that is posted; "" once it is delivered or given up."""
    state: Literal["waiting", "retrying", "delivered", "given_up"] = "waiting"
    tries: Int64 = 0
    """Posts so far."""
    reason: str = ""
    """Why the last try failed."""


def id_of(*parts: object) -> str:
    """Return the webhook-id of the event that `parts` say."""
    return f"msg_{hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()}"


def body_of(kind: str, at_ms: int, data: dict[str, object]) -> str:
    """Return the body of every webhook; `at_ms` is when it happened, epoch ms."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    body = {"type": kind, "timestamp": at.replace("+00:00", "Z"), "data": data}
    return msgspec.json.encode(body).decode()


def about_batch(batch: str, counts: Counts) -> dict[str, object]:
    """Return what webhooks say about a batch; `cost` is in US dollars, null when not known."""
    return {
        "batch": batch,
        "counts": {"total": counts.total} | {name: getattr(counts, name) for name in _ENDS},
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
        "cost": counts.cost,
    }


def of_batch(batch: str, url: str, counts: Counts, at_ms: int) -> Notice:
    """Return the notice that a batch is held."""
    kind = HELD[counts.flag]
    data = about_batch(batch, counts) | {"reason": counts.reason}
    return Notice(url=url, type=kind, about=batch, body=body_of(kind, at_ms, data))


def of_account(account: str, url: str, reason: str, stopped_at: int) -> tuple[str, Notice]:
    """Return the id and the notice of a stop of an account."""
    kind = "account.stopped"
    body = body_of(kind, stopped_at, {"account": account, "reason": reason})
    notice = Notice(url=url, type=kind, about=account, body=body)
    return id_of(kind, account, stopped_at), notice


def of_job(row: Result, url: str) -> tuple[str, str]:
    """Return the id and the JSON of the notice that a single job has ended."""
    kind, usage, error = "job.finished", row.usage, row.error
    data: dict[str, object] = {
        "job_id": row.job_id,
        "status": row.status,
        "model": row.model,
        "stop_reason": row.stop_reason,
        "error": error and {"type": error.type, "message": error.message, "fix": error.fix},
        "tokens": {"input": usage.input_tokens, "output": usage.output_tokens},
        "cost": row.cost,
    }
    body = body_of(kind, row.finished_at, data)
    notice = Notice(url=url, type=kind, about=row.job_id, body=body)
    return id_of(kind, row.job_id, row.run, row.finished_at), msgspec.json.encode(notice).decode()


_decoder: Final = msgspec.json.Decoder(Notice)


def decode(raw: bytes) -> Notice | None:
    """Return a notice; None for what is none."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
