"""How deep a request may be nested."""

from __future__ import annotations

import pytest

from nightmill.errors import InvalidParamsError
from nightmill.params import MAX_DEPTH, check
from tests.producer.params.test_params import DEFAULTS, refusal, request


def nested(levels: int) -> object:
    """Return lists inside each other, `levels` of them."""
    value: object = "core"
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_is_limited() -> None:
    """A deeper request would make other decoders fail."""
    check(request(extra=nested(MAX_DEPTH - 1)), DEFAULTS)
    assert f"deeper than {MAX_DEPTH}" in refusal(request(extra=nested(MAX_DEPTH))).problem
    with pytest.raises(InvalidParamsError, match=f"deeper than {MAX_DEPTH}"):
        check(request(extra=nested(50_000)), DEFAULTS)
    with pytest.raises(InvalidParamsError, match=f"deeper than {MAX_DEPTH}"):
        check(b'{"messages":' + b"[" * 50_000, DEFAULTS)


def test_many_brackets_are_not_depth() -> None:
    """Code in a text has many brackets, and many messages are many objects: neither is deep."""
    check(request(messages=[{"role": "user", "content": "{[" * 1000}] * 200), DEFAULTS)
