"""Loops of a gateway outlive whatever fails in a turn of theirs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from nightmill.errors import QueueUnavailableError
from nightmill.queue.budgets import Spent
from nightmill.records.key_limits import Budget, KeyLimits
from nightmill_gateway import loops
from nightmill_gateway.access import spending
from nightmill_gateway.access.caller import Caller
from nightmill_gateway.access.spending import Spending
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from nightmill_gateway.access.room import QueueRoom


async def test_a_turn_that_fails_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait for what the loops do, and nothing else would start one again."""
    monkeypatch.setattr(loops, "AWAY_S", 0)
    faults = [KeyError("a defect"), QueueUnavailableError("away")]
    over = asyncio.Event()

    async def turn() -> float:
        if faults:
            raise faults.pop(0)
        over.set()
        return 3600

    async with looping("a loop", turn):
        async with asyncio.timeout(10):
            await over.wait()


class _Room:
    """Knows one budget that is over: of 1 nano-dollar."""

    def spent_error(self, key_id: str, budget: Budget, found: Spent) -> ApiError | None:
        return ApiError(402, f"{key_id} {found}") if budget.nanodollars == 1 else None


def caller(key_id: str, nanodollars: int) -> Caller:
    """Return the caller of a key with a budget."""
    budget = Budget(nanodollars=nanodollars, period="day")
    return Caller(tenant="t", role="service", key_id=key_id, limits=KeyLimits(budget=budget))


@pytest.fixture
def woken() -> list[str]:
    """Return the jobs whose clients were woken."""
    return []


@pytest.fixture
def watching(woken: list[str]) -> Spending:
    """Return budgets that are looked at by hand."""
    return Spending(cast("Any", None), cast("QueueRoom", _Room()), woken.append)


async def test_a_client_that_leaves_during_a_look_is_no_defect(
    watching: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at another key takes as long as Redis does."""
    looked: list[str] = []
    first, second = watching.watched(caller("a", 9), "1"), watching.watched(caller("b", 9), "2")

    async def read(_: object, key_id: str, __: Budget) -> Spent:
        looked.append(key_id)
        if key_id == "a":
            second.__exit__(None, None, None)
        return Spent(0, 0, over=False, unpriced=0)

    monkeypatch.setattr(spending, "read_spent", read)
    first.__enter__()
    second.__enter__()
    assert await watching._turn() == spending.EVERY_S
    assert await watching._turn() == spending.EVERY_S
    first.__exit__(None, None, None)
    assert looked == ["a", "b", "a"]


async def test_clients_are_woken_once_and_by_the_budget_of_today(
    watching: Spending, woken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wake is a read of the store; an operator may change the budget while clients wait."""

    async def read(*_: object) -> Spent:
        return Spent(0, 0, over=True, unpriced=0)

    monkeypatch.setattr(spending, "read_spent", read)
    before, after = caller("a", 9), caller("a", 1)
    with watching.watched(before, "1"):
        await watching._turn()
        assert watching.ended(before) is None
        with watching.watched(after, "2"):
            await watching._turn()
            await watching._turn()
            assert sorted(woken) == ["1", "2"]
            assert watching.ended(after)
            with watching.watched(after, "3"):
                await watching._turn()
            assert sorted(woken) == ["1", "2", "3"]
        with watching.watched(before, "4"):
            await watching._turn()
            assert watching.ended(before) is None
    assert len(woken) == 3
