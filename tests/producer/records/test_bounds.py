"""Names are bounded where they enter: 512 bytes of UTF-8, without NUL and lone surrogates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from nightmill import InvalidParamsError, Producer, load_settings
from nightmill.enqueue.prepare import check_batch_name, defaults_of, prepare
from nightmill.errors import InvalidLimitError
from nightmill.records.bounds import (
    MAX_DATE_MS,
    MAX_NAME_BYTES,
    MIN_DATE_MS,
    date_of,
    require_name,
)
from nightmill.records.limits import Change, Limits
from nightmill.sources import Line, Rejected, Row, Template, line_of

HELLO: Final[dict[str, object]] = {"messages": [{"role": "user", "content": "hello"}]}
DEFAULTS: Final = defaults_of(load_settings())
LONGEST: Final = ("x" * MAX_NAME_BYTES, "é" * (MAX_NAME_BYTES // 2), "字" * (MAX_NAME_BYTES // 3))
TOO_LONG: Final = ("x" * (MAX_NAME_BYTES + 1), "é" * 257, "\N{GRINNING FACE}" * 129, "x" * 6000)


@pytest.mark.parametrize("name", LONGEST)
def test_a_name_of_512_bytes_passes(name: str) -> None:
    """The bound is in bytes of UTF-8, as the stores count."""
    require_name("job_id", name)
    ready = prepare(HELLO, DEFAULTS, 0, batch=name, custom_id=name)
    assert ready.job_id == f"{name}:{name}"


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("field", ["job_id", "custom_id", "batch"])
def test_a_longer_name_is_refused(field: str, name: str) -> None:
    """PostgreSQL cannot index such a row, and its worker would die of it at every start."""
    with pytest.raises(InvalidParamsError) as caught:
        prepare(HELLO, DEFAULTS, 0, **{field: name})  # type: ignore[arg-type]
    error = caught.value
    assert error.field == field
    assert f"{len(name.encode()):,} bytes of UTF-8; allowed: 512" in error.problem
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a\0b", "NUL at character 1; remove it"),
        ("ab\ud83d", "lone surrogate '\\ud83d' at character 2; remove it"),
    ],
)
@pytest.mark.parametrize("field", ["job_id", "custom_id", "batch"])
def test_a_name_that_no_store_can_hold_is_refused(field: str, name: str, problem: str) -> None:
    """PostgreSQL stores no NUL, and a lone surrogate cannot be encoded."""
    with pytest.raises(InvalidParamsError) as caught:
        prepare(HELLO, DEFAULTS, 0, **{field: name})  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.problem) == (field, problem)


def test_an_id_of_a_source_is_bounded_too() -> None:
    """256 characters may be 1,024 bytes."""
    for template in (None, Template(id="custom_id")):
        for custom_id, kind in (("字" * 170, Line), ("字" * 171, Rejected)):
            row = Row(number=1, columns={"custom_id": custom_id, "prompt": "Hi"})
            assert isinstance(line_of(row, DEFAULTS, template), kind)


async def test_every_way_into_the_queue_refuses_a_long_name(redis_url: str) -> None:
    """Nothing of the call is enqueued."""
    name = "x" * 513
    async with Producer(redis_url) as producer:
        with pytest.raises(InvalidParamsError, match="job_id: given"):
            await producer.enqueue(HELLO, job_id=name)
        with pytest.raises(InvalidParamsError, match="line 1: custom_id: given"):
            await producer.enqueue_many([{"custom_id": name, **HELLO}], batch="b")
        with pytest.raises(InvalidParamsError, match="line 1: custom_id: given"):
            await producer.feed([{"custom_id": name, **HELLO}], batch="b")
        for send in (producer.enqueue_many, producer.feed):
            with pytest.raises(InvalidParamsError, match="batch: given 'xxx"):
                await send([HELLO], batch=name)
        assert await producer._redis.keys("arq:*") == []


def test_the_batch_of_a_command_is_bounded() -> None:
    """`--batch` goes through the same check."""
    with pytest.raises(InvalidParamsError, match=r"batch: given 'x+"):
        check_batch_name("x" * 513)


@pytest.mark.parametrize("epoch_ms", [None, 0, 10**17, -(10**17), MAX_DATE_MS + 1])
def test_a_time_that_is_not_a_date_is_not_known(epoch_ms: int | None) -> None:
    """A row of an earlier version may have any number."""
    assert date_of(epoch_ms) is None


def test_the_first_and_the_last_date() -> None:
    """The years 1 to 9999 are dates."""
    assert date_of(MIN_DATE_MS) == datetime(1, 1, 1, tzinfo=UTC)
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert date_of(MAX_DATE_MS) == last


@pytest.mark.parametrize(
    ("limit", "value", "problem"),
    [
        ("concurrency", 1 << 63, "concurrency: 9223372036854775807 at most"),
        ("budget_tokens", 0, "budget_tokens: 1 at least, not 0"),
        ("expires_at", 10**17, "expires: a date up to the year 9999"),
    ],
)
def test_a_limit_is_a_number_that_every_program_can_read(
    limit: str, value: int, problem: str
) -> None:
    """Limits are stored in Redis and printed as dates and integers."""
    with pytest.raises(InvalidLimitError, match=problem):
        Limits(**{limit: value})  # type: ignore[arg-type]


def test_a_deadline_after_the_year_9999_is_refused() -> None:
    """`--expires 9999999d` is a mistake."""
    with pytest.raises(InvalidLimitError, match="expires: a time before the year 10000"):
        Change(expires_s=1e13).over(Limits(), now_ms=0, prices=None)
