"""Decompression of bodies, cut anywhere, in bounded steps."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.inflate import STEP, Inflater
from nightmill_worker.messages.outcome import AnswerError

TEXT = b"hello " * 1000
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(TEXT) + RAW.flush()
BODIES = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:]),
    " GZip ": gzip.compress(TEXT) + b"\0" * 20,
    "deflate": zlib.compress(TEXT),
    "Deflate": DEFLATED,
}


def inflated(encoding: str, *chunks: bytes) -> bytes:
    """Decompress a body that arrives in `chunks`."""
    inflater = Inflater.of(encoding)
    assert inflater is not None
    found = b"".join(piece for chunk in chunks for piece in inflater.pieces(chunk))
    inflater.finish()
    return found


@given(encoding=st.sampled_from(list(BODIES)), cuts=st.lists(st.integers(0, 100), max_size=9))
def test_a_body_cut_anywhere_is_decompressed(encoding: str, cuts: list[int]) -> None:
    """Gzip with several members or padding, and deflate with or without its header."""
    body = BODIES[encoding]
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert inflated(encoding, *(body[a:b] for a, b in pairwise(edges))) == TEXT
    assert inflated(encoding, *(bytes([byte]) for byte in body)) == TEXT


@pytest.mark.parametrize("encoding", [None, "", "identity", "br", "utf-8"])
def test_other_encodings_are_left_as_they_are(encoding: str | None) -> None:
    """They were not asked for, so the header is wrong or the body cannot be read anyway."""
    assert Inflater.of(encoding) is None


def test_a_body_that_is_not_compressed_is_left_as_it_is() -> None:
    """Some proxies decompress the body and leave the header."""
    assert inflated("gzip", b'{"a"', b": 1}") == b'{"a": 1}'


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "Deflate"])
def test_a_cut_body_is_an_error(encoding: str) -> None:
    """Its text would be incomplete."""
    for end in (1, 5, len(BODIES[encoding]) - 1):
        with pytest.raises(AnswerError) as caught:
            inflated(encoding, BODIES[encoding][:end])
        assert caught.value.kind == "truncated_response"


def test_a_broken_body_is_an_error() -> None:
    """A bit was flipped on the way."""
    body = bytearray(BODIES["gzip"])
    body[-6] ^= 1  # the checksum
    with pytest.raises(AnswerError) as caught:
        inflated("gzip", bytes(body))
    assert caught.value.kind == "truncated_response"


def test_a_step_is_bounded() -> None:
    """A hundred megabytes in one piece would be in memory at once."""
    inflater = Inflater.of("gzip")
    assert inflater is not None
    sizes = [len(piece) for piece in inflater.pieces(gzip.compress(bytes(10 << 20)))]
    assert max(sizes) == STEP
    assert sum(sizes) == 10 << 20


def test_members_are_bounded() -> None:
    """Empty members cost CPU time and add nothing to the size of the body."""
    with pytest.raises(AnswerError) as caught:
        inflated("gzip", gzip.compress(b"") * 2000)
    assert caught.value.kind == "response_too_large"
