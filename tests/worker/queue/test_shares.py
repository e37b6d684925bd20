"""Shares of claims: tenants equally, batches by weight, interactive calls within their share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.records.limits import Limits
from tests.worker.queue import desk as desks
from tests.worker.queue.desk import finished, settlement

if TYPE_CHECKING:
    from tests.worker.queue.desk import Desk

SHARE = 0.2
CLIENTS = "a/messages"


def fill(desk: Desk, batch: str, number: int, **limits: object) -> None:
    """Enqueue jobs of a batch, which has these limits."""
    if limits:
        stored = msgspec.json.encode(msgspec.convert(limits, Limits)).decode()
        desk.redis.hset(keys.BATCH + batch, "limits", stored)
    for n in range(number):
        desk.enqueue(f"{batch}:{n}", batch=batch)


def clients(desk: Desk, number: int = 1, batch: str = CLIENTS, start: int = 0) -> None:
    """Enqueue jobs that clients wait for."""
    fill(desk, batch, 0, weight=1000, interactive=True)
    for n in range(start, start + number):
        desk.enqueue(f"{batch}:{n}", batch=batch)


def end(desk: Desk, jobs: dict[str, dict[str, Any]]) -> None:
    """End claimed jobs, which frees their slots."""
    desk.send("settle", [settlement(job) for job in jobs.values()])
    desk.finish([finished(job) for job in jobs.values()])


def granted(desk: Desk, claims: int, want: int) -> Counter[str]:
    """Claim often, and end what was claimed; return how many jobs of each batch were."""
    found: Counter[str] = Counter()
    for _ in range(claims):
        jobs = desk.claim(want, share=SHARE)
        found.update(job.split(":", maxsplit=1)[0] for job in jobs)
        end(desk, jobs)
    return found


@pytest.mark.parametrize(("claims", "want"), [(200, 1), (10, 20)])
def test_tenants_share_equally_however_many_batches_each_has(
    desk: Desk, claims: int, want: int
) -> None:
    """Nine batches of one tenant must not take nine tenths from another one."""
    for n in range(9):
        fill(desk, f"a/{n}", 100)
    fill(desk, "b/0", 200)
    found = granted(desk, claims, want)
    assert 60 <= found["b/0"] <= 140, found


def test_a_message_batch_belongs_to_the_tenant_in_its_limits(desk: Desk) -> None:
    """Its name is an id of the API, which has no room for a tenant."""
    for n in range(9):
        fill(desk, f"msgbatch_{n}", 100, tenant="a")
    fill(desk, "msgbatch_b", 200, tenant="b")
    assert 60 <= granted(desk, 200, 1)["msgbatch_b"] <= 140


def test_within_a_tenant_and_without_tenants_weights_hold(desk: Desk) -> None:
    """Batches of the command line are all of one tenant, as before there were tenants."""
    fill(desk, "light", 300)
    fill(desk, "heavy", 300, weight=4)
    found = granted(desk, 200, 1)
    assert 120 <= found["heavy"] <= 190
    fill(desk, "b/0", 300)
    found = granted(desk, 100, 1)
    assert 25 <= found["b/0"] <= 75, "and beside another tenant, both have half"


def test_what_one_tenant_does_not_use_the_others_get(desk: Desk) -> None:
    """A share is no limit."""
    fill(desk, "a/0", 100)
    fill(desk, "b/0", 5)
    assert granted(desk, 3, 35) == {"a/0": 100, "b/0": 5}


def test_interactive_calls_come_first(desk: Desk) -> None:
    """A client waits; a night's batch does not, whatever its weight."""
    fill(desk, "b/0", 300, weight=1000)
    for n in range(50):
        end(desk, desk.claim(3, share=SHARE))
        clients(desk, start=n)
        jobs = desk.claim(1, share=SHARE)
        assert [*jobs] == [f"{CLIENTS}:{n}"]
        end(desk, jobs)


@pytest.mark.parametrize("batch", ["a/0", "b/0"])
def test_interactive_calls_starve_no_batch(desk: Desk, batch: str) -> None:
    """More clients than the lane can serve have their share, and an equal part of the rest."""
    fill(desk, batch, 500)
    clients(desk, 800)
    end(desk, desk.claim(220, share=SHARE))  # what a quiet time has saved up
    found = granted(desk, 300, 1)
    assert 0.3 * 300 <= found[batch] <= 0.6 * 300, found


def test_one_tenants_clients_do_not_starve_those_of_another(desk: Desk) -> None:
    """2,000 clients of one service, one of another."""
    clients(desk, 1000)
    clients(desk, 100, batch="b/messages")
    assert 20 <= granted(desk, 100, 1)["b/messages"] <= 80


