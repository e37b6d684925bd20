"""Text from outside that a row, JSON and every database can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.text import beginning, clean, header

ANY = st.text(st.characters(exclude_categories=()), max_size=20)


@given(text=ANY, data=st.binary(max_size=20), limit=st.integers(0, 10))
def test_any_text_becomes_text_that_can_be_stored(text: str, data: bytes, limit: int) -> None:
    """No half of a surrogate pair, no NUL, and bounded."""
    raw = data.decode(errors="surrogateescape")  # as headers are decoded
    for found in (clean(text, limit), header(raw, limit), beginning(data, limit)):
        assert "\0" not in found.encode().decode()
        assert len(found) <= limit


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"req_1", "req_1"),
        (b"req_\xe9", "req_é"),
        ("req_é".encode(), "req_é"),
        (b"\xff\xc3\xa9", "ÿÃ©"),
        (b"a\0b", "a\ufffdb"),
        (b"x" * 999, "x" * 256),
    ],
)
def test_a_header_is_read_as_utf_8_or_else_as_latin_1(raw: bytes, expected: str) -> None:
    """A Latin-1 byte in a request-id ended workers: it became half of a surrogate pair."""
    assert header(raw.decode(errors="surrogateescape")) == expected
