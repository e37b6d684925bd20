"""What the law promises for any observation: usable orders, caps that hold, one cut an epoch."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import Law, step
from nightmill_worker.limiter.orders import orders
from nightmill_worker.limiter.records import DIMENSIONS, Caps, Observed
from nightmill_worker.limiter.window import Window

GATES = ("window", "pace", *DIMENSIONS)


def replace(observed: Observed, **changes: object) -> Observed:
    """Return `observed` with other fields; msgspec does not check their types."""
    return msgspec.structs.replace(observed, **changes)


def worked(law: Law, *, until: float, bound: str = "window", rate: float = 20.0) -> Law:
    """Let a lane answer `rate` calls a second until `until`, while one gate keeps calls waiting."""
    now, observed = law.at, law.observed
    while now < until:
        now += 0.1
        sent = observed.sent + round(rate / 10)
        in_flight = min(int(law.window.size), round(rate))  # calls of 1 s
        count = {**observed.bound, bound: observed.bound.get(bound, 0) + 1}
        observed = replace(
            observed,
            sent=sent,
            ok=sent,
            latency=float(sent),
            used_input=100.0 * sent,
            used_output=10.0 * sent,
            in_flight=in_flight,
            bound=count,
        )
        law = step(law, observed, now)
    return law


def refused(law: Law, *, now: float, gate: str = "", in_flight: int | None = None) -> Law:
    """Let one call of a new epoch be refused."""
    observed = law.observed
    observed = replace(
        observed,
        sent=observed.sent + 2,
        ok=observed.ok + 1,
        refused=observed.refused + 1,
        epoch=observed.epoch + 1,
        cut_gate=gate,
        cut_in_flight=observed.in_flight if in_flight is None else in_flight,
    )
    return step(law, observed, now)


numbers = st.integers(min_value=0, max_value=50)
moments = st.fixed_dictionaries(
    {
        "passed": st.floats(min_value=-5, max_value=4000),
        "sent": numbers,
        "ok": numbers,
        "refused": numbers,
        "unsent": numbers,
        "in_flight": st.integers(min_value=0, max_value=5000),
        "latency": st.floats(min_value=0, max_value=500),
        "tokens": st.floats(min_value=0, max_value=1e6),
        "epoch": st.booleans(),
        "gate": st.sampled_from(("", *GATES)),
        "bound": st.sampled_from(GATES),
        "reported": st.none() | st.sampled_from(DIMENSIONS),
        "limit": st.floats(min_value=1, max_value=1e7),
        "remaining": st.floats(min_value=-1e6, max_value=1e6),
    }
)


def after(observed: Observed, m: dict[str, object]) -> Observed:
    """Return what is observed after one arbitrary moment."""
    add = {n: getattr(observed, n) + m[n] for n in ("sent", "ok", "refused", "unsent", "latency")}
    reported = dict(observed.reported)
    if isinstance(m["reported"], str):
        reported[m["reported"]] = msgspec.convert(
            {"limit": m["limit"], "most": m["limit"], "corrected": m["remaining"]}, Reported
        )
    bound = dict(observed.bound)
    bound[str(m["bound"])] = bound.get(str(m["bound"]), 0) + 1
    epoch = observed.epoch + bool(m["epoch"])
    return replace(
        observed,
        **add,
        in_flight=m["in_flight"],
        used_input=observed.used_input + float(str(m["tokens"])),
        used_output=observed.used_output + float(str(m["tokens"])),
        epoch=epoch,
        cut_gate=m["gate"] if m["epoch"] else observed.cut_gate,
        cut_in_flight=m["in_flight"] if m["epoch"] else observed.cut_in_flight,
        reported=reported,
        bound=bound,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(moments, max_size=25))
def test_the_orders_are_usable_whatever_is_observed(history: list[dict[str, object]]) -> None:
    """A window below 1, or a gate that never refills, would stop a lane for ever."""
    law, observed, now = Law(), Observed(), 0.0
    for m in history:
        now += float(str(m["passed"]))
        observed = after(observed, m)
        law = step(law, observed, now)
        given = orders(law, Caps())
        assert given.window >= 1
        for gate in given.gates.values():
            assert 0 < gate.rate < float("inf")
            assert gate.capacity > 0
            assert gate.reserve >= 0


@settings(max_examples=100, deadline=None)
@given(st.lists(moments, max_size=25))
def test_operator_caps_hold_whatever_is_observed(history: list[dict[str, object]]) -> None:
    """An operator sets a cap to limit costs, so the law never probes above it."""
    caps = Caps(requests=120.0, input=60_000.0, output=6_000.0, window=12)
    law, observed, now = Law(), Observed(), 0.0
    for m in history:
        now += float(str(m["passed"]))
        observed = after(observed, m)
        law = step(law, observed, now)
        given = orders(law, caps)
        assert given.window <= 12
        assert given.gates["requests"].rate <= 2.0
        assert given.gates["input"].rate <= 1000.0
        assert given.gates["output"].rate <= 100.0


@settings(max_examples=50, deadline=None)
@given(st.lists(moments, max_size=10))
def test_the_state_is_the_same_after_json(history: list[dict[str, object]]) -> None:
    """The governor stores it as JSON, and another worker goes on from there."""
    law, observed, now = Law(), Observed(), 0.0
    for m in history:
        now += float(str(m["passed"]))
        observed = after(observed, m)
        law = step(law, observed, now)
    assert msgspec.json.decode(msgspec.json.encode(law), type=Law) == law


def test_the_window_does_not_grow_while_it_does_not_bind() -> None:
    """A window that grew unused would let a burst through later."""
    law = worked(Law(), until=10.0, bound="pace", rate=8.0)
    assert law.window.size == Law().window.size


def test_one_epoch_is_cut_once() -> None:
    """The calls of one burst are refused together. That is one observation."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    more = replace(law.observed, refused=law.observed.refused + 9)
    later = step(law, more, 2.2)
    assert later.window.size == law.window.size
    assert later.probes == law.probes


