"""The lane of the scenarios does what lane.lua does: random histories leave both in one state."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from nightmill.queue import wire
from nightmill_worker.limiter.breaker import Breaker
from nightmill_worker.limiter.records import Caps, Gate, Orders
from tests.scenarios.lane import DIMENSIONS, Job, Lane, Reservation, Settled

LEASE_S = 60.0
COUNTED = ("sent", "ok", "refused", "unsent", "failed", "stop")
SAME = (
    *("level", "largest", "corrected", "latency", "epoch", "running", "pause_until", "cut_at"),
    *("cut_in_flight", "cut_gate", "refilled_at", "reserved", "ratio", "output", "guessed"),
    *("trial", "trial_end", "sent_at", "first_sent", "first_ended"),
)

amounts = st.floats(min_value=0, max_value=5000).map(lambda n: round(n, 3))
gates = st.builds(
    Gate,
    rate=st.floats(min_value=0.5, max_value=500),
    capacity=st.floats(min_value=1, max_value=2000),
    reserve=st.floats(min_value=0, max_value=50),
    follows_headers=st.booleans(),
)
published = st.builds(
    Orders,
    window=st.integers(min_value=1, max_value=30),
    gates=st.dictionaries(st.sampled_from(("pace", *DIMENSIONS)), gates),
    reserves=st.booleans(),
    pause=st.floats(min_value=0.25, max_value=4),
)
jobs = st.builds(
    Job,
    batch=st.sampled_from(("", "a", "b")),
    size=st.integers(min_value=40, max_value=3000),
    max_tokens=st.integers(min_value=1, max_value=4000),
)
answers = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(
            ("ok", "ok", "ok", "ok", "ok", "refused", "failed", "unsent", "stop", "begun")
        ),
        "latency": st.integers(min_value=0, max_value=60_000).map(lambda ms: ms / 1000),
        "input": amounts,
        "output": amounts,
        "reported": st.dictionaries(
            st.sampled_from(DIMENSIONS),
            st.tuples(st.sampled_from((600.0, 60_000.0)), amounts),
            min_size=1,
        ),
        "gate": st.sampled_from(("", "output", "window")),
        "retry_after": st.sampled_from((0.0, 0.0, 0.0, 1.5, 900.0)),
    }
)
rounds = st.tuples(
    st.floats(min_value=-1, max_value=20),
    st.none() | st.none() | published,
    st.lists(jobs, max_size=6),
    st.lists(answers, max_size=6),
)


class Twins:
    """A lane in Python and the same lane in Redis."""

    def __init__(self, client: Redis, breaker: str) -> None:
        """Start both as lanes that have never been used."""
        client.flushall()
        lua = files("nightmill_worker.queue").joinpath("lua")
        parts = [
            lua.joinpath(f"{part}.lua").read_text() for part in ("common", "lane_state", "lane")
        ]
        driver = Path(__file__).with_name("lane.lua").read_text()
        self.script = client.register_script(wire.lua_prelude() + "".join(parts) + driver)
        self.lane = Lane(Caps())
        self.breaker = breaker
        self.lane.breaker = msgspec.convert({"state": breaker}, Breaker)
        self.now = 1000.0
        self.taken: list[tuple[str, Reservation, Any]] = []
        self.serial = 0

    def call(self, **request: object) -> tuple[dict[str, Any], int, str, float, list[Any]]:
        """Run the request in lane.lua."""
        given = msgspec.to_builtins(self.lane.orders)
        given |= {"breaker": self.breaker, "round": 0}
        ask = {"account": "l", "model": "m", "now": self.now, "orders": given, **request}
        hot, in_flight, closed, ms, *reserved = self.script(args=[json.dumps(ask)])
        after = json.loads(hot)
        return after, in_flight, closed.decode(), float(ms), [json.loads(r) for r in reserved]

    def take(self, asked: list[Job]) -> None:
        """Ask for calls until a gate closes."""
        slots = [f"s{self.serial + n}" for n in range(len(asked))]
        self.serial += len(asked)
        items = [
            {**msgspec.to_builtins(job), "slot": slot}
            for job, slot in zip(asked, slots, strict=True)
        ]
        after, in_flight, gate, ms, reserved = self.call(take=items, lease_s=LEASE_S)
        self.lane.open(self.now)
        closed, wait = "", 0.0
        for job, slot in zip(asked, slots, strict=True):
            guess = self.lane.guess(job)
            closed, wait = self.lane.closed(guess, self.now)
            if closed:
                break
            reservation = self.lane.take(job, guess, slot, self.now, self.now + LEASE_S)
            self.taken.append((slot, reservation, reserved.pop(0)))
        assert gate == closed
        assert ms == pytest.approx(1000 * wait)
        assert not reserved
        self.compare(after, in_flight)

    def settle(self, given: list[dict[str, Any]]) -> None:
        """End the oldest calls."""
        items, sent = [], []
        for (slot, reservation, stored), answer in zip(self.taken, given, strict=False):
            real = answer if answer["outcome"] == "ok" else {**answer, "input": 0.0, "output": 0.0}
            items.append(Settled(slot=slot, reservation=reservation, **real))
            latency_ms, wait_ms = 1000 * real["latency"], 1000 * real["retry_after"]
            also = {
                "latency_ms": latency_ms,
                "retry_after_ms": wait_ms,
                "bytes": reservation.job.size,
            }
            item = {**real, **also, "token": slot, "reservation": stored}
            sent.append({name: value for name, value in item.items() if value != ""})
        self.taken = self.taken[len(items) :]
        after, in_flight, *_ = self.call(settle=sent)
        self.lane.settle(self.now, items)
        self.compare(after, in_flight)

    def compare(self, hot: dict[str, Any], in_flight: int) -> None:
        """Compare both lanes field by field."""
        lane = self.lane
        near: Callable[[object], Any] = partial(pytest.approx, rel=1e-6, abs=1e-6)
        assert in_flight == len(lane.slots)
        assert {n: hot[n] for n in COUNTED} == {n: lane.counts[n] for n in COUNTED}
        for name in SAME:
            mine = getattr(lane, name)
            theirs = hot[name]
            same: Any = mine if isinstance(mine, str) else near(mine)
            assert theirs == same, name
        assert near(lane.used) == {"input": hot["used_input"], "output": hot["used_output"]}
        # An empty table of Lua's is JSON's {}.
        assert near(lane.reported_at) == dict(hot["told_at"])
        reported = {d: msgspec.to_builtins(r) for d, r in lane.reported.items()}
        assert set(reported) == set(hot["told"])
        for dimension, expected in reported.items():
            assert hot["told"][dimension] == near(expected)
        assert {b: near(msgspec.to_builtins(c)) for b, c in lane.costs.items()} == dict(
            hot["costs"]
        )


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a history is short; shrinking it takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    breaker=st.sampled_from(("closed", "closed", "half", "open")),
    history=st.lists(rounds, min_size=3, max_size=12),
)
def test_the_virtual_lane_does_what_the_script_does(
    redis_url: str,
    breaker: str,
    history: list[tuple[float, Orders | None, list[Job], list[dict[str, Any]]]],
) -> None:
    """Otherwise the scenarios would prove nothing about the lane that workers use."""
    with Redis.from_url(redis_url) as client:
        twins = Twins(client, breaker)
        for passed, orders, asked, answered in history:
            twins.now = round(twins.now + passed, 3)
            twins.lane.orders = orders or twins.lane.orders
            twins.take(asked)
            twins.settle(answered)


def test_a_lane_forgets_the_batch_whose_last_answer_is_the_oldest(redis_url: str) -> None:
    """Every claim reads the lane's state, so it must not grow with every batch there ever was."""
    with Redis.from_url(redis_url) as client:
        twins = Twins(client, "closed")
        twins.lane.orders = Orders(window=999, gates={}, reserves=False, pause=0.25)
        answer = {"outcome": "ok", "latency": 1.0, "input": 9.0, "output": 9.0, "reported": {}}
        for n in range(40):
            twins.now += 1
            twins.take([Job(batch=f"batch-{n}", size=100, max_tokens=10)])
            twins.settle([{**answer, "gate": "", "retry_after": 0.0}])
        assert len(twins.lane.costs) == 32
        assert "batch-7" not in twins.lane.costs
        assert "batch-8" in twins.lane.costs


