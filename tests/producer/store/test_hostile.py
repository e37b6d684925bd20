"""Hostile rows in both databases, and the pure functions that bring them into range."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nightmill.records.bounds import MAX_DATE_MS, MAX_INT
from nightmill.records.result import COUNTS, Attempt, ErrorInfo, Result, Usage
from nightmill.records.state import TERMINAL
from nightmill.store.bounds import MAX_BATCH_BYTES, MAX_COUNT, MAX_JOB_ID_BYTES
from nightmill.store.reduced import reduced
from nightmill.store.rows import from_row, to_row
from nightmill.store.schema import RESULTS
from tests.producer.store.databases import OnPostgreSQL, OnSQLite
from tests.producer.store.hostile_conformance import HostileConformance


class TestSQLite(OnSQLite, HostileConformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, HostileConformance):
    """The store of many machines."""


texts = st.text(st.characters(categories=None), max_size=20)  # lone surrogates and NUL included
numbers = st.integers()
raws = st.binary(max_size=50).map(msgspec.Raw)
kinds = {
    str: texts,
    int: numbers,
    Usage: st.builds(Usage, **dict.fromkeys(COUNTS, numbers), billed_as=texts),
    ErrorInfo: st.builds(ErrorInfo, type=texts, message=texts, fix=st.none() | texts),
}
attempts = st.builds(
    Attempt, n=numbers, started_at=numbers, outcome=texts, duration_ms=numbers, worker=texts
)
any_result = st.builds(
    Result,
    job_id=texts,
    status=st.sampled_from(sorted(TERMINAL)),
    run=numbers,
    batch=st.none() | texts,
    custom_id=st.none() | texts,
    seq=st.none() | numbers,
    params=st.none() | raws,
    message=st.none() | raws,
    error=st.none() | kinds[ErrorInfo],
    attempts=st.lists(attempts, max_size=3).map(tuple),
    attempt_count=numbers,
    snooze_reasons=st.dictionaries(texts, numbers, max_size=2),
    usage=kinds[Usage],
    cost=st.none() | st.floats(),
    enqueued_at=numbers,
    started_at=st.none() | numbers,
    finished_at=numbers,
    queue_ms=st.none() | numbers,
    lane=st.none() | texts,
)


def require_storable(row: dict[str, Any]) -> None:
    """Assert that both databases can hold every value of `row`."""
    for name, value in row.items():
        kind = RESULTS[name].split()[0]
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()
        if isinstance(value, int):
            most = MAX_COUNT if kind == "INTEGER" else MAX_INT
            assert -most - 1 <= value <= most
        if name.endswith("_at") and value is not None:
            assert 0 <= value <= MAX_DATE_MS
    assert len(row["job_id"].encode()) <= MAX_JOB_ID_BYTES
    assert len(row["batch"].encode()) <= MAX_BATCH_BYTES


@given(any_result)
def test_every_result_becomes_a_row_that_both_databases_hold(result: Result) -> None:
    """A value that cannot be stored must not cost its row, and never its neighbours."""
    row = to_row(result)
    require_storable(row)
    assert to_row(from_row(row)) == row  # and a spool can hold it
    assert msgspec.json.decode(msgspec.json.encode(row)) == row


@given(any_result, texts)
def test_every_result_can_be_reduced(result: Result, problem: str) -> None:
    """The reduced row is for values that nobody has thought of."""
    row = to_row(reduced(result, problem))
    require_storable(row)
    assert from_row(row).status is result.status
