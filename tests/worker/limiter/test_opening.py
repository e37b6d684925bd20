"""How a lane opens: by acceptance, at a told limit, and with what it remembers."""

from __future__ import annotations

import msgspec
import pytest

from nightmill_worker.limiter.bounds import LARGEST_WINDOW
from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import Law, step
from nightmill_worker.limiter.opening import (
    KNOWN_FACTOR,
    MIXED_PACE,
    UNANSWERED_CALLS,
    UNPROVEN_PACE,
)
from nightmill_worker.limiter.orders import LONGEST_WAIT_S, orders
from nightmill_worker.limiter.records import Caps, Observed
from nightmill_worker.limiter.window import Window
from tests.worker.limiter.test_law import refused, replace, worked


def sent(law: Law, *, until: float, calls: float) -> Law:
    """Send `calls` a second until `until`. No call is answered or refused."""
    now = law.at
    while now < until:
        now += 0.1
        count = law.observed.sent + round(calls / 10)
        law = step(law, replace(law.observed, sent=count, in_flight=count), now)
    return law


def test_calls_that_are_accepted_widen_the_window_before_any_is_answered() -> None:
    """3,000 calls of 20 s took 185 s instead of 95 s: 16 were in flight for the first 20 s."""
    law = sent(step(Law(), Observed(), 0.1), until=2.0, calls=100)
    assert orders(law, Caps()).window == pytest.approx(2 * 200, rel=0.1)
    assert orders(law, Caps()).gates["pace"].rate == pytest.approx(UNPROVEN_PACE)


def test_before_an_answer_neither_pace_nor_window_grow_without_bounds() -> None:
    """Output is charged late, and a server may queue: thousands of calls would be refused later."""
    law = sent(step(Law(), Observed(), 0.1), until=30.0, calls=200)
    assert orders(law, Caps()).gates["pace"].rate == pytest.approx(UNPROVEN_PACE)
    assert orders(law, Caps()).window == UNANSWERED_CALLS


@pytest.mark.parametrize("told", ["header", "operator"])
def test_a_told_limit_sets_the_pace_and_the_window_does_not_bind(told: str) -> None:
    """With NIGHTMILL_RPM=4000, 3,000 calls of 20 s took 210 s: the lane grew as if untold."""
    reported = {"requests": Reported(limit=4000.0, largest=66.0, corrected=0.0)}
    caps = Caps() if told == "header" else Caps(requests=4000.0)
    law = step(Law(), Observed(reported=reported if told == "header" else {}), 0.1)
    given = orders(law, caps)
    assert given.gates["pace"].rate == pytest.approx(KNOWN_FACTOR * 4000 / 60)
    assert given.gates["requests"].rate == pytest.approx(4000 / 60)
    assert given.window == LARGEST_WINDOW


@pytest.mark.parametrize("doubt", ["refused", "failed"])
def test_one_refusal_or_failure_returns_a_told_limit_to_the_law(doubt: str) -> None:
    """A number that is ten times too high must not become a storm, nor must a failing server."""
    caps = Caps(requests=60_000.0)
    law = sent(step(Law(), Observed(), 0.1), until=0.5, calls=100)
    assert orders(law, caps).gates["pace"].rate == pytest.approx(KNOWN_FACTOR * 1000)
    seen = law.observed
    if doubt == "refused":
        law = step(law, replace(seen, refused=1, epoch=1, cut_in_flight=50), 0.6)
        assert orders(law, caps).gates["requests"].rate < 100
    else:
        law = step(law, replace(seen, failed=1), 0.6)
    assert orders(law, caps).gates["pace"].rate <= UNPROVEN_PACE
    assert orders(law, caps).window < LARGEST_WINDOW


def test_the_first_refusal_of_a_cold_lane_shows_a_rate_and_no_cap() -> None:
    """Long calls stay in flight: a window cut to what was in flight stopped the lane for 20 s."""
    law = sent(step(Law(), Observed(), 0.1), until=1.0, calls=100)
    law = step(law, replace(law.observed, refused=1, epoch=1, cut_in_flight=100), 1.1)
    assert law.blamed == "requests"
    assert law.window.cap == 0
    assert orders(law, Caps()).gates["requests"].rate == pytest.approx(100 / 1.15, rel=0.1)


def test_what_a_lane_learned_counts_half_after_an_idle_hour() -> None:
    """Yesterday's rate is a good start, but a limit that was raised must be found soon."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    law = worked(law, until=60.0, bound="requests", rate=20.0)
    law = refused(law, now=60.1, gate="requests")
    idle = step(law, replace(law.observed, in_flight=0), 61.0)
    before = idle.probes["requests"]
    busy = step(idle, replace(idle.observed, sent=idle.observed.sent + 1, in_flight=1), 61.0 + 3600)
    after = busy.probes["requests"]
    assert after.rate == before.rate
    assert after.hold == pytest.approx(max(8.0, before.hold / 2))
    assert after.first_step == pytest.approx(max(before.first_step, 0.125), rel=0.01)
    assert busy.window.size < idle.window.size or idle.window.size == Window().size


def test_a_short_rest_changes_nothing() -> None:
    """Queues run empty now and then."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    idle = step(law, replace(law.observed, in_flight=0), 3.0)
    busy = step(idle, replace(idle.observed, sent=idle.observed.sent + 1, in_flight=1), 33.0)
    assert busy.probes["requests"].first_step == idle.probes["requests"].first_step