def test_what_a_refused_call_gave_back_is_not_in_a_bucket_that_is_empty(redis_url: str) -> None:
    """Three calls were refused in the first second of RPM 60: the level was one call too high."""
    refusal = {"outcome": "refused", "latency": 0.0, "reported": {"requests": (60.0, 0.0)}}
    job = Job(batch="a", size=400, max_tokens=100)
    more = {"input": 0.0, "output": 0.0, "gate": "", "retry_after": 0.0}
    with Redis.from_url(redis_url) as client:
        twins = Twins(client, "closed")
        twins.lane.orders = Orders(window=9, gates={}, reserves=False, pause=0.25)
        twins.take([job] * 3)
        for _ in range(3):
            twins.now += 0.02
            twins.settle([{**refusal, **more}])
    assert twins.lane.level["requests"] == pytest.approx(0.06)


def test_the_first_calls_of_a_lane_are_spaced(redis_url: str) -> None:
    """Two calls started at once, so a bucket of one call refused the second at once."""
    pace = {"pace": Gate(rate=28.0, capacity=2.4)}
    with Redis.from_url(redis_url) as client:
        twins = Twins(client, "closed")
        twins.lane.orders = Orders(window=16, gates=pace, reserves=False, pause=0.25)
        twins.take([Job(batch="a", size=400, max_tokens=100)] * 3)
    assert len(twins.lane.slots) == 1
