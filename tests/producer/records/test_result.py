"""A stored row is read whatever its message and its attempts hold."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.records.message import Message
from nightmill.records.result import Attempt, Result, history_of
from nightmill.records.state import JobState


def result(message: bytes) -> Result:
    """Return the row of a job with this message."""
    return Result(job_id="j", status=JobState.SUCCEEDED, message=Message(message))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b'{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}', "ab"),
        (b'{"content":[{"type":"text","text":null},{"type":"text","text":"b"}]}', "b"),
        (b'{"content":["a",{"type":"text","text":"b"},null,5,[1],{"type":7}]}', "ab"),
        (b'{"content":[{"type":"tool_use","input":{"x":NaN}},{"type":"text","text":"a"}]}', "a"),
        (b'{"content":[{"type":"text","text":"a\\ud800b"}]}', "a\N{REPLACEMENT CHARACTER}b"),
        (b'{"content":[{"type":"text","text":"a\xff"}]}', "a\N{REPLACEMENT CHARACTER}"),
        (b'{"content":[{"type":"text","text":5},{"type":"text"},{}]}', ""),
        (b'{"content":"plain"}', "plain"),
        (b'{"content":null}', ""),
        (b'{"content":{"type":"text","text":"a"}}', "a"),
        (b"{}", ""),
        (b"[]", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
        (b'{"n":' + b"9" * 5000 + b',"content":"a"}', "a"),
    ],
)
def test_the_text_of_an_odd_message(message: bytes, text: str) -> None:
    """Endpoints answer with null, strings and half characters; one row must not end an export."""
    assert result(message).text == text


BLOCKS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "x"]),
            st.sampled_from(["text", "tool_use"]) | inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(BLOCKS | st.fixed_dictionaries({"content": BLOCKS}), st.booleans())
def test_any_json_has_a_text_that_can_be_encoded(message: object, escape: bool) -> None:  # noqa: FBT001
    """Whatever the store holds, an export goes on."""
    data = json.dumps(message, ensure_ascii=escape).encode(errors="surrogatepass")
    assert isinstance(Message(data).text.encode(), bytes)


@given(st.binary(max_size=40))
def test_any_bytes_have_a_text(data: bytes) -> None:
    """The same for a message that is not JSON."""
    assert isinstance(Message(data).text.encode(), bytes)


@pytest.mark.parametrize("past", [b"", b"[x]", b"[1]", b"\xff", b'[{"n":1}]', b"[" * 5000])
@pytest.mark.parametrize("cut", [b"", b"x", b"\xff", b'{"counted":"a"}'])
def test_a_history_that_cannot_be_read_counts_as_none(past: bytes, cut: bytes) -> None:
    """The job that ends now must not be lost with it."""
    last = Attempt(n=3, started_at=5, outcome="succeeded", duration_ms=7)
    found = history_of(past, cut, last)
    assert (found["attempts"], found["attempt_count"], found["call_ms"]) == ((last,), 1, 7)


def test_a_history_adds_up() -> None:
    """Attempts in the list, sums over those cut out, and the last one."""
    past = msgspec.json.encode(
        [Attempt(n=1, started_at=5, outcome="lost", duration_ms=3, counted=False)]
    )
    cut = b'{"counted":2,"call_ms":10,"reasons":{"lost":1}}'
    last = Attempt(n=5, started_at=9, outcome="failed", duration_ms=7)
    found = history_of(past, cut, last)
    assert (found["attempt_count"], found["snooze_count"], found["call_ms"]) == (3, 2, 20)
    assert found["snooze_reasons"] == {"lost": 2}
    assert found["started_at"] == 5
