"""Groups of failures, and what the store deletes and counts for `prune` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.records.result import Attempt, ErrorInfo
from nightmill.records.state import JobState
from nightmill.reports.failures import MOST, REST, failures
from nightmill.store import ResultStore, endings
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.records.result import Result


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a new store."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        yield opened


def failed(seq: int, kind: str, message: str) -> Result:
    """Return the row of a failed job."""
    error = ErrorInfo(type=kind, message=message)
    return numbered(seq, status=JobState.FAILED, error=error, message=None)


async def test_failures_that_differ_only_in_numbers_are_one_group(store: ResultStore) -> None:
    """Request ids and counts in the message do not make another group."""
    await store.record(
        [
            *(
                failed(n, "overloaded_error", f"busy [req_{n:x}a] (after 5 attempts)")
                for n in (1, 2)
            ),
            failed(3, "overloaded_error", "busy [req_ff] (after 5 attempts)"),
            failed(4, "invalid_request_error", "prompt is too long: 210000 tokens"),
            SUCCEEDED,
        ]
    )
    first, second = await failures(store, "night")
    assert (first.type, first.count, first.example) == ("overloaded_error", 3, "night:line-1")
    assert first.command == "nightmill retry night --error overloaded_error"
    assert second.count == 1
    assert second.command == (
        "nightmill retry night --error invalid_request_error --set FIELD=VALUE"
    )


async def test_a_batch_without_failures_has_none(store: ResultStore) -> None:
    """The list is empty."""
    await store.record([SUCCEEDED])
    assert await failures(store, "night") == []


async def test_prune_deletes_by_batch_and_by_age(store: ResultStore) -> None:
    """Only rows of the batch, or older rows, are deleted."""
    rows = [numbered(n, finished_at=n) for n in range(1, 101)]
    await store.record([*rows, numbered(1, batch="day", finished_at=1)])
    assert await store.prune("night", before_ms=51) == 50
    assert await store.prune(before_ms=2) == 1
    assert await store.prune("night") == 50
    assert await store.batches() == {}


async def test_lost_calls_are_counted_with_what_they_cost(store: ResultStore) -> None:
    """`verify` shows calls whose worker died, and their cost."""
    lost = (
        Attempt(n=1, started_at=1, outcome="lost", counted=False),
        Attempt(n=2, started_at=2, outcome="succeeded"),
    )
    await store.record([numbered(1, attempts=lost, cost=0.5), numbered(2), FAILED])
    assert await store.lost("night") == (1, 0.5)


async def test_very_many_different_errors_are_a_bounded_number_of_groups(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All different texts were read at once: a million of them took all memory."""
    monkeypatch.setattr(endings, "DIFFERENT", 50)
    words = [
        "".join("abcdefghij"[int(digit)] for digit in str(number)) for number in range(MOST + 200)
    ]
    rows = [failed(number, "hostile", f"no {word}") for number, word in enumerate(words, 1)]
    await store.record([*rows, failed(9_001, "late_error", "x"), failed(9_002, "late_error", "y")])
    found = await failures(store, "night")
    assert sum(each.count for each in found) == len(words) + 2
    assert len(found) == MOST + 2
    assert (found[0].type, found[0].count) == ("hostile", 200)
    assert found[0].message.startswith(REST)
    assert (found[1].type, found[1].count) == ("late_error", 2)
