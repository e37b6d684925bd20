"""A job as clients get it, and what they send to make one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from nightmill.export.lines import batches_result, rfc3339
from nightmill.params import refused
from nightmill.params.refusal import MISSING
from nightmill.records.result import Attempt
from nightmill_gateway.access.names import A_NAME, CLIENTS, inner, is_name, outer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.result import Result

MAX_WAIT_S: Final = 60
OWN_BATCH: Final = "jobs"
"""The name of a tenant's batch of jobs without a batch."""
RESERVED: Final = (CLIENTS, OWN_BATCH)
"""Batches that a client cannot name: one is called before others, one is the default."""
_FIELDS: Final = ("params", "id", "batch", "wait")
_attempt = msgspec.json.Decoder(Attempt)


class Asked(NamedTuple):
    """What a client asks for."""

    params: dict[str, Any]
    name: str | None
    batch: str | None
    wait_s: float


def asked(given: object) -> Asked:
    """Read the body of a new job. Raises InvalidParamsError that names the field."""
    if not isinstance(given, dict):
        raise refused("", given, 'an object: {"params": {...}}')
    for name in given:
        if name not in _FIELDS:
            raise refused(name[:60], given[name], f"only {', '.join(_FIELDS)}")
    params = given.get("params", MISSING)
    if not isinstance(params, dict):
        raise refused("params", params, "an object, the Messages request")
    for name in ("id", "batch"):
        if given.get(name) is not None and not is_name(given[name]):
            raise refused(name, given[name], A_NAME)
    if given.get("batch") in RESERVED:
        raise refused("batch", given["batch"], f"{A_NAME}, other than {' and '.join(RESERVED)}")
    wait = given.get("wait", 0)
    if not isinstance(wait, int | float) or isinstance(wait, bool) or not 0 <= wait <= MAX_WAIT_S:
        raise refused("wait", wait, f"seconds, 0 to {MAX_WAIT_S}")
    return Asked(params, given.get("id"), given.get("batch"), float(wait))


def job_id_of(tenant: str, asked: Asked, fresh: str) -> tuple[str, str, str]:
    """Return a job's id, its batch, and its name there; `fresh` is for one without a name.

    A job without a batch goes to the tenant's own one, whose share of claims is the tenant's.
    """
    name = asked.name or fresh
    if asked.batch is None:
        return inner(tenant, name), inner(tenant, OWN_BATCH), name
    batch = inner(tenant, asked.batch)
    return f"{batch}:{name}", batch, name


def ended_job(row: Result) -> dict[str, object]:
    """Return a job that has its row."""
    return {
        "id": outer(row.job_id),
        "type": "job",
        "state": row.status,
        "created_at": rfc3339(row.enqueued_at),
        "ended_at": rfc3339(row.finished_at),
        "attempts": [_call(each) for each in row.attempts],
        "result": batches_result(row),
    }


def waiting_job(
    job_id: str, state: str, enqueued_at: int | None, attempts: Sequence[bytes]
) -> dict[str, object]:
    """Return a job that is in Redis; `attempts` are its calls so far, as Redis has them."""
    return {
        "id": outer(job_id),
        "type": "job",
        "state": state,
        "created_at": rfc3339(enqueued_at),
        "ended_at": None,
        "attempts": [found for each in attempts if (found := _read_call(each))],
        "result": None,
    }


def _read_call(raw: bytes) -> dict[str, object] | None:
    try:
        return _call(_attempt.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _call(attempt: Attempt) -> dict[str, object]:
    return {
        "n": attempt.n,
        "started_at": rfc3339(attempt.started_at),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome,
        "counted": attempt.counted,
        "status": attempt.status,
        "error_type": attempt.error_type,
        "error_message": attempt.error_message,
        "request_id": attempt.request_id,
        "wait_ms": attempt.wait_ms,
    }