def test_a_refusal_that_the_headers_explain_cuts_nothing() -> None:
    """The header already corrected the bucket. A cut would waste a part of the limit."""
    law = worked(Law(), until=2.0)
    reported = {"requests": Reported(limit=600.0, largest=600.0, corrected=0.0)}
    law = step(law, replace(law.observed, reported=reported), 2.1)
    cut = refused(law, now=2.2, gate="requests")
    assert cut.window == law.window
    assert not cut.rated


def test_a_concurrency_cap_sets_the_window_to_what_was_accepted() -> None:
    """A cap of 16 refuses the 17th call: the window becomes 16, not half of it."""
    law = worked(Law(), until=2.0)
    cut = refused(law, now=2.1, gate="window", in_flight=17)
    assert orders(cut, Caps()).window == 16


def test_a_named_dimension_is_the_one_that_is_cut() -> None:
    """A 429 that names output tokens is no reason to cut requests or the window."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="output")
    given = orders(law, Caps())
    assert "output" in given.gates
    assert "requests" not in given.gates
    assert law.window.cap == 0


def test_the_refill_is_measured_between_two_refusals() -> None:
    """The bucket was empty at both, so what was used between them is what was refilled."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    law = worked(law, until=12.1, bound="requests", rate=20.0)
    law = refused(law, now=12.2, gate="requests")
    assert law.probes["requests"].measured == pytest.approx(20.0, rel=0.05)


def test_a_reported_limit_is_adopted_at_once_and_the_same_report_again_changes_nothing() -> None:
    """The lane stores the newest header. Reading it again must not change the rate."""
    law = worked(Law(), until=2.0)
    reported = {"requests": Reported(limit=600.0, largest=600.0, corrected=-3.0)}
    law = step(law, replace(law.observed, reported=reported), 2.1)
    first = orders(law, Caps()).gates["requests"]
    assert first.rate == pytest.approx(10.0)
    for tick in range(200):
        law = step(law, law.observed, 2.2 + tick / 10)
    assert orders(law, Caps()).gates["requests"] == first


def test_what_other_users_of_the_key_drain_is_learned() -> None:
    """Steady corrections are the calls of other users, and these will go on."""
    law, corrected = Law(), 0.0
    for tick in range(1, 600):
        corrected -= 0.6  # others take 6 requests a second of 10
        reported = {"requests": Reported(limit=600.0, largest=600.0, corrected=corrected)}
        law = step(law, replace(law.observed, reported=reported), tick / 10)
        if law.drifts["requests"].rate < -6.0:
            break
    assert orders(law, Caps()).gates["requests"].rate < 5.0


def test_a_polite_lane_leaves_its_share_to_others() -> None:
    """Others may work with the same key."""
    reported = {"requests": Reported(limit=600.0, largest=600.0, corrected=0.0)}
    law = step(Law(), Observed(reported=reported), 1.0)
    gate = orders(law, Caps(polite=0.25)).gates["requests"]
    assert gate.rate == pytest.approx(7.5)
    assert not gate.follows_headers


def test_a_clock_that_jumps_moves_nothing() -> None:
    """Redis TIME follows the machine's clock, which may be set."""
    law = worked(Law(), until=2.0)
    for now in (2.1, 3602.1, 1.0, 1.1):
        law = step(law, law.observed, now)
    assert orders(law, Caps()).window == int(law.window.size)
    assert law.window.cap == 0


def test_an_unused_lane_forgets_what_others_took() -> None:
    """Without calls there are no headers, so the end of a drain would not be noticed."""
    law = Law()
    for tick in range(1, 180):
        reported = {
            "requests": Reported(limit=600.0, largest=600.0, corrected=-20.0 * (tick > 120))
        }
        law = step(law, Observed(reported=reported), tick / 10)
    drained = orders(law, Caps()).gates["requests"].rate
    for tick in range(180, 800):
        law = step(law, law.observed, tick / 10)
    assert drained < 9.5
    assert orders(law, Caps()).gates["requests"].rate > 9.8


