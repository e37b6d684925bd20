"""Payloads: any bytes are a job that fits the store's columns, or a PayloadError."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import InvalidParamsError, PayloadError
from nightmill.params import Defaults
from nightmill.params.request import recheck
from nightmill.queue import keys, wire
from nightmill.records.bounds import MAX_DATE_MS, MAX_INT, MAX_NAME_BYTES, MAX_RUN, MIN_DATE_MS
from nightmill.records.job import Job

NOW = 1_795_358_616_000
DEFAULTS = Defaults(model="m", max_tokens=64, max_payload_bytes=1 << 20)
HELLO = b'{"messages":[{"role":"user","content":"hello"}]}'
LONG = "x" * MAX_NAME_BYTES


def payload(et: object = NOW, **k: object) -> bytes:
    """Return a payload with these keys beside its params."""
    job = {"params": json.loads(HELLO), **k}
    envelope = {"t": None, "f": "generate", "a": [], "k": job, "et": et}
    return json.dumps(envelope).encode()


def require_storable(job: Job, enqueued_at: int) -> None:
    """Check that every field fits its column of the results table."""
    assert MIN_DATE_MS <= enqueued_at <= MAX_DATE_MS
    assert 0 <= job.run <= MAX_RUN
    for number in (job.seq, job.expires_at):
        assert number is None or -MAX_INT - 1 <= number <= MAX_INT
    for name in (job.batch, job.custom_id):
        assert name is None or len(name.encode()) <= MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", 1 << 63),
        ("seq", -(1 << 63) - 1),
        ("seq", 10**400),
        ("run", 1 << 63),
        ("run", 1 << 31),
        ("run", -1),
        ("et", 1 << 63),
        ("et", MAX_DATE_MS + 1),
        ("et", MIN_DATE_MS - 1),
        ("et", 10**17),
        ("expires_at", 1 << 63),
        ("custom_id", LONG + "x"),
        ("batch", "é" * 257),
        ("custom_id", "\ud800"),
        ("batch", "a\udfff"),
        ("custom_id", 7),
    ],
)
def test_a_value_that_no_store_can_hold_is_a_payload_error(field: str, value: object) -> None:
    """Such a value would raise in the commit of a whole group, and its neighbours be paid twice."""
    with pytest.raises(PayloadError, match="not a nightmill job"):
        wire.decode_job(payload(**{field: value}))


def test_the_largest_values_pass() -> None:
    """The bounds are the stores' own."""
    job, enqueued_at = wire.decode_job(
        payload(et=MAX_DATE_MS, seq=MAX_INT, run=MAX_RUN, expires_at=MAX_INT, custom_id=LONG)
    )
    assert (job.seq, job.run, enqueued_at) == (MAX_INT, MAX_RUN, MAX_DATE_MS)


def test_an_id_may_be_long_only_where_batch_and_custom_id_make_it() -> None:
    """Batch, colon and custom_id are 1,025 bytes at most, which PostgreSQL can index."""
    job, _ = wire.decode_job(payload(batch=LONG, custom_id=LONG), f"{LONG}:{LONG}")
    assert job.batch == LONG
    wire.decode_job(payload(), LONG)
    for job_id in (LONG + "x", f"{LONG}:{LONG}"):
        with pytest.raises(PayloadError, match=r"its id: [\d,]+ bytes of UTF-8; allowed: 512"):
            wire.decode_job(payload(custom_id="a", batch="b"), job_id)


def test_a_job_survives_its_way_over_the_wire() -> None:
    """What a producer encodes is what a worker decodes."""
    job = Job(params=msgspec.Raw(HELLO), custom_id="é", batch="b", seq=3, expires_at=5, run=2)
    assert wire.decode_job(wire.encode_job(job, NOW), keys.job_id("b", "é")) == (job, NOW)


NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**17, 10**400]),
    st.floats(),
)
TEXTS = st.one_of(
    st.text(alphabet=st.characters(codec=None), max_size=20),
    st.sampled_from(["\ud800", "a\0b", "x" * 513, "é" * 300, ""]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.one_of(
    st.just({"messages": [{"role": "user", "content": "hello"}]}),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("model", "messages", "max_tokens", "system", "temperature"), VALUES
        ),
    ),
    VALUES,
)
JOBS = st.fixed_dictionaries(
    {"params": PARAMS},
    optional={
        **dict.fromkeys(("seq", "run", "expires_at"), NUMBERS | SCALARS),
        **dict.fromkeys(("custom_id", "batch"), TEXTS | SCALARS),
    },
)
ENVELOPES = st.fixed_dictionaries(
    {"f": st.just("generate") | SCALARS, "k": JOBS | VALUES, "et": NUMBERS | SCALARS},
    optional={"a": st.lists(PARAMS, max_size=2) | VALUES, "t": SCALARS, "more": VALUES},
)


@given(ENVELOPES | VALUES, TEXTS, st.booleans())
def test_any_json_is_a_job_that_can_be_stored_or_a_payload_error(
    envelope: Any,  # noqa: ANN401 - any JSON
    job_id: str,
    ascii_only: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    """No payload raises anything else, neither here nor in the check of its request."""
    data = json.dumps(envelope, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    require_decodes(data, job_id)


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda b: b'{"k":{"params":' + b))
def test_any_bytes_are_a_job_or_a_payload_error(data: bytes) -> None:
    """Other programs may write anything under a job's key."""
    require_decodes(data, "id")


@given(st.data())
def test_a_damaged_payload_is_a_job_or_a_payload_error(data: st.DataObject) -> None:
    """One byte of a good payload is replaced, or its end is cut off."""
    whole = bytearray(payload(batch="b", custom_id="é", seq=3, expires_at=5, run=2))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    require_decodes(bytes(whole[: data.draw(st.integers(0, len(whole)))]), "b:é")


def require_decodes(data: bytes, job_id: str) -> None:
    """Check that `data` is a storable job with a good or refused request, or a PayloadError."""
    try:
        job, enqueued_at = wire.decode_job(data, job_id)
    except PayloadError:
        return
    require_storable(job, enqueued_at)
    try:
        body = recheck(bytes(job.params), DEFAULTS)
    except InvalidParamsError:
        return
    msgspec.json.decode(body)


@given(st.binary(max_size=60) | ENVELOPES.map(lambda value: json.dumps(value).encode()))
def test_load_returns_a_dict_or_raises_a_payload_error(data: bytes) -> None:
    """Arq calls it with whatever is under a key."""
    try:
        assert isinstance(wire.load(data), dict)
    except PayloadError:
        return
