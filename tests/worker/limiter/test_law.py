"""What the law promises whatever a lane sees: caps hold, one cut an epoch, nothing below zero."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import DIMENSIONS, Law, orders, step
from nightmill_worker.limiter.probing import Window
from nightmill_worker.limiter.records import Caps, Observed

GATES = ("window", "pace", *DIMENSIONS)


def replace(seen: Observed, **changes: object) -> Observed:
    """Return `seen` with other fields, types unchecked as in msgspec itself."""
    return msgspec.structs.replace(seen, **changes)


def worked(law: Law, *, until: float, bound: str = "window", rate: float = 20.0) -> Law:
    """Let a lane answer `rate` calls a second for a while with one gate binding."""
    now, seen = law.at, law.seen
    while now < until:
        now += 0.1
        sent = seen.sent + round(rate / 10)
        in_flight = int(law.window.size)
        count = {**seen.bound, bound: seen.bound.get(bound, 0) + 1}
        seen = replace(
            seen, sent=sent, ok=sent, latency=float(sent), in_flight=in_flight, bound=count
        )
        law = step(law, seen, now)
    return law


def refused(law: Law, *, now: float, gate: str = "", in_flight: int | None = None) -> Law:
    """Let one call of a new epoch be refused."""
    seen = law.seen
    seen = replace(
        seen,
        sent=seen.sent + 2,
        ok=seen.ok + 1,
        refused=seen.refused + 1,
        epoch=seen.epoch + 1,
        cut_gate=gate,
        cut_in_flight=seen.in_flight if in_flight is None else in_flight,
    )
    return step(law, seen, now)


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
        "told": st.none() | st.sampled_from(DIMENSIONS),
        "limit": st.floats(min_value=1, max_value=1e7),
        "remaining": st.floats(min_value=-1e6, max_value=1e6),
    }
)


def after(seen: Observed, m: dict[str, object]) -> Observed:
    """Return what is seen after one arbitrary moment."""
    add = {n: getattr(seen, n) + m[n] for n in ("sent", "ok", "refused", "unsent", "latency")}
    told = dict(seen.told)
    if isinstance(m["told"], str):
        told[m["told"]] = msgspec.convert(
            {"limit": m["limit"], "most": m["limit"], "corrected": m["remaining"]}, Reported
        )
    bound = dict(seen.bound)
    bound[str(m["bound"])] = bound.get(str(m["bound"]), 0) + 1
    epoch = seen.epoch + bool(m["epoch"])
    return replace(
        seen,
        **add,
        in_flight=m["in_flight"],
        used_input=seen.used_input + float(str(m["tokens"])),
        used_output=seen.used_output + float(str(m["tokens"])),
        epoch=epoch,
        cut_gate=m["gate"] if m["epoch"] else seen.cut_gate,
        cut_in_flight=m["in_flight"] if m["epoch"] else seen.cut_in_flight,
        told=told,
        bound=bound,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(moments, max_size=25))
def test_whatever_is_seen_the_orders_stay_usable(story: list[dict[str, object]]) -> None:
    """A window below one or a gate that never refills would stop a lane for good."""
    law, seen, now = Law(), Observed(), 0.0
    for m in story:
        now += float(str(m["passed"]))
        seen = after(seen, m)
        law = step(law, seen, now)
        told = orders(law, Caps())
        assert told.window >= 1
        for gate in told.gates.values():
            assert 0 < gate.rate < float("inf")
            assert gate.capacity > 0
            assert gate.reserve >= 0


@settings(max_examples=100, deadline=None)
@given(st.lists(moments, max_size=25))
def test_operator_caps_hold_whatever_is_seen(story: list[dict[str, object]]) -> None:
    """A configured limit is somebody's budget: the law never probes above it."""
    caps = Caps(requests=120.0, input=60_000.0, output=6_000.0, window=12)
    law, seen, now = Law(), Observed(), 0.0
    for m in story:
        now += float(str(m["passed"]))
        seen = after(seen, m)
        law = step(law, seen, now)
        told = orders(law, caps)
        assert told.window <= 12
        assert told.gates["requests"].rate <= 2.0
        assert told.gates["input"].rate <= 1000.0
        assert told.gates["output"].rate <= 100.0


@settings(max_examples=50, deadline=None)
@given(st.lists(moments, max_size=10))
def test_the_state_survives_its_way_through_the_hash(story: list[dict[str, object]]) -> None:
    """The governor keeps it as JSON; another worker goes on where the last one stopped."""
    law, seen, now = Law(), Observed(), 0.0
    for m in story:
        now += float(str(m["passed"]))
        seen = after(seen, m)
        law = step(law, seen, now)
    assert msgspec.json.decode(msgspec.json.encode(law), type=Law) == law


