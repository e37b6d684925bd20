"""No value breaks the limiter: the law, the breaker and the measurement bear any numbers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightmill_worker.limiter.bounds import LARGEST_SHARE, LEAST_RATE, bounded
from nightmill_worker.limiter.breaker import OPEN_S, Breaker, watch
from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.headers import gate_named, limits_in
from nightmill_worker.limiter.law import Law, step
from nightmill_worker.limiter.orders import orders
from nightmill_worker.limiter.records import DIMENSIONS, GATES, Caps, Cost, Gate, Observed
from nightmill_worker.limiter.utilisation import Utilisation, limits, measure

ABSURD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0, 0, -1, 10**30, -(2**63))
numbers: Any = st.sampled_from(ABSURD) | st.integers() | st.floats()
counters: Any = st.integers(0, 60) | numbers
names = st.sampled_from((*GATES, "", "level", "\ud800"))
clocks = st.floats(-1e9, 1e9)  # Redis TIME is two integers
reports = st.builds(Reported, limit=numbers, largest=numbers, corrected=numbers)
FIELDS: dict[str, Any] = {
    **dict.fromkeys(("in_flight", "sent", "ok", "refused", "unsent", "failed"), counters),
    **dict.fromkeys(("rejected", "used_input", "used_output", "epoch", "cut_in_flight"), counters),
    "latency": numbers,
    "bound": st.dictionaries(names, counters, max_size=2),
    "cut_gate": names,
    "reported": st.dictionaries(st.sampled_from((*DIMENSIONS, "cats")), reports, max_size=2),
    "trial_end": st.sampled_from(("ok", "failed", "maybe")),
    "costs": st.dictionaries(st.text(max_size=3), st.builds(Cost, answers=numbers), max_size=2),
}
observations = st.fixed_dictionaries({}, optional=FIELDS).map(lambda given: Observed(**given))
moments_of_any_kind = st.lists(st.tuples(clocks, observations, st.booleans()), max_size=10)


def usable(gate: Gate) -> bool:
    """Whether claims can work with a gate."""
    finite = all(math.isfinite(n) for n in (gate.rate, gate.capacity, gate.reserve))
    return finite and gate.rate >= LEAST_RATE and gate.capacity > 0 and gate.reserve >= 0


def grown(before: Observed, more: Observed) -> Observed:
    """Return `more` with counters that go on from `before`, as they do unless a hash is lost."""
    before, more = before.within_bounds(), more.within_bounds()
    counted = ("sent", "ok", "refused", "epoch", "used_input", "used_output", "latency")
    sums: dict[str, Any] = {n: getattr(before, n) + getattr(more, n) for n in counted}
    return msgspec.structs.replace(more, **sums)


@settings(max_examples=60, deadline=None)
@given(moments=moments_of_any_kind, cap=st.none() | st.floats(min_value=1, max_value=1e9))
def test_the_law_gives_usable_orders_for_any_numbers(
    moments: list[tuple[float, Observed, bool]], cap: float | None
) -> None:
    """An exception or an absurd order would be stored in Redis, and stop the lane for ever."""
    law, now, caps = Law(), 1000.0, Caps(requests=cap, window=None if cap is None else 7)
    utilisation, breaker = Utilisation(), Breaker()
    for passed, more, steady in moments:
        observed = grown(law.observed, more) if steady else more
        now += passed
        law = step(law, observed, now)
        given = orders(law, caps)
        assert 1 <= given.window <= 100_000
        assert 0 < given.pause <= 6
        assert all(usable(gate) for gate in given.gates.values()), given
        utilisation, reading = measure(utilisation, law.observed, limits(law, caps), law.clock)
        assert reading is None or 0 <= reading.share <= LARGEST_SHARE
        breaker = watch(
            breaker,
            calls=law.observed.ended,
            failed=law.observed.failed,
            trial=law.observed.trial_end,
            now=law.clock,
            chance=0.5,
        )
        for state in (law, given, utilisation, breaker):
            assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state


def refused_at_once(gate: str, *, refusals: int, sent_ahead: int = 0) -> Law:
    """Return the law after 429s that name `gate`, before anything was accepted."""
    law = step(Law(), Observed(), 1000.0)
    for n in range(1, refusals + 1):
        observed = Observed(
            sent=n + sent_ahead,
            refused=n,
            epoch=n,
            cut_gate=gate,
            cut_in_flight=1,
            in_flight=sent_ahead,
        )
        law = step(law, observed, 1000.0 + n)
    return law


@pytest.mark.parametrize("gate", [*DIMENSIONS, "window", ""])
@pytest.mark.parametrize("sent_ahead", [0, 1, 15])
def test_a_429_before_anything_was_accepted_learns_no_limit_of_0(
    gate: str, sent_ahead: int
) -> None:
    """A limit of 0 was divided by in every tick of every governor, for ever."""
    law = refused_at_once(gate, refusals=10, sent_ahead=sent_ahead)
    for tick in range(60):
        law = step(law, law.observed, 1011.0 + tick / 10)
    assert all(limit >= LEAST_RATE for limit in limits(law, Caps()).values())
    given = orders(law, Caps())
    slowest = min(
        (gate.rate for name, gate in given.gates.items() if name in ("pace", "requests")),
    )
    assert slowest >= 1 / 6.0, "a call is tried at least once in the longest pause"


def test_a_lane_is_at_full_speed_soon_after_its_first_accepted_call() -> None:
    """What was refused before the endpoint let the fleet in says nothing about its limits."""
    law = refused_at_once("input", refusals=10)
    observed = msgspec.structs.replace(
        law.observed, sent=12, ok=2, latency=2.0, used_input=10.0, used_output=6.0, in_flight=0
    )
    for tick in range(5):
        law = step(law, observed, 1011.0 + tick / 10)
    assert not law.in_debt
    assert orders(law, Caps()).gates["pace"].rate > 10


def test_a_dimension_without_usage_is_never_the_suspect() -> None:
    """Where answers have no usage, 0 tokens look like a rate that is measured without any doubt."""
    law = step(Law(), Observed(sent=20, ok=20, latency=20.0), 1000.0)
    for n in range(1, 30):
        sent = 20 + 40 * n
        observed = Observed(sent=sent, ok=sent - 2 * n, refused=n, epoch=n, latency=float(sent))
        law = step(law, observed, 1000.0 + (3 + n % 3) * n)
    assert law.suspect == "requests"
    assert orders(law, Caps()).gates["requests"].rate > 1


def test_a_stored_rate_of_0_is_dropped() -> None:
    """Earlier versions stored it, and every governor that read it died."""
    law = refused_at_once("requests", refusals=1, sent_ahead=15)
    dead = msgspec.structs.replace(law.probes["requests"], rate=0.0, ceiling=0.0, measured=0.0)
    law = msgspec.structs.replace(law, probes={"requests": dead}, rated=True, suspect="requests")
    law = step(law, law.observed, 1020.0)
    assert (law.rated, law.probes) == (False, {})
    assert "requests" not in orders(law, Caps()).gates


def test_counters_that_start_again_begin_a_new_law() -> None:
    """A hash that was lost has counters of 0: differences to the old ones would be negative."""
    law = refused_at_once("requests", refusals=3, sent_ahead=15)
    law = step(law, Observed(sent=2, ok=1, latency=1.0), 1005.0)
    assert law.probes == {}
    assert law.window.size >= 1
    assert law.clock > 0


def test_one_answer_that_seems_to_take_a_day_is_forgotten() -> None:
    """A worker's clock that jumped made a lane of 650 calls a second do 0.1, for ever."""
    law, sent, latency, owed, now = Law(), 0, 0.0, 0.0, 1000.0
    for tick in range(300):
        # Calls end as fast as the pace lets them start, each after 0.5 s. One has a wrong time.
        owed += min(orders(law, Caps()).gates["pace"].rate, 650.0) / 10
        ended, owed = int(owed), owed % 1
        sent += ended
        latency += 0.5 * ended + (86_400.0 if tick == 100 else 0.0)
        law = step(law, Observed(sent=sent, ok=sent, latency=latency, bound={"pace": tick}), now)
        now += 0.1
    assert law.latency < 1.0, "20 s later"


