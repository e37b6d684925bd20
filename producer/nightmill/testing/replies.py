"""What a producer in memory answers, and the row of such an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from nightmill.records.job import now_ms, request_hash
from nightmill.records.message import Message
from nightmill.records.result import ErrorInfo, Result
from nightmill.records.state import JobState

Request: TypeAlias = dict[str, Any]
Reply: TypeAlias = str | Mapping[str, Any] | ErrorInfo | None
"""A text, fields of a Message, an error with which the job fails, or None: it stays queued."""


def echo(request: Request) -> Reply:
    """Answer with the text of the last message."""
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else Message({"content": content}).text


def result_of(job_id: str, job: Any, at: int, reply: Reply) -> Result:  # noqa: ANN401 - a Job
    """Return the row of a job with this reply; None: it was cancelled."""
    request = msgspec.json.decode(job.params)
    row = Result(
        job_id=job_id,
        status=JobState.CANCELLED,
        batch=job.batch,
        custom_id=job.custom_id,
        seq=job.seq,
        params=job.params,
        model=request.get("model"),
        api=job.api,
        request_hash=request_hash(job.params, job.api),
        cost=0.0,
        enqueued_at=at,
        finished_at=now_ms(),
    )
    if reply is None:
        return row
    if isinstance(reply, ErrorInfo):
        return msgspec.structs.replace(row, status=JobState.FAILED, error=reply, attempt_count=1)
    content = [{"type": "text", "text": reply}] if isinstance(reply, str) else None
    message = Message(
        {
            "id": f"msg_{job_id}",
            "type": "message",
            "role": "assistant",
            "model": request.get("model"),
            "content": content or [],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
            **(reply if isinstance(reply, Mapping) else {}),
        }
    )
    return msgspec.structs.replace(
        row,
        status=JobState.SUCCEEDED,
        message=message,
        stop_reason=message["stop_reason"],
        attempt_count=1,
        started_at=row.finished_at,
    )
