"""Workers ask for jobs as often as they may get some."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import AsyncMock, Mock

import pytest

from nightmill_worker.completion.settler import Settler
from nightmill_worker.fleet.pauses import (
    CLAIM_GAP_S,
    FULL_LOOK_S,
    LONGEST_GAP_S,
    LOOK_S,
    Pauses,
)
from nightmill_worker.jobs.in_flight import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

RUN_S = 20.0
"""The length of a run in virtual seconds."""


def fleet(workers: int, rate: float) -> tuple[int, int]:
    """Return the claims and the jobs of workers with free slots that share a lane's tokens.

    The bucket is the pace's: one call and 0.05 s of tokens.
    """
    level, at, claims, jobs = 1.0, 0.0, 0, 0
    pauses = [Pauses() for _ in range(workers)]
    due = [0.001 * number for number in range(workers)]
    while min(due) < RUN_S:
        number = due.index(min(due))
        level, at = min(1 + 0.05 * rate, level + rate * (due[number] - at)), due[number]
        got = int(level)
        level, claims, jobs = level - got, claims + 1, jobs + got
        pause = pauses[number].after(
            (1 - level) / rate, full=False, got=got > 0, idle=False, woken=False
        )
        due[number] += max(CLAIM_GAP_S, pause)
    return claims, jobs


@pytest.mark.parametrize("rate", [2.0, 10.0, 50.0, 500.0])
@pytest.mark.parametrize("workers", [1, 2, 4, 20])
def test_a_fleet_that_shares_tokens_uses_them_all(workers: int, rate: float) -> None:
    """Whoever waits longer leaves the tokens to others, not to nobody."""
    _, jobs = fleet(workers, rate)
    assert jobs >= 0.97 * rate * RUN_S


@pytest.mark.parametrize(("rate", "most"), [(10.0, 120), (20.0, 150), (100.0, 350)])
def test_a_wide_fleet_makes_few_claims_that_get_nothing(rate: float, most: int) -> None:
    """20 workers asked 200, 400 and 800 times a second, all for the same tokens."""
    claims, _ = fleet(20, rate)
    assert claims <= most * RUN_S


def test_a_claim_that_gets_nothing_doubles_the_gap_and_one_that_gets_jobs_ends_that() -> None:
    """A worker alone is not slowed: it waits for the moment that the script names."""
    pauses = Pauses()
    soon = CLAIM_GAP_S / 5

    def after(wait_s: float = soon, *, got: bool = False, woken: bool = False) -> float:
        return pauses.after(wait_s, full=False, got=got, idle=False, woken=woken)

    assert [after(woken=True) for _ in range(5)] == [soon] * 5, "a wake comes between two tokens"
    found = [after() for _ in range(5)]
    assert found == [*(CLAIM_GAP_S * each for each in (1, 2, 4)), LONGEST_GAP_S, LONGEST_GAP_S]
    assert after(woken=True) == LONGEST_GAP_S
    assert after(got=True) == soon
    assert after() == CLAIM_GAP_S
    assert after(0.1) == 0.1


@pytest.mark.parametrize(
    ("wait_s", "worker", "pause_s"),
    [
        (0.004, {"full"}, FULL_LOOK_S),
        (1.2, {"full", "idle"}, FULL_LOOK_S),
        (1.0, {"idle"}, LOOK_S),
        (1.2, set(), LOOK_S),
        (1.2, {"idle"}, 1.2),
    ],
)
def test_what_a_worker_waits_for_decides_how_long(
    wait_s: float, worker: set[str], pause_s: float
) -> None:
    """Aborts, what others give back, and new jobs, which bring a wake."""
    full, idle = "full" in worker, "idle" in worker
    assert Pauses().after(wait_s, full=full, got=False, idle=idle, woken=False) == pause_s


def settler_of(registry: InFlight) -> Settler:
    """Return a settler whose group has no releases."""
    scripts, releases, other = AsyncMock(), AsyncMock(), Mock()
    nothing: Callable[[], None] = Mock()
    return Settler(scripts, other, registry, other, releases=releases, emit=other, passed=nothing)


@pytest.mark.parametrize(("running", "asks"), [(1, True), (2, False)])
async def test_settled_answers_ask_for_a_claim_only_where_a_slot_is_free(
    running: int,
    asks: bool,  # noqa: FBT001 - a row
) -> None:
    """A claim counts a call's slot as free when the call ends, which is before it is settled."""
    registry = InFlight(2)
    registry.running = running
    await settler_of(registry)._carry([])
    assert registry.room.is_set() == asks