def test_the_window_doubles_per_round_trip_until_something_refuses() -> None:
    """An endpoint without limits must not be held back for long."""
    law = worked(Law(), until=1.05, rate=160.0)
    assert law.window.size == pytest.approx(2**4 * 11, rel=0.5)


def test_the_window_does_not_grow_while_it_does_not_bind() -> None:
    """A window grown while idle would let a burst through later."""
    law = worked(Law(), until=10.0, bound="pace")
    assert law.window.size == Law().window.size


def test_one_epoch_is_cut_once() -> None:
    """The calls of one burst are refused together; that is one piece of news."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    more = replace(law.seen, refused=law.seen.refused + 9)
    later = step(law, more, 2.2)
    assert later.window.size == law.window.size
    assert later.probes == law.probes


def test_a_refusal_that_the_headers_explain_cuts_nothing() -> None:
    """The mirror was corrected by the same header; a cut would only lose what is allowed."""
    law = worked(Law(), until=2.0)
    told = {"requests": Reported(limit=600.0, most=600.0, corrected=0.0)}
    law = step(law, replace(law.seen, told=told), 2.1)
    cut = refused(law, now=2.2, gate="requests")
    assert cut.window == law.window
    assert not cut.rated


def test_a_concurrency_cap_sets_the_window_to_what_was_accepted() -> None:
    """A cap of 64 refuses the 65th: the window is 64 then, not half of it."""
    law = worked(Law(), until=2.0)
    cut = refused(law, now=2.1, gate="window", in_flight=17)
    assert orders(cut, Caps()).window == 16


def test_a_named_dimension_is_the_one_that_is_cut() -> None:
    """A message that names output tokens says nothing against the number of calls."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="output")
    told = orders(law, Caps())
    assert "output" in told.gates
    assert "requests" not in told.gates
    assert law.window.roof == 0


def test_the_refill_is_read_between_two_refusals() -> None:
    """The bucket was empty at both ends, so what passed between is what came in."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    law = worked(law, until=12.1, bound="requests", rate=20.0)
    law = refused(law, now=12.2, gate="requests")
    assert law.probes["requests"].measured == pytest.approx(20.0, rel=0.05)


def test_a_told_limit_is_adopted_at_once_and_a_stale_copy_of_it_changes_nothing() -> None:
    """Settle keeps the newest header only; seeing it again must not move the rate."""
    law = worked(Law(), until=2.0)
    told = {"requests": Reported(limit=600.0, most=600.0, corrected=-3.0)}
    law = step(law, replace(law.seen, told=told), 2.1)
    first = orders(law, Caps()).gates["requests"]
    assert first.rate == pytest.approx(10.0)
    for tick in range(200):
        law = step(law, law.seen, 2.2 + tick / 10)
    assert orders(law, Caps()).gates["requests"] == first


def test_what_other_users_of_the_key_drain_is_learned() -> None:
    """Corrections that keep coming are somebody else's calls, and will keep coming."""
    law, corrected = Law(), 0.0
    for tick in range(1, 600):
        corrected -= 0.6  # six a second of ten
        told = {"requests": Reported(limit=600.0, most=600.0, corrected=corrected)}
        law = step(law, replace(law.seen, told=told), tick / 10)
        if law.drifts["requests"].rate < -6.0:
            break
    assert orders(law, Caps()).gates["requests"].rate < 5.0


def test_a_polite_lane_leaves_its_share_to_others() -> None:
    """People work with the same key by day."""
    told = {"requests": Reported(limit=600.0, most=600.0, corrected=0.0)}
    law = step(Law(), Observed(told=told), 1.0)
    gate = orders(law, Caps(polite=0.25)).gates["requests"]
    assert gate.rate == pytest.approx(7.5)
    assert not gate.mirror


def test_a_clock_that_jumps_moves_nothing() -> None:
    """Redis TIME follows the machine's clock, which an administrator may set."""
    law = worked(Law(), until=2.0)
    for now in (2.1, 3602.1, 1.0, 1.1):
        law = step(law, law.seen, now)
    assert orders(law, Caps()).window == int(law.window.size)
    assert law.window.roof == 0


