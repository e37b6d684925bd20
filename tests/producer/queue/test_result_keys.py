"""The value of arq:result:<id>: written for any row, read whatever it holds."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import PayloadError, StoreMissingError
from nightmill.queue.result_keys import from_redis, kept
from nightmill.records.message import Message
from nightmill.records.result import ErrorInfo, Result, Usage
from nightmill.records.state import JobState

ROW = Result(job_id="j", status=JobState.SUCCEEDED, enqueued_at=1, started_at=2, finished_at=3)
MESSAGE: dict[str, object] = {
    "type": "message",
    "model": "m",
    "stop_reason": "end_turn",
    "content": [],
}


def read(message: dict[str, object]) -> Result:
    """Write a single job's row with this message and read it back."""
    row = msgspec.structs.replace(ROW, message=Message(json.dumps(message).encode()))
    return from_redis("j", kept(row, "nightmill:queue"))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, Usage(input_tokens=3, output_tokens=4)),
        (None, Usage()),
        ([], Usage()),
        ({"input_tokens": None, "output_tokens": "4", "more": {}}, Usage()),
        ({"input_tokens": 2**63, "output_tokens": -1, "cache_read_input_tokens": True}, Usage()),
    ],
)
def test_a_message_with_an_odd_usage_is_read(usage: object, expected: Usage) -> None:
    """The call was paid: its message counts, and what is not known of its usage is 0."""
    found = read({**MESSAGE, "usage": usage})
    assert (found.status, found.usage, found.model) == (JobState.SUCCEEDED, expected, "m")


def test_a_message_with_keys_of_ours_is_still_a_message() -> None:
    """An endpoint may add any key to its Message."""
    odd = {**MESSAGE, "status": "fine", "stored": "x", "fix": 1, "message": [], "model": None}
    assert read(odd).model is None


def test_a_batch_jobs_message_is_in_the_store() -> None:
    """Redis has only the marker."""
    row = msgspec.structs.replace(ROW, batch="night", message=Message(b"{}"))
    with pytest.raises(
        StoreMissingError, match="j succeeded; its answer is in the workers' results store"
    ):
        from_redis("j", kept(row, "q"))


@pytest.mark.parametrize("text", ["plain", "half \ud800", "a\0b"])
def test_any_error_can_be_written_and_read(text: str) -> None:
    """An error may quote what an endpoint sent, such as a byte that is not UTF-8."""
    error = ErrorInfo(type=text, message=text, fix=text)
    for status in (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED):
        row = msgspec.structs.replace(ROW, status=status, error=error)
        found = from_redis("j", kept(row, "q"))
        assert found.status is status
        assert found.error is not None
        assert found.error.message == text.replace("\ud800", "\N{REPLACEMENT CHARACTER}")


@given(
    st.fixed_dictionaries(
        {name: st.integers() | st.none() for name in ("et", "st", "ft", "t")}
        | {"id": st.just("j"), "s": st.booleans() | st.none()}
        | {"r": st.none() | st.text() | st.dictionaries(st.text(), st.integers() | st.text())}
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
)
def test_any_value_is_a_result_or_an_error_of_ours(data: bytes) -> None:
    """Another program may have written the key."""
    try:
        assert isinstance(from_redis("j", data), Result)
    except (PayloadError, StoreMissingError):
        return
