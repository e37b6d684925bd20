"""The decoder of server-sent events, fed with chunks that are cut anywhere."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.sse import Decoder, Event

LINE_ENDS = ("\n", "\r", "\r\n")
texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)


def decode(*chunks: bytes) -> list[Event]:
    """Return the events of a whole stream that arrives in `chunks`."""
    decoder = Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.finish()


@given(
    events=st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=4),
    end=st.sampled_from(LINE_ENDS),
    bom=st.sampled_from(["", "\ufeff"]),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_a_stream_cut_anywhere_gives_the_same_events(
    events: list[tuple[str, list[str]]], end: str, bom: str, cuts: list[int]
) -> None:
    """A chunk may end inside a line end, a character or the BOM."""
    lines = [f"{bom}: hello"]
    for name, data in events:
        lines += [f"event: {name}", *(f"data: {line}" for line in data), ""]
    stream = end.join([*lines, ""]).encode()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    expected = [
        Event(name=name or "message", data="\n".join(data).encode()) for name, data in events
    ]
    assert decode(*chunks) == expected
    assert decode(*(bytes([byte]) for byte in stream)) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [("message", b"a")]),
        (b"event: x\ndata:a\ndata:  b\n\n", [("x", b"a\n b")]),
        (b"event: x\n\n", []),
        (b"event: x\n\ndata: a\n\n", [("message", b"a")]),
        (b"data\n\n", [("message", b"")]),
        (b"id: 1\nretry: 5\nnonsense\n: data: no\ndata: a\n\n", [("message", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
        (b"data: a\n\n\n\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a", [("message", b"a")]),
        (b"data: a\n", [("message", b"a")]),
        (b"data: a\r", [("message", b"a")]),
        (b"data: \x0b\x0c\xc2\x85\n\n", [("message", b"\x0b\x0c\xc2\x85")]),
        (b"", []),
    ],
)
def test_lines_mean_what_the_standard_says(
    stream: bytes, expected: list[tuple[str, bytes]]
) -> None:
    """One row for each rule of the event stream format that an endpoint may use."""
    assert [(event.name, event.data) for event in decode(stream)] == expected


def test_an_event_is_returned_as_soon_as_its_blank_line_came() -> None:
    """A CR may be half of a CRLF. Waiting for the LF would delay the last event."""
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == [Event(name="message", data=b"a")]
    assert decoder.feed(b"\ndata: b\n\n") == [Event(name="message", data=b"b")]


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """A quadratic decoder would copy 5 GB here."""
    decoder = Decoder()
    start = time.process_time()
    for _ in range(100_000):
        decoder.feed(b"x")
    assert decoder.finish() == []
    assert time.process_time() - start < 2