def test_a_lane_that_nobody_uses_forgets_what_others_drained() -> None:
    """Without calls there are no headers: a drain that ended would never be noticed."""
    law = Law()
    for tick in range(1, 180):
        told = {"requests": Reported(limit=600.0, most=600.0, corrected=-20.0 * (tick > 120))}
        law = step(law, Observed(told=told), tick / 10)
    drained = orders(law, Caps()).gates["requests"].rate
    for tick in range(180, 800):
        law = step(law, law.seen, tick / 10)
    assert drained < 9.5
    assert orders(law, Caps()).gates["requests"].rate > 9.8


def test_a_rate_can_be_tried_for_a_night_without_a_refusal() -> None:
    """A limit that was lifted for good leaves nothing to stop the doubling."""
    law = refused(worked(Law(), until=2.0), now=2.1, gate="requests")
    for tick in range(3000):
        law = worked(law, until=law.at + 0.05, bound="requests", rate=20.0)
        law = step(law, law.seen, law.at + 30.0)
        if tick % 1000 == 0:
            assert orders(law, Caps()).gates["requests"].rate > 0
    assert orders(law, Caps()).gates["requests"].rate < float("inf")


def test_calls_go_one_by_one_while_nothing_is_let_in() -> None:
    """A debt is paid off in its own time: every call that asks meanwhile is refused for nothing."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    again = replace(law.seen, refused=law.seen.refused + 1, epoch=law.seen.epoch + 1)
    law = step(law, replace(again, sent=again.sent + 1), 2.5)
    pace = orders(law, Caps()).gates["pace"]
    assert (law.blamed, pace.capacity) == ("", 1.0)
    assert pace.rate * law.pause == pytest.approx(1.5)
    law = worked(law, until=2.8)
    assert orders(law, Caps()).gates["pace"].capacity > 1.0


def test_a_call_on_its_way_does_not_end_a_debt() -> None:
    """It counts as let in until it is refused, some milliseconds later."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    again = replace(law.seen, sent=law.seen.sent + 1, refused=law.seen.refused + 1)
    law = step(law, replace(again, epoch=again.epoch + 1), 2.5)
    on_its_way = replace(law.seen, sent=law.seen.sent + 1)
    assert step(law, on_its_way, 2.6).owed
    assert not step(step(law, on_its_way, 2.6), on_its_way, 2.7).owed


def test_refusals_that_headers_explain_leave_the_rate_that_was_found_alone() -> None:
    """A mirror that is off for a moment is no debt; a rate of nothing is never tried again."""
    law = refused(worked(Law(), until=2.0), now=2.1)
    told = {"requests": Reported(limit=600.0, most=600.0, corrected=0.0)}
    law = step(law, replace(law.seen, told=told), 2.2)
    cut = refused(worked(law, until=4.0), now=4.1, gate="requests")
    assert (cut.blamed, cut.owed) == ("", False)
    assert cut.probes == worked(law, until=4.0).probes


def test_a_told_limit_opens_the_window_without_its_binding() -> None:
    """A limit of 30 a second keeps 30 calls of a second in flight: nothing is to be found out."""
    told = {"requests": Reported(limit=1800.0, most=12.0, corrected=0.0)}
    law = step(Law(), Observed(told=told), 0.1)
    assert worked(law, until=3.0, bound="requests").window.size == pytest.approx(30.0, abs=4.0)


def test_a_window_refused_soon_again_below_its_roof_was_innocent() -> None:
    """A rate refuses at any number of calls in flight; each would make the window smaller."""
    law = msgspec.structs.replace(
        Law(), window=Window(size=18.0, roof=18.0, peak=18.0, hold=200.0, pause=256.0)
    )
    law = step(law, Observed(sent=100, ok=82, in_flight=18), 1.0)
    law = refused(law, now=1.1, in_flight=18)
    assert law.blamed == "requests"
    assert law.window.size == pytest.approx(18.0)


def test_a_known_cap_that_falls_is_followed_down() -> None:
    """Calls in flight above a new cap are let run out, not mistaken for a rate."""
    law = msgspec.structs.replace(
        Law(), window=Window(size=64.0, roof=64.0, peak=64.0, pause=300.0)
    )
    law = step(law, Observed(sent=100, ok=36, in_flight=64), 1.0)
    law = refused(law, now=1.1, in_flight=64)
    assert law.blamed == "window"
    seen = replace(law.seen, in_flight=40, sent=law.seen.sent + 1, refused=law.seen.refused + 1)
    law = step(law, replace(seen, epoch=seen.epoch + 1, cut_in_flight=41), 2.0)
    assert law.window.size == pytest.approx(39.0)
