"""Results for the store's tests: one of each kind, with everything filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.message import Message
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from typing import Any

SUCCEEDED = Result(
    job_id="night:line-7",
    status=JobState.SUCCEEDED,
    run=0,
    batch="night",
    custom_id="line-7",
    seq=7,
    model="claude-opus-4-6",
    params=msgspec.Raw(
        '{"model":"claude-opus-4-6","messages":[{"role":"user","content":"ü\\u0000"}]}'
    ),
    message=Message('{"type": "message", "content": [{"type":"text","text":"漢字"}]}'),
    attempts=(
        Attempt(n=1, started_at=2_000, outcome="snoozed", counted=False, status=429, wait_ms=1_000),
        Attempt(n=2, started_at=3_500, outcome="succeeded", status=200, request_id="req_2"),
    ),
    attempt_count=1,
    snooze_count=1,
    snooze_reasons={"rate_limit_error": 1},
    cost=0.000625,
    usage=Usage(
        input_tokens=11,
        output_tokens=22,
        cache_read_input_tokens=33,
        cache_creation_input_tokens=44,
    ),
    stop_reason="end_turn",
    request_id="req_2",
    request_hash="00ff00ff00ff00ff",
    enqueued_at=1_700_000_000_123,
    started_at=1_700_000_001_000,
    finished_at=1_700_000_002_005,
    queue_ms=877,
    call_ms=1_000,
    worker="host:1",
    lane="00ff00ff00ff00ff:claude-opus-4-6",
)
FAILED = msgspec.structs.replace(
    SUCCEEDED,
    job_id="night:line-8",
    custom_id="line-8",
    seq=8,
    status=JobState.FAILED,
    message=None,
    error=ErrorInfo(type="invalid_request_error", message="max_tokens: 0", fix="give at least 1"),
    attempts=(Attempt(n=1, started_at=2_000, outcome="failed", status=400),),
    attempt_count=1,
    snooze_count=0,
    snooze_reasons={},
    cost=0.0,
    usage=Usage(),
)
SINGLE = Result(job_id="0199-single", status=JobState.EXPIRED, finished_at=5)


def numbered(seq: int, *, batch: str = "night", **fields: Any) -> Result:  # noqa: ANN401  any field
    """Return a succeeded result of `batch` at line `seq`, with `fields` of Result changed."""
    name = f"line-{seq}"
    fields = {"job_id": f"{batch}:{name}", "custom_id": name, "seq": seq, "batch": batch, **fields}
    return msgspec.structs.replace(SUCCEEDED, **fields)