def test_short_answers_prove_nothing_about_long_calls() -> None:
    """With short and long calls, thousands of long ones were sent, and their output was owed."""
    law = sent(step(Law(), Observed(), 0.1), until=2.0, calls=100)
    some = replace(law.observed, ok=90, latency=90.0, first_ended=8)
    assert orders(step(law, some, 2.1), Caps()).gates["pace"].rate <= UNPROVEN_PACE
    most = replace(some, first_ended=14)
    assert orders(step(law, most, 2.1), Caps()).gates["pace"].rate > UNPROVEN_PACE


def test_long_calls_among_short_ones_slow_the_opening_down() -> None:
    """At 200 calls a second, 160 % of an output limit of minutes was borrowed before a refusal."""
    law = sent(step(Law(), Observed(), 0.1), until=2.0, calls=100)
    mixed = step(law, replace(law.observed, ok=90, latency=54.0), 2.1)
    assert orders(mixed, Caps()).gates["pace"].rate == MIXED_PACE
    alike = step(law, replace(law.observed, ok=90, latency=90.0), 2.1)
    assert orders(alike, Caps()).gates["pace"].rate == pytest.approx(UNPROVEN_PACE)


def owing() -> Law:
    """Return a lane that owes output: its last call has ended, and nothing is accepted."""
    law = sent(step(Law(), Observed(), 0.1), until=2.0, calls=100)
    law = step(law, replace(law.observed, used_output=5000.0, refused=1, epoch=1), 2.1)
    seen = replace(law.observed, sent=law.observed.sent + 1, refused=2, epoch=2)
    return step(law, replace(seen, in_flight=0, used_output=90_000.0), 30.0)


def test_a_debt_of_minutes_is_no_rest() -> None:
    """Nothing was in flight, so the measurement began anew: the refill was 0, for good."""
    law = owing()
    for second in range(31, 200):
        bound = {"output": second}
        law = step(law, replace(law.observed, bound=bound), float(second))
    before = law.probes["output"]
    accepted = replace(law.observed, sent=law.observed.sent + 1, in_flight=1)
    assert step(law, accepted, 200.0).probes["output"].empty_at == before.empty_at


def test_no_measurement_stops_a_lane() -> None:
    """A refill of 0 was measured, and the next call was let in after nine days."""
    law = owing()
    probe = msgspec.structs.replace(law.probes["output"], used=90_000.0, lag=20.0)
    assert probe.after_debt(100.0, 200, 90_000.0, 2) == probe
    slow = msgspec.structs.replace(law.probes["output"], rate=0.001)
    law = msgspec.structs.replace(law, probes=law.probes | {"output": slow}, suspect="output")
    law = msgspec.structs.replace(law, rated=True)
    need = law.observed.used_output / law.observed.accepted
    assert orders(law, Caps()).gates["output"].rate == pytest.approx(need / LONGEST_WAIT_S)


def test_no_refill_is_measured_while_the_breaker_stops_calls() -> None:
    """After an outage of 100 s, a rate of 10 a second was measured as 1.2."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    law = worked(law, until=20.0, bound="requests")
    stopped = replace(law.observed, in_flight=0, bound={**law.observed.bound, "breaker": 1})
    law = step(law, stopped, 120.0)
    probe = law.probes["requests"]
    assert (probe.empty_at, probe.used) == (law.clock, law.observed.used("requests"))


def test_after_a_rest_no_higher_rate_is_tried_before_an_answer() -> None:
    """An endpoint that queued calls for 30 s was sent 763 of them, at four times the known rate."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    law = worked(law, until=60.0, bound="requests")
    idle = step(law, replace(law.observed, in_flight=0), 61.0)
    law = step(idle, replace(idle.observed, sent=idle.observed.sent + 1, in_flight=1), 4000.0)
    rate = law.probes["requests"].rate
    for tick in range(1, 300):
        bound = {**law.observed.bound, "requests": 1000 + tick}
        seen = replace(law.observed, sent=law.observed.sent + 2, bound=bound, in_flight=2 * tick)
        law = step(law, seen, 4000.0 + tick / 10)
    assert (law.probes["requests"].rate, law.probes["requests"].doublings) == (rate, 0.0)


def test_the_longest_calls_of_an_empty_queue_do_not_set_the_mean_length() -> None:
    """The mean length of 60 s calls was 168 s when a queue ran empty: the next start was slow."""
    window = Window(size=600.0, peak=300.0)
    law = msgspec.structs.replace(Law(), window=window, latency=60.0)
    seen = Observed(sent=900, ok=890, latency=60.0 * 890, in_flight=10)
    law = msgspec.structs.replace(law, observed=seen, at=1.0)
    for left in range(9, -1, -1):
        seen = replace(seen, ok=900 - left, latency=seen.latency + 170.0, in_flight=left)
        law = step(law, seen, law.at + 0.1)
    assert law.latency < 65.0


def test_a_long_debt_shows_that_output_is_limited() -> None:
    """The guess of the requests' rate was kept, and caused a second debt as long as the first."""
    law = sent(step(Law(), Observed(), 0.1), until=2.0, calls=100)
    law = step(law, replace(law.observed, used_output=5000.0, refused=1, epoch=1), 2.1)
    for epoch, now in ((2, 3.0), (3, 30.0)):
        seen = replace(law.observed, sent=law.observed.sent + 1, refused=epoch, epoch=epoch)
        ended = replace(seen, in_flight=4, used_output=5000.0 * epoch)
        law = step(law, ended, now)
    assert law.in_debt
    assert law.suspect == "output"
    accepted = replace(law.observed, sent=law.observed.sent + 1, used_output=60_000.0)
    law = step(step(law, accepted, 32.0), accepted, 32.1)
    assert not law.in_debt
    assert law.probes["output"].rate == pytest.approx(2000, rel=0.3)
