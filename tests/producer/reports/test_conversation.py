"""A request and its answer as a person reads them."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nightmill.reports.conversation import LONGEST, answer_lines, request_lines

IMAGE = {"type": "base64", "media_type": "image/png", "data": "A" * 4000}
REQUEST = {
    "model": "m",
    "max_tokens": 20,
    "system": "Be brief.",
    "messages": [
        {"role": "user", "content": [{"type": "image", "source": IMAGE}, {"$file": "a.pdf"}]},
        {"role": "assistant", "content": "Two\nlines"},
        {"role": "user", "content": [{"type": "tool_result", "content": "42"}]},
    ],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "source", "data", "content", "text"]), inner)
    ),
    max_leaves=9,
)


def test_a_request_is_shown_turn_by_turn() -> None:
    """`show` had neither request nor answer: people read 40 kB of JSON for them."""
    assert request_lines(json.dumps(REQUEST).encode()) == [
        "max_tokens 20",
        "system: Be brief.",
        "user:",
        "    [image: image/png, 3,000 bytes]",
        "    [file: a.pdf]",
        "assistant:",
        "    Two",
        "    lines",
        "user: [result of a tool]: 42",
    ]


def test_an_answer_is_shown_with_its_calls_of_tools() -> None:
    """An empty answer, of a refusal say, is said to be empty."""
    content = [{"type": "text", "text": "Hm"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}]
    assert answer_lines({"content": content}) == ["assistant:", "    Hm", '    [calls f] {"a": 1}']
    assert answer_lines({"content": []}) == ["assistant: (no content)"]


def test_a_long_text_is_cut_and_says_so() -> None:
    """A terminal has no use for a book."""
    (_, line) = answer_lines({"content": "x" * (LONGEST + 1)})
    assert line.endswith("x ... (4,001 characters in all)")


@given(JSON, st.binary(max_size=20))
def test_anything_can_be_shown(value: object, raw: bytes) -> None:
    """Rows of other programs may hold anything."""
    request = msgspec.json.encode({"messages": value, "system": value})
    for line in (*request_lines(request), *request_lines(raw), *answer_lines({"content": value})):
        assert isinstance(line.encode(), bytes)