def test_the_breaker_bears_an_outage_of_days() -> None:
    """It opens every 15 s: after 4 hours, a power of 2 was too large for a float."""
    breaker = Breaker(opened=5_000, state="half")
    breaker = watch(breaker, calls=9, failed=9, trial="failed", now=1.0, chance=0.5)
    assert breaker.until == pytest.approx(1.0 + OPEN_S[1])


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        ("0", "0"),
        ("-5", "1"),
        ("9" * 30, "1"),
        ("9" * 5000, "1"),
        ("600", "9" * 5000),
        ("1e9", "1"),
        ("600", ""),
        ("\xb2", "1"),
        ("\udce9", "1"),
        ("nan", "1"),
    ],
)
def test_a_header_that_is_no_limit_counts_as_absent(limit: str, remaining: str) -> None:
    """A proxy may send anything, also thousands of digits, which Python refuses to convert."""
    prefix = "anthropic-ratelimit-requests"
    assert limits_in({f"{prefix}-limit": limit, f"{prefix}-remaining": remaining}) == {}


@given(st.dictionaries(st.sampled_from(("limit", "remaining")), st.text()), st.text())
def test_any_header_and_any_message_are_read(headers: dict[str, str], message: str) -> None:
    """Texts come from outside."""
    named = {f"anthropic-ratelimit-output-tokens-{name}": text for name, text in headers.items()}
    for limit, remaining in limits_in(named).values():
        assert 1 <= limit <= 10**12
        assert 0 <= remaining <= 10**12
    assert gate_named(message) in (None, "window", *DIMENSIONS)


@given(numbers, st.floats(-1e6, 0), st.floats(1, 1e6))
def test_a_bounded_number_is_finite(value: float, low: float, high: float) -> None:
    """NaN compares with nothing, so min and max alone would let it pass."""
    assert low <= bounded(value, low, high) <= high


def test_a_lane_of_fast_calls_follows_the_limits_of_fast_mode() -> None:
    """Fast mode has limits apart from the others; those of Priority Tier bind nothing."""
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
        "anthropic-priority-input-tokens-limit": "10000",
        "anthropic-priority-input-tokens-remaining": "0",
    }
    standard = {"requests": (50, 49), "input": (30000, 29000)}
    assert limits_in(headers, "claude-opus-4.x") == standard
    fast = {
        "anthropic-fast-input-tokens-limit": "20000",
        "anthropic-fast-input-tokens-remaining": "19000",
        "anthropic-fast-output-tokens-limit": "4000",
        "anthropic-fast-output-tokens-remaining": "3000",
        "anthropic-fast-something-new-limit": "5",
    }
    both = {**headers, **fast}
    assert limits_in(both, "claude-opus-4.x fast") == {
        "input": (20000, 19000),
        "output": (4000, 3000),
    }
    assert limits_in(both, "claude-opus-4.x") == standard
    assert limits_in(headers, "claude-opus-4.x fast") == standard, "it ran at standard speed"
