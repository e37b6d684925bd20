"""JSON that is not strictly JSON, and what it is repaired to."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.repair import MAX_BYTES, repaired, without_marks

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'\xef\xbb\xbf {"a": 1}\n', b'{"a": 1}'),
        (b'{"a": NaN, "b": [Infinity, -Infinity, nan, -1]}',
         b'{"a": null, "b": [null, null, null, -1]}'),
        (rb'{"NaN": "NaN -Infinity null"}', rb'{"NaN": "NaN -Infinity null"}'),
        (rb'"cut \ud83d"', rb'"cut \ufffd"'),
        (rb'"\ude00 x \ud83d\ude00 \uD83D\u0041"', rb'"\ufffd x \ud83d\ude00 \ufffd\u0041"'),
        (rb'"\\ud83d \\\ud83d"', rb'"\\ud83d \\\ufffd"'),
        (rb'"\"\ud83d\" NaN"', rb'"\"\ufffd\" NaN"'),
        (b'"a\xffb\xc3\xa9"', '"a\ufffdbé"'.encode()),
        (b'"a\nb\x00c\t"\n', rb'"a\u000ab\u0000c\u0009"'),
        (rb'"C:\dir \x41 \u12"', rb'"C:\\dir \\x41 \\u12"'),
        (b'{"a":\n [1,\t2]}', b'{"a":\n [1,\t2]}'),
        (rb'{"a": "cut \ud83d', rb'{"a": "cut \ufffd'),
        (b'{"a": "cut \\', b'{"a": "cut \\\\'),
        (b"", b""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_repaired_and_all_else_stays(text: bytes, expected: bytes) -> None:
    """The meaning of each of these is clear; what is not in a string stays as it is."""
    assert repaired(text) == expected
    assert repaired(expected) == expected


@given(value=VALUES)
def test_valid_json_stays_as_it_is(value: object) -> None:
    """A repair must never change a text that needs none."""
    text = msgspec.json.encode(value)
    assert repaired(text) == text
    assert msgspec.json.decode(repaired(msgspec.json.format(text))) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([rb"\ud83d", rb"\ude00"], "\U0001f600"),
        ([rb"\ud83d", "x", rb"\ude00"], "\ufffdx\ufffd"),
        ([rb"\ude00", rb"\ud83d"], "\ufffd\ufffd"),
        ([rb"\u0000", rb"\ud83d\ude00"], "\0\U0001f600"),
    ],
)
def test_halves_of_a_pair_in_two_texts_are_joined(pieces: list[bytes], expected: str) -> None:
    """Servers that count in UTF-16 cut an emoji into two deltas."""
    marked = [repaired(b'"%b"' % piece, mark_halves=True)[1:-1] for piece in map(_bytes, pieces)]
    joined = without_marks(b'"%b"' % b"".join(marked))
    assert msgspec.json.decode(joined) == expected


def _bytes(piece: bytes | str) -> bytes:
    return piece if isinstance(piece, bytes) else piece.encode()


@pytest.mark.parametrize(
    "piece", [b'"', b'\\"', b'"a', b"\\", b"NaN,", rb"\ud83d", b'"\n"', b"-", b"n", b'"\\']
)
def test_a_repair_takes_linear_time(piece: bytes) -> None:
    """A text from outside must not stop the event loop, whatever is wrong with it."""
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    repaired(text)
    repaired(b'"' + text)
    assert time.process_time() - start < 2


def test_a_very_large_text_is_not_repaired() -> None:
    """It would take too long."""
    text = b"NaN" + b" " * MAX_BYTES
    assert repaired(text) is text
