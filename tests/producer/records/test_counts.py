"""Counts are read from any content of a batch's hash."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.records.counts import LARGEST, Counts, read_counts
from nightmill.records.limits import Limits
from nightmill.reports.view import View

FIELDS = (
    *("in_flight", "retrying", "snoozed", "succeeded", "failed", "cancelled", "expired"),
    *("input_tokens", "output_tokens", "nanodollars", "unpriced", "metered_ms", "used_ms"),
    *("total", "flag", "reason", "limits", "webhook", "created_at"),
)
ODD = st.one_of(
    st.binary(max_size=30),
    st.integers().map(lambda number: str(number).encode()),
    st.floats().map(lambda number: str(number).encode()),
    st.sampled_from([b"9" * 5000, b"-" + b"9" * 30, b"nan", b"inf", b"1e400", b"\xff", b"", b"{}"]),
    st.dictionaries(
        st.sampled_from([*Limits.__struct_fields__, "more"]),
        st.integers() | st.floats() | st.text(max_size=5) | st.none(),
    ).map(msgspec.json.encode),
)


@given(
    st.dictionaries(st.sampled_from(FIELDS).map(str.encode) | st.binary(max_size=9), ODD),
    st.integers(0, 1 << 62),
)
def test_any_hash_gives_counts(fields: dict[bytes, bytes], size: int) -> None:
    """One odd value must not keep `status` from showing all batches."""
    flat = [part for pair in fields.items() for part in pair]
    counts = read_counts(size, 1, flat)
    assert all(-LARGEST <= getattr(counts, name) <= LARGEST for name in FIELDS[:13])
    view = View(counts={"b": counts, "": counts}, only=None)
    assert msgspec.json.decode(view.to_json())
    assert counts.accepted == size + counts.terminal


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"7", 7),
        (b"-1", -1),
        (b"7.9", 7),
        (b"1e3", 1000),
        (b"9" * 400, LARGEST),
        (b"-inf", -LARGEST),
        (b"nan", 0),
        (b"seven", 0),
        (b"\xff", 0),
        (b"", 0),
    ],
)
def test_a_value_that_is_not_a_number_counts_as_zero(raw: bytes, number: int) -> None:
    """Lua may write a float, and numbers beyond 2**53 are not exact there."""
    assert read_counts(0, 0, [b"failed", raw]).failed == number


def test_other_odd_values_count_as_missing() -> None:
    """A total that is not a number is not known; limits that cannot be read are none."""
    flat = [b"total", b"x", b"limits", b'{"weight":0}', b"reason", b"a\xff", b"flag", b"\xfe"]
    counts = read_counts(3, 0, flat)
    assert (counts.total, counts.limits, counts.reason) == (
        None,
        Limits(),
        "a\N{REPLACEMENT CHARACTER}",
    )
    assert counts.state == "paused"
    assert read_counts(0, 0, [b"limits", b'{"expires_at":100000000000000000}']).limits == Limits()
    assert Counts().limits == Limits()


def test_the_cost_is_in_dollars() -> None:
    """A service compared nano-dollars with its budget in dollars."""
    assert Counts(nanodollars=1_500_000_000).cost == 1.5
    assert Counts(nanodollars=1_500_000_000, unpriced=1).cost is None
    assert Counts().cost == 0


@pytest.mark.parametrize(
    ("size", "in_flight", "retrying", "found"),
    [(0, 4, 0, (0, 0, 0)), (0, -5, 0, (0, 0, 0)), (3, 2, 9, (0, 2, 1)), (3, -1, 1, (2, 0, 1))],
)
def test_states_add_up_to_the_jobs_that_are_there(
    size: int, in_flight: int, retrying: int, found: tuple[int, int, int]
) -> None:
    """A Redis that lost a batch's hash or queue: "-5 in flight", and a run that never ended."""
    flat = [b"in_flight", str(in_flight).encode(), b"retrying", str(retrying).encode()]
    counts = read_counts(size, 0, flat)
    assert (counts.queued, counts.in_flight, counts.retrying) == found
    assert counts.drained == (size == 0)
