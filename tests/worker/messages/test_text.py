"""Text from outside that a row, JSON and every database can hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.text import beginning, clean

ANY = st.text(st.characters(exclude_categories=()), max_size=20)


@given(text=ANY, data=st.binary(max_size=20), limit=st.integers(0, 10))
def test_any_text_becomes_text_that_can_be_stored(text: str, data: bytes, limit: int) -> None:
    """No half of a surrogate pair, no NUL, and bounded."""
    for found in (clean(text, limit), beginning(data, limit)):
        assert "\0" not in found.encode().decode()
        assert len(found) <= limit
