"""The morning's questions: what failed and why, the story of one job, and what may be deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.records.result import Attempt, ErrorInfo
from nightmill.records.state import JobState
from nightmill.reports.failures import failures
from nightmill.reports.job_history import tell
from nightmill.store import ResultStore
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
    """Return a failure."""
    error = ErrorInfo(type=kind, message=message)
    return numbered(seq, status=JobState.FAILED, error=error, message=None)


async def test_failures_that_differ_in_numbers_only_are_one(store: ResultStore) -> None:
    """10,000 different request ids are one reason."""
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
    """The best morning."""
    await store.record([SUCCEEDED])
    assert await failures(store, "night") == []


def test_the_story_tells_every_call_and_wait() -> None:
    """`nightmill show` is read by people."""
    story = "\n".join(tell(SUCCEEDED))
    for part in (
        "night:line-7: succeeded",
        "counted attempts: 1, not counted: 1 (1 rate_limit_error)",
        "1. 1970-01-01 00:00:02 snoozed HTTP 429",
        "waited 1.0 s",
        "2. 1970-01-01 00:00:03 succeeded HTTP 200",
        "[req_2]",
        "11 in + 22 out tokens, cache 33 read + 44 written, $0.000625",
    ):
        assert part in story
    assert "to fix it: give at least 1" in "\n".join(tell(FAILED))


def test_the_story_says_when_calls_are_left_out() -> None:
    """A row keeps the first and last calls only."""
    calls = (Attempt(n=1, started_at=1, outcome="snoozed"),)
    story = tell(msgspec.structs.replace(SUCCEEDED, attempts=calls, snooze_count=40))
    assert "  40 calls in between are not kept" in story


async def test_prune_deletes_by_batch_and_by_age(store: ResultStore) -> None:
    """Old nights make room; nothing else goes."""
    rows = [numbered(n, finished_at=n) for n in range(1, 101)]
    await store.record([*rows, numbered(1, batch="day", finished_at=1)])
    assert await store.prune("night", before_ms=51) == 50
    assert await store.prune(before_ms=2) == 1
    assert await store.prune("night") == 50
    assert await store.batches() == {}


async def test_lost_calls_are_counted_with_what_they_cost(store: ResultStore) -> None:
    """What crashes wasted is known."""
    lost = (
        Attempt(n=1, started_at=1, outcome="lost", counted=False),
        Attempt(n=2, started_at=2, outcome="succeeded"),
    )
    await store.record([numbered(1, attempts=lost, cost=0.5), numbered(2), FAILED])
    assert await store.lost("night") == (1, 0.5)
