"""Whatever an endpoint answers, the client returns a value and the classifier an outcome."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import TypeAlias

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nightmill.records.result import COUNTS, Usage
from nightmill_worker.messages.accumulate import STRICT
from nightmill_worker.messages.body import BodyBuilder
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.inflate import Inflater
from nightmill_worker.messages.limits import AnswerLimits
from nightmill_worker.messages.message import MAX_INT
from nightmill_worker.messages.outcome import (
    SUCCESS,
    AnswerError,
    Broken,
    Fail,
    Outcome,
    Reply,
    Succeeded,
)
from tests.worker.messages.endpoint import answering, sent
from tests.worker.messages.test_client_odd import MESSAGE, STREAM

Headers: TypeAlias = dict[str, str]
CutList: TypeAlias = list[tuple[int, bytes]]

LIMITS = AnswerLimits(response_bytes=1 << 20, event_bytes=1 << 16, events=1000, blocks=20)
ODD: st.SearchStrategy[object] = (
    st.sampled_from([None, True, -1, 1 << 63, 10**30, 1.5])
    | st.sampled_from(["", "5", "\ud83d", "\0", "end_turn", "text_delta"])
    | st.just([])
    | st.just({})
)
VALUES = st.recursive(
    ODD | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ("type", "id", "model", "content", "stop_reason", "error", "index", "content_block")
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(KEYS, VALUES)
    | {
        "usage": VALUES | st.dictionaries(st.sampled_from(Usage.__struct_fields__), VALUES),
        "delta": st.dictionaries(st.sampled_from(["type", "text", "stop_reason"]), VALUES),
        "message": st.just(json.loads(MESSAGE)) | VALUES,
    },
)
NAMES = st.sampled_from([*sorted(STRICT), "error", "ping", "news", ""])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["request-id", "retry-after", "retry-after-ms", "date", "x-should-retry", "content-type"]
    ),
    TEXTS | st.sampled_from(["nan", "-1", "1e999", "true", "Mon, 01 Jan 99999999 00:00:00 GMT"]),
)
EPOCHS = st.floats(0, 4e9)


def as_json(fields: object) -> bytes:
    """Return JSON as a careless server writes it: with NaN and halves of surrogate pairs."""
    return json.dumps(fields, ensure_ascii=True).encode()


def changed(body: bytes, cuts: list[tuple[int, bytes]]) -> bytes:
    """Return `body` with bytes put in, or cut off, in some places."""
    for place, piece in cuts:
        at = place % (len(body) + 1)
        body = body[:at] + piece + body[at + len(piece) :]
    return body


CUTS = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), max_size=4)
BODIES = (
    st.binary(max_size=100)
    | st.builds(as_json, FIELDS)
    | st.builds(lambda fields: as_json({**json.loads(MESSAGE), **fields}), FIELDS)
    | st.builds(changed, st.just(MESSAGE), CUTS)
)
EVENTS = st.builds(
    lambda name, fields: b"event: %b\ndata: %b\n\n" % (name.encode(), as_json(fields)),
    NAMES,
    st.builds(lambda name, fields: {"type": name, **fields}, NAMES, FIELDS) | VALUES,
)
STREAMS = st.builds(changed, st.just(STREAM), CUTS) | st.builds(
    lambda events, end: b"".join(events) + end,
    st.lists(EVENTS, max_size=8),
    st.sampled_from([b"", STREAM]),
)


def require_storable(outcome: Outcome) -> None:
    """Check that every part of an outcome fits into a row."""
    encoded = msgspec.json.encode(outcome)  # fails for half of a surrogate pair
    assert b"\\u0000" not in encoded.replace(b"\\\\u0000", b"") or isinstance(outcome, Succeeded)
    if isinstance(outcome, Succeeded):
        counts = [getattr(outcome.usage, name) for name in COUNTS]
        assert all(0 <= count <= MAX_INT for count in counts)
        assert "\0" not in f"{outcome.model}{outcome.stop_reason}{outcome.request_id}"
        fields = msgspec.json.decode(outcome.message, type=dict[str, msgspec.Raw])
        assert bytes(fields["content"]).startswith(b"[")
        assert not set(b"\r\n") & set(outcome.message)
        return
    assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 900
    assert len(outcome.partial.encode()) <= 64 << 10
    if not (isinstance(outcome, Fail) and outcome.raw):
        assert outcome.error.type != "internal_error", outcome


@given(status=st.integers(100, 999), headers=HEADERS, body=BODIES, now=EPOCHS)
@settings(max_examples=400)
def test_any_answer_is_an_outcome(status: int, headers: Headers, body: bytes, now: float) -> None:
    """No status, header or body raises, and none is taken for a defect of this program."""
    outcome = classify(Reply(status=status, headers=headers, body=body), now)
    require_storable(outcome)
    if status not in SUCCESS:
        assert not isinstance(outcome, Succeeded)


@given(body=STREAMS | BODIES, cuts=st.lists(st.integers(0, 2000), max_size=6), headers=HEADERS)
@settings(max_examples=400)
def test_any_body_cut_anywhere_is_an_outcome(
    body: bytes, cuts: list[int], headers: Headers
) -> None:
    """Only AnswerError leaves the builder, and what it has then can be kept."""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    builder = BodyBuilder(LIMITS, headers.get("content-type", "text/event-stream"))
    reply: Reply | Broken
    try:
        for a, b in pairwise(edges):
            builder.feed(body[a:b])
        reply = Reply(status=200, headers=headers, body=builder.body())
    except AnswerError as error:
        partial = builder.partial()
        rescued = builder.rescued()
        assert rescued is None or isinstance(rescued, bytes)
        reply = Broken(kind=error.kind, detail=str(error), status=200, partial=partial)
    require_storable(classify(reply, 0.0))


@given(body=STREAMS, cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_where_a_stream_is_cut_into_chunks_does_not_matter(body: bytes, cuts: list[int]) -> None:
    """The network decides it."""

    def built(*edges: int) -> bytes | str:
        builder = BodyBuilder(LIMITS, "text/event-stream")
        try:
            for a, b in pairwise([0, *edges, len(body)]):
                builder.feed(body[a:b])
            return builder.body()
        except AnswerError as error:
            return error.kind

    assert built() == built(*sorted(min(cut, len(body)) for cut in cuts))


@given(data=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate"]), cuts=CUTS)
def test_any_compressed_body_is_read_or_broken(data: bytes, encoding: str, cuts: CutList) -> None:
    """Only AnswerError leaves the inflater."""
    inflater = Inflater.of(encoding)
    assert inflater is not None
    try:
        for chunk in (changed(gzip.compress(data), cuts), data):
            assert all(inflater.pieces(chunk))
        inflater.finish()
    except AnswerError as error:
        assert str(error)  # noqa: PT017 - an error is one of the two right results


WIRE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_\xe9\r\n\r\n" + STREAM
)


async def test_any_bytes_of_a_server_are_a_value() -> None:
    """HTTP itself is broken here: the client returns a value, and no defect is met."""
    generated = []

    @given(cuts=CUTS)
    @settings(max_examples=60, database=None)
    def generate(cuts: CutList) -> None:
        generated.append(changed(WIRE, cuts))

    generate()
    for script in generated:
        async with answering(script) as url:
            outcome = classify(await sent(url, read_timeout_s=5), 0.0)
        require_storable(outcome)