def test_a_rate_can_be_tried_for_a_night_without_a_refusal() -> None:
    """When a limit is gone for good, nothing stops the doubling, and numbers must not overflow."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    for tick in range(3000):
        law = worked(law, until=law.at + 0.05, bound="requests", rate=20.0)
        law = step(law, law.observed, law.at + 30.0)
        if tick % 1000 == 0:
            assert orders(law, Caps()).gates["requests"].rate > 0
    assert orders(law, Caps()).gates["requests"].rate < float("inf")


def test_calls_go_one_by_one_while_nothing_is_let_in() -> None:
    """A debt takes its time to be paid off. Until then every call is refused."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    again = replace(law.observed, refused=law.observed.refused + 1, epoch=law.observed.epoch + 1)
    law = step(law, replace(again, sent=again.sent + 1), 2.5)
    pace = orders(law, Caps()).gates["pace"]
    assert (law.blamed, pace.capacity) == ("", 1.0)
    assert pace.rate * law.pause == pytest.approx(1.5)
    law = worked(law, until=2.8)
    assert orders(law, Caps()).gates["pace"].capacity > 1.0


def test_a_call_on_its_way_does_not_end_a_debt() -> None:
    """A call counts as accepted until it is refused, some milliseconds later."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    again = replace(law.observed, sent=law.observed.sent + 1, refused=law.observed.refused + 1)
    law = step(law, replace(again, epoch=again.epoch + 1), 2.5)
    on_its_way = replace(law.observed, sent=law.observed.sent + 1)
    assert step(law, on_its_way, 2.6).in_debt
    assert not step(step(law, on_its_way, 2.6), on_its_way, 2.7).in_debt


def test_refusals_that_headers_explain_leave_the_rate_that_was_found_alone() -> None:
    """Such a refusal is no debt. A rate of 0 would never be probed again."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    reported = {"requests": Reported(limit=600.0, largest=600.0, corrected=0.0)}
    law = step(law, replace(law.observed, reported=reported), 2.2)
    cut = refused(worked(law, until=4.0), now=4.1, gate="requests")
    assert (cut.blamed, cut.in_debt) == ("", False)
    assert cut.probes == worked(law, until=4.0).probes


def test_a_window_is_not_to_blame_when_its_cap_is_refused_again_soon() -> None:
    """A rate limit refuses at any number of calls in flight, and each would shrink the window."""
    law = msgspec.structs.replace(
        Law(), window=Window(size=18.0, cap=18.0, peak=18.0, hold=200.0, hold_length=256.0)
    )
    law = step(law, Observed(sent=100, ok=83, in_flight=17), 1.0)
    law = refused(law, now=1.1, in_flight=18)
    assert law.blamed == "requests"
    assert law.window.size == pytest.approx(18.0)


def test_a_call_that_was_overtaken_shows_the_same_cap() -> None:
    """The 257th call was counted as the 253rd, and a rate was cut to a third instead of the cap."""
    seen = Observed(sent=300, ok=40, refused=4, in_flight=256, epoch=4)
    met = {"alike": 4, "cut_in_flight": 257, "cut_accepted": 256, "rated": True}
    window = Window(size=514.0, peak=256.0)
    law = msgspec.structs.replace(Law(), observed=seen, at=1.0, window=window, **met)
    law = refused(law, now=1.1, in_flight=253)
    assert (law.alike, law.blamed) == (5, "window")


def test_a_known_cap_that_falls_is_followed_down() -> None:
    """While more calls run than a lower cap allows, all are refused. That is no rate limit."""
    law = msgspec.structs.replace(
        Law(), window=Window(size=64.0, cap=64.0, peak=64.0, hold_length=300.0)
    )
    law = step(law, Observed(sent=100, ok=36, in_flight=64), 1.0)
    law = refused(law, now=1.1, in_flight=64)
    assert law.blamed == "window"
    observed = replace(
        law.observed, in_flight=40, sent=law.observed.sent + 1, refused=law.observed.refused + 1
    )
    law = step(law, replace(observed, epoch=observed.epoch + 1, cut_in_flight=41), 2.0)
    assert law.window.size == pytest.approx(39.0)


def test_a_cap_that_falls_is_followed_although_a_call_was_accepted() -> None:
    """A cap of 56 that fell to 28 was taken for a rate at 39, and half of it used for a minute."""
    window = Window(size=39.0, cap=39.0, peak=27.0, hold_length=96.0)
    seen = Observed(sent=300, ok=240, refused=4, in_flight=27, epoch=4)
    met = {"cut_in_flight": 41, "cut_accepted": 256, "rated": True, "blamed": "window"}
    law = msgspec.structs.replace(Law(), observed=seen, at=1.0, window=window, **met)
    law = msgspec.structs.replace(law, bound_at={"requests": 0.0})
    law = refused(law, now=1.1, in_flight=29)
    assert (law.blamed, law.window.size) == ("window", 28.0)
