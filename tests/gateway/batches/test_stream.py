"""A body that arrives in any pieces is read as one would read it whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import InvalidParamsError
from nightmill_gateway.batches import stream
from nightmill_gateway.batches.stream import RequestsReader

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def read(body: bytes, size: int) -> tuple[list[Any], dict[str, Any]]:
    """Return the requests and the other fields of a body that comes in pieces of `size` bytes."""
    reader = RequestsReader()
    found: list[Any] = []
    for place in range(0, len(body), size):
        found += reader.feed(body[place : place + size])
    found += reader.end()
    return found, reader.fields


@given(st.lists(values), values, st.integers(1, 30), st.sampled_from([None, 1, 4]), st.booleans())
def test_any_pieces_give_the_same_requests(
    requests: list[Any], other: object, size: int, indent: int | None, ascii_only: object
) -> None:
    """Where a network cuts a body must not change what is called."""
    whole = {"a": other, "requests": requests, "b": [other]}
    body = json.dumps(whole, indent=indent, ensure_ascii=bool(ascii_only)).encode(
        "utf-8", "surrogatepass"
    )
    try:
        body.decode()
    except UnicodeDecodeError:
        return  # lone surrogates as bytes are no UTF-8
    found, fields = read(body, size)
    assert found == requests
    assert fields == {"a": other, "b": [other]}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "ends too early"),
        (b"[]", "allowed: an object, the batch"),
        (b"x", "allowed: an object"),
        (b'{"requests":{}}', "requests: given {...; allowed: a list"),
        (b'{"requests":[1,2],"requests":[3]}', "requests: given twice"),
        (b'{"requests":[1', "ends too early"),
        (b'{"requests":[{"a":1]}', "not JSON"),
        (b'{"requests":[1 2]}', "given '2'"),
        (b'{"requests":[1,]}', "not JSON"),
        (b'{"requests":[nope]}', "not JSON"),
        (b'{"requests":[]} x', "given 'x'; allowed: nothing more"),
        (b'{"requests":[]}{', "allowed: nothing more"),
        (b'{"requests":["\xff"]}', "not UTF-8"),
        (b'{"requests":["\xe2', "not UTF-8"),
        (b"{1:2}", "allowed: a field's name"),
        (b'{"a" 1}', "given '1'"),
        (b'{"requests":[' + b"[" * 100_000, "nested too deep"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_no_batch_is_refused(body: bytes, problem: str, size: int) -> None:
    """A person reads the message, and no body ends the gateway."""
    with pytest.raises(InvalidParamsError) as caught:
        read(body, min(size, 1000) if len(body) > 1000 else size)
    assert problem in str(caught.value) or (size < 100 and len(body) > 1000)


def test_requests_come_as_soon_as_they_are_whole() -> None:
    """Only one request is in memory, not the whole body."""
    reader = RequestsReader()
    assert list(reader.feed(b'{"requests": [{"a": 1}, {"b"')) == [{"a": 1}]
    assert list(reader.feed(b": 2}")) == [{"b": 2}]
    assert list(reader.feed(b", 3")) == []
    assert list(reader.feed(b"4]}")) == [34]
    assert list(reader.end()) == []


def test_a_request_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the memory."""
    monkeypatch.setattr(stream, "MAX_REQUEST", 100)
    with pytest.raises(InvalidParamsError, match="one is over 100 characters"):
        read(b'{"requests":["' + b"x" * 200, 20)


def test_a_large_request_is_not_read_again_with_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB in pieces of 256 KB would be decoded 128 times."""
    monkeypatch.setattr(stream, "MAX_WHOLE", 10)
    calls = []

    def decode(text: str, place: int) -> tuple[object, int]:
        calls.append(place)
        return json.JSONDecoder().raw_decode(text, place)

    monkeypatch.setattr(stream, "_decode", decode)
    found, _ = read(b'{"requests":["' + b"x" * 10_000 + b'"]}', 10)
    assert found == ["x" * 10_000]
    assert len(calls) < 30
