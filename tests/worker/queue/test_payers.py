"""Budgets of keys: claims hold back what does not fit, and what ends is added up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.queue import keys
from nightmill.records.key_limits import Budget
from nightmill_worker.queue.lua_source import source
from tests.worker.queue.desk import GOOD, finished, released
from tests.worker.queue.test_shares import fill

if TYPE_CHECKING:
    from tests.worker.queue.desk import Desk

KEY = "nm_0123456789ab"
HASH = keys.BUDGET + KEY
PAID = GOOD.replace(b'"generate",', b'"generate","p":"%b",' % KEY.encode(), 1)


def budget(desk: Desk, nanodollars: int, period: str = "day", **fields: object) -> None:
    """Store a budget as a gateway does."""
    stored = {"budget": nanodollars, "period": period, "price_in": 0, "price_out": 1, **fields}
    desk.redis.hset(HASH, mapping={name: str(value) for name, value in stored.items()})


def enqueue(desk: Desk, number: int, start: int = 0) -> None:
    """Enqueue jobs that the key pays for, and one of another key behind them."""
    for n in range(start, start + number):
        desk.enqueue(f"b:{n}", PAID)


def end(desk: Desk, jobs: dict[str, Any], cost: int) -> None:
    """Finish claimed jobs, each at a cost."""
    desk.finish([finished(job, cost=cost) for job in jobs.values()])


def spent(desk: Desk) -> int:
    """Return what is spent, nano-dollars."""
    return int(desk.field(HASH, "spent") or 0)


def test_a_budget_is_never_exceeded_by_what_was_expected(desk: Desk) -> None:
    """Each call costs 5 of 52: ten calls fit, however many a claim asks for."""
    budget(desk, 52)
    enqueue(desk, 40)
    for _ in range(30):
        end(desk, desk.claim(7), 5)
        desk.redis.zadd("nightmill:queue:b:m", dict.fromkeys(waiting(desk), 1))
    assert spent(desk) == 50
    assert desk.field(HASH, "over"), "the gateway is told that no more fit"
    assert desk.redis.scard(f"{HASH}:jobs") == 0


def waiting(desk: Desk) -> list[bytes]:
    """Return the jobs in the queue that nobody holds."""
    ids: Any = desk.redis.zrange("nightmill:queue:b:m", 0, -1)
    return [each for each in ids if not desk.redis.exists(keys.IN_PROGRESS + each.decode())]


def test_jobs_of_other_keys_behind_it_go(desk: Desk) -> None:
    """Keys of one tenant share the queue of POST /v1/messages."""
    budget(desk, 10, start=period_start(desk, "day"), spent=10, answers=1)
    enqueue(desk, 5)
    desk.enqueue("b:free")
    found: set[str] = set()
    for _ in range(3):
        found |= set(desk.claim(3))
    assert found == {"b:free"}


def test_a_batch_of_the_key_waits_as_a_whole(desk: Desk) -> None:
    """A Message Batch has one key. The next period lets it go on."""
    budget(desk, 10, start=period_start(desk, "day"), spent=10, answers=1)
    fill(desk, "msgbatch_1", 5, payer=KEY)
    assert desk.claim() == {}
    budget(desk, 10, start=period_start(desk, "day") - 86_400_000)
    jobs = desk.claim()
    assert len(jobs) == 2, "each may cost 5, until the first has ended"
    end(desk, jobs, 1)
    assert spent(desk) == 2
    desk.redis.delete(HASH)
    assert len(desk.claim()) == 3, "without a budget, all go"


def period_start(desk: Desk, period: Any) -> int:  # noqa: ANN401 - a literal
    """Return when this period began, epoch ms."""
    return Budget(nanodollars=1, period=period).starts(desk.now_ms())


@pytest.mark.parametrize("period", ["hour", "day", "month"])
def test_periods_begin_as_people_are_told(desk: Desk, period: str) -> None:
    """The scripts and the error message mean the same moment."""
    budget(desk, 100, period, start=5, spent=99, answers=9, unpriced=3)
    enqueue(desk, 1)
    end(desk, desk.claim(), 7)
    assert spent(desk) == 7
    assert int(desk.field(HASH, "start")) == period_start(desk, period)


def test_months_begin_on_their_first_day_for_400_years(desk: Desk) -> None:
    """Leap years are where such arithmetic is wrong."""
    found = re.search(r"local function month_start.*?\n  end\n", source("finish"), re.DOTALL)
    assert found
    loop = "local r = {} for day = 0, 146097 do r[#r + 1] = month_start(day) end return r"
    starts: Any = desk.redis.eval(found[0] + loop, 0)
    month = Budget(nanodollars=1, period="month")
    for day in range(0, 146_097, 13):
        assert starts[day] * 86_400_000 == month.starts(day * 86_400_000), day


def test_what_broke_off_is_paid_for_as_well(desk: Desk) -> None:
    """A call that broke off after half its answer costs money."""
    budget(desk, 1000)
    enqueue(desk, 1)
    (job,) = desk.claim().values()
    desk.send("release", [released(job, input=1, output=1, cost=30)])
    assert (spent(desk), desk.redis.scard(f"{HASH}:jobs")) == (30, 0)


def test_an_answer_without_a_price_holds_the_key(desk: Desk) -> None:
    """Its cost cannot be counted, so the budget cannot be kept."""
    budget(desk, 1000)
    enqueue(desk, 1)
    end(desk, desk.claim(), -1)
    enqueue(desk, 1, start=1)
    assert desk.claim() == {}
    assert desk.field(HASH, "unpriced") == b"1"


@pytest.mark.parametrize("odd", ["nan", "-1", "x", "1e400", "", "1e18"])
def test_odd_values_of_a_budget_raise_nothing(desk: Desk, odd: str) -> None:
    """Other programs may write there; a job without a key is not concerned."""
    budget(desk, 100, **dict.fromkeys(("start", "spent", "answers", "price_in", "price_out"), odd))
    desk.redis.hset(HASH, "period", odd)
    enqueue(desk, 1)
    desk.enqueue("b:free")
    jobs = desk.claim()
    assert "b:free" in jobs
    end(desk, jobs, 1)
    assert spent(desk) < 2**53


def test_a_request_cannot_name_who_pays(desk: Desk) -> None:
    """Text inside a request looks like the key's place, and is not it."""
    budget(desk, 1, start=period_start(desk, "day"), spent=1, answers=1)
    forged = GOOD.replace(b'"messages":[]', b'"messages":[],"p":"%b"' % KEY.encode())
    desk.enqueue("b:forged", forged)
    assert [*desk.claim()] == ["b:forged"]
    assert desk.field(keys.RECORD + "b:forged", "payer") == b""