def test_slots_are_kept_for_the_next_client(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window full of calls of a minute would make it wait for a minute."""
    monkeypatch.setitem(desks.ORDERS, "window", 10)
    fill(desk, "b/0", 100)
    first = desk.claim(share=SHARE)
    assert len(first) == 10, "nobody is interactive: batches have all slots"
    end(desk, first)
    clients(desk)
    jobs = desk.claim(share=SHARE)
    assert f"{CLIENTS}:0" in jobs
    end(desk, jobs)
    assert len(desk.claim(share=SHARE)) == 8
    assert len(desk.claim(share=SHARE)) == 0
    clients(desk, 2, start=1)
    jobs = desk.claim(share=SHARE)
    assert [*jobs] == [f"{CLIENTS}:1", f"{CLIENTS}:2"], "at once"
    end(desk, jobs)
    desk.redis.delete(desks.LANE + ":slots")
    desk.set_hot(asked_at=desk.now_ms() / 1000 - 61)
    assert len(desk.claim(share=SHARE)) == 10, "a minute later batches have all slots again"


def test_slots_that_clients_do_not_use_are_kept_at_all_times(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a burst, batches took them, and the next client waited for a long call."""
    monkeypatch.setitem(desks.ORDERS, "window", 10)
    fill(desk, "b/0", 100)
    clients(desk)
    first = desk.claim(1, share=SHARE)
    desk.set_hot(credit=0)
    assert len(desk.claim(share=SHARE)) == 8, "its own slot is one of the two"
    clients(desk, start=1)
    second = desk.claim(share=SHARE)
    assert [*second] == [f"{CLIENTS}:1"], "at once, whatever was called before"
    clients(desk, start=2)
    assert not desk.claim(share=SHARE), "the share is in use"
    end(desk, first)
    assert [*desk.claim(share=SHARE)] == [f"{CLIENTS}:2"]


def test_calls_of_clients_count_until_they_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long one keeps its slot in use; one of a dead worker leaves it."""
    monkeypatch.setitem(desks.ORDERS, "window", 10)
    clients(desk, 2)
    dead, alive = desk.claim(share=SHARE).values()
    for key in (":slots", ":clients"):
        for job in (dead, alive):
            desk.redis.zadd(desks.LANE + key, {job["token"]: 1})
    desk.send("renew", [alive])
    fill(desk, "b/0", 100)
    assert len(desk.claim(share=SHARE)) == 8
    assert desk.redis.zcard(desks.LANE + ":clients") == 1
    hot = desk.hot() | {"asked_at": 0}  # the last client asked long ago, and its call still runs
    desk.redis.hset(desks.LANE, "hot", msgspec.json.encode(hot).decode())
    desk.claim(share=SHARE)
    end(desk, {job["id"]: job for job in (dead, alive)})
    assert desk.redis.zcard(desks.LANE + ":clients") == 0


def test_a_window_of_one_is_for_whoever_comes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept slot would be the only one: a client a minute would stop every batch."""
    monkeypatch.setitem(desks.ORDERS, "window", 1)
    fill(desk, "b/0", 10)
    clients(desk)
    end(desk, desk.claim(share=SHARE))
    assert len(desk.claim(share=SHARE)) == 1


def test_slots_of_a_worker_are_kept_as_well(desk: Desk) -> None:
    """Its own limit may be what is full, and not the lane's."""
    fill(desk, "b/0", 100)
    assert len(desk.claim(10, share=SHARE, keep=2)) == 10
    clients(desk)
    desk.claim(1, share=SHARE)
    assert len(desk.claim(10, share=SHARE, keep=2)) == 8
    clients(desk, start=1)
    assert len(desk.claim(10, share=SHARE, keep=2)) == 9, "a client of this claim has its slot"


def test_without_interactive_calls_the_lane_knows_nothing_of_them(desk: Desk) -> None:
    """Who uses no gateway pays nothing for it."""
    fill(desk, "b/0", 5)
    desk.claim(share=SHARE)
    assert not {"asked_at", "credit"} & desk.hot().keys()
    clients(desk)
    assert len(desk.claim(share=0.0)) == 1
    assert not {"asked_at", "credit"} & desk.hot().keys(), "a share of 0 keeps nothing"


@pytest.mark.parametrize("odd", ["x", -1, 1e300, -1e300, [], {}, True])
def test_odd_values_of_the_share_stop_nothing(desk: Desk, odd: object) -> None:
    """Other programs may write there."""
    fill(desk, "b/0", 50)
    clients(desk)
    desk.claim(1, share=SHARE)
    desk.set_hot(asked_at=odd, credit=odd)
    assert desk.claim(5, share=SHARE)
    desk.set_hot(credit=odd)
    clients(desk, start=1)
    assert f"{CLIENTS}:1" in desk.claim(5, share=SHARE)
    assert desks.finite(desk.hot())


@pytest.mark.parametrize("tenant", ["é", "a\nb", "", "x" * 300])
def test_any_name_of_a_tenant_is_taken(desk: Desk, tenant: str) -> None:
    """A name is only compared."""
    fill(desk, "m", 5, tenant=tenant)
    fill(desk, "b/0", 5)
    assert len(desk.claim(share=SHARE)) == 10
