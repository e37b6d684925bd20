"""The law of a lane: how fast calls may start, and how many may run, over the whole fleet. Pure.

One of four things limits a lane: the endpoint's bucket of requests, of input tokens or of output
tokens, or the number of calls that the endpoint runs at once (the window). A limit that headers
report is followed (header_bucket.py). A limit that no header reports is found by probing
(probing.py, window.py).

After a refusal (a 429) the law decides which of the four to blame and cuts that one only. It cuts
once an epoch: the calls of one burst are refused together, and their refusals are one observation.
Without a refusal, only the limit that keeps calls waiting grows.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.limiter.bounds import LEAST_RATE, LONGEST_CALL_S, bounded
from nightmill_worker.limiter.header_bucket import Drift
from nightmill_worker.limiter.memory import aged_drift, aged_probe, aged_window, trust
from nightmill_worker.limiter.opening import (
    UNPROVEN_PACE,
    first_refill,
    most_pace,
    room,
    window_pace,
)
from nightmill_worker.limiter.probing import READABLE_CALLS, Probe
from nightmill_worker.limiter.records import DIMENSIONS, Observed
from nightmill_worker.limiter.window import Window

LARGEST_CHANGE: Final = 10.0
"""One step takes calls for this many times as long as before, at most: a single call whose time is
wrong must not slow the lane down for long."""
LATENCY_CALLS: Final = 256.0
"""The mean length of calls is one over as many calls as are in flight usually, at most this."""
NEVER: Final = -1e9
"""Before the law's clock began, seconds."""
LONGEST_STEP_S: Final = 60.0
"""The law's clock moves by this much at most between two steps, seconds."""
PAUSE_S: Final = (0.25, 6.0)
"""Bounds of the pause after a refusal, seconds. In a debt, one call asks per pause."""
BINDING_S: Final = 3.0
"""A gate that kept calls waiting within this many seconds counts as binding."""
OUTPUT_RULE_S: Final = 90.0
"""The assumption how output is charged changes at most this often, seconds."""
COMPARE_AFTER: Final = 4
"""Measurements before dimensions are compared with each other."""
ALIKE_REFUSALS: Final = 3
"""After this many refusals in a row at the same number of calls in flight, it is no accident."""
FELL: Final = 0.9
"""A cap that refuses below this share of itself, as at the last refusal, goes on falling."""
LONG_DEBT_S: Final = 20.0
"""A debt that lasts so long is one of output, seconds."""
LARGEST_SURPRISE: Final = 0.15
"""A larger surprise is a limit that changed. It does not tell which dimension is limited."""
FULL_WEIGHT_CALLS: Final = 50
"""A measurement over fewer calls has less weight when dimensions are compared."""
CLEARER: Final = 0.7
"""Another dimension becomes the suspect when its doubt is below this share of the suspect's."""


class Law(
    msgspec.Struct, frozen=True, kw_only=True, rename={"observed": "seen", "in_debt": "owed"}
):
    """What the law knows of a lane, stored with the lane."""

    at: float = 0.0
    """Redis's clock at the last step, seconds; 0 before the first."""
    clock: float = 0.0
    """The law's own clock, seconds. It never goes back, and a jump of Redis's moves it little."""
    observed: Observed = Observed()
    """What the last step observed."""
    latency: float = 0.0
    """Length of a call, seconds, as a moving mean; 0 before the first answer."""
    window: Window = Window()
    probes: dict[str, Probe] = {}
    """Dimension -> what probing found."""
    suspect: str = "requests"
    """The dimension that is limited, as far as is known."""
    doubt: dict[str, float] = {}
    """Dimension -> how much its measurements differ from each other, as a moving mean."""
    measured: int = 0
    """How many measurements went into `doubt`."""
    rated: bool = False
    """Whether the suspect's probe limits the lane."""
    drifts: dict[str, Drift] = {}
    """Dimension -> what other users of the credential take."""
    reserves: bool = False
    """Whether the endpoint seems to charge max_tokens when a call starts; see Orders."""
    reserves_at: float = -OUTPUT_RULE_S
    """When `reserves` last changed, by the law's clock, seconds."""
    blamed: str = ""
    """What the last refusal was blamed on: "window", a dimension, or "" when nothing was cut."""
    bound_at: dict[str, float] = {}
    """Gate -> when it last kept a call waiting, by the law's clock, seconds."""
    pause: float = 0.25
    """The first pause after the next refusal, seconds."""
    in_flight: tuple[int, ...] = (0, 0, 0)
    """Calls in flight at the last three steps."""
    cut_accepted: int = 0
    """The counter of accepted calls at the last refusal."""
    cut_in_flight: int = 0
    """Calls in flight at the last refusal."""
    alike: int = 0
    """Refusals in a row at about the same number of calls in flight."""
    since: float = 0.0
    """When the first call was observed, by the law's clock, seconds."""
    busy_at: float = 0.0
    """Redis's clock when calls were last sent or in flight, seconds; 0 before the first."""
    rested_ok: int = -1
    """The counter of answered calls at the last rest, -1 before the first. Until a call is
    answered after a rest, no higher rate is tried: the endpoint may queue calls and fail them."""
    doubted_at: float = NEVER
    """When a call was last refused or failed, by the law's clock, seconds."""
    in_debt: bool = False
    """True after two refusals with no call accepted between them. Calls then go one by one until
    one is accepted."""


def step(law: Law, observed: Observed, now: float) -> Law:
    """Return the law's next state. `now` is Redis's clock, seconds: it may stand still or jump.

    `observed` may hold any values: they are bounded first, and the new state has them bounded.
    """
    observed = observed.within_bounds()
    passed = bounded(now - law.at, 0.0, LONGEST_STEP_S) if law.at else 0.0
    clock = law.clock + passed
    law = _rested(_sound(law, observed), observed, now, clock)
    law = _observe(law, observed, clock, passed)
    if observed.epoch != law.observed.epoch:
        law = _after_refusal(law, observed, clock)
    else:
        law = _after_calls(law, observed, clock, min(1.0, passed))
    return msgspec.structs.replace(law, observed=observed, at=now, clock=clock)


def _sound(law: Law, observed: Observed) -> Law:
    """Return a law that can go on from here.

    When the lane's counters started again at 0, all that was measured against the old ones is void.
    Earlier versions could store a probe with a rate of 0: it is dropped.
    """
    if not observed.continues(law.observed):
        return Law(at=law.at, clock=law.clock, latency=law.latency, observed=observed)
    if all(probe.rate >= LEAST_RATE for probe in law.probes.values()):
        return law
    probes = {d: probe for d, probe in law.probes.items() if probe.rate >= LEAST_RATE}
    return msgspec.structs.replace(law, probes=probes, rated=law.rated and law.suspect in probes)


def _rested(law: Law, observed: Observed, now: float, clock: float) -> Law:
    """Return the law of a lane in which calls go on after a rest: what it learned counts less.

    A lane that keeps jobs waiting, in a debt of minutes, does not rest. Where the breaker keeps
    them waiting, all that was learned stays, but no refill is measured over that time.
    """
    if observed.bound.get("breaker", 0) > law.observed.bound.get("breaker", 0):
        probes = {d: aged_probe(p, 1.0, clock, observed, d) for d, p in law.probes.items()}
        return msgspec.structs.replace(law, probes=probes, busy_at=now)
    waiting = observed.bound != law.observed.bound
    busy = waiting or observed.in_flight > 0 or observed.sent > law.observed.sent
    share = trust(now - law.busy_at) if busy and law.busy_at else 1.0
    law = msgspec.structs.replace(law, busy_at=now) if busy else law
    if share >= 1.0:
        return law
    return msgspec.structs.replace(
        law,
        rested_ok=observed.ok,
        window=aged_window(law.window, share),
        probes={d: aged_probe(p, share, clock, observed, d) for d, p in law.probes.items()},
        drifts={d: aged_drift(drift, share) for d, drift in law.drifts.items()},
    )


def _observe(law: Law, observed: Observed, now: float, passed: float) -> Law:
    """Update what needs no decision: latency, binding gates, drifts, recent calls in flight."""
    answered = observed.ok - law.observed.ok
    latency = law.latency
    if answered > 0:
        mean = (observed.latency - law.observed.latency) / answered
        mean = bounded(mean, 0.0, LARGEST_CHANGE * latency if latency else LONGEST_CALL_S)
        # When a queue runs empty, only its longest calls are left.
        calls = max(1.0, observed.in_flight, min(law.window.size / 2, LATENCY_CALLS))
        weight = min(1.0, answered / calls) if latency else 1.0
        latency += weight * (mean - latency)
    before = law.observed.bound
    bound = {name: now for name, count in observed.bound.items() if count > before.get(name, 0)}
    named = observed.cut_gate if observed.epoch != law.observed.epoch else ""
    drifts = {
        d: law.drifts.get(d, Drift()).learn(reported, now).with_caution(passed, refused=d == named)
        for d, reported in observed.reported.items()
    }
    reserves, reserves_at = law.reserves, law.reserves_at
    if named == "output" and named in observed.reported and now - reserves_at > OUTPUT_RULE_S:
        reserves, reserves_at = not reserves, now
        # Under the wrong assumption, the fleet's own output looked like another user's.
        drifts[named] = msgspec.structs.replace(drifts[named], rate=0.0)
    return msgspec.structs.replace(
        law,
        since=law.since if law.observed.sent else now,
        doubted_at=now if observed.doubts > law.observed.doubts else law.doubted_at,
        reserves=reserves,
        reserves_at=reserves_at,
        latency=latency,
        bound_at={**law.bound_at, **bound},
        drifts=drifts,
        in_flight=(*law.in_flight[1:], observed.in_flight),
    )


def _after_calls(law: Law, observed: Observed, now: float, passed: float) -> Law:
    """Let the limit grow that keeps calls waiting."""
    bound = law.bound_at.get("window") == now
    in_flight = 0 if law.in_debt else min(law.in_flight)
    window = law.window.after_answers(observed.ok - law.observed.ok, in_flight, bound=bound)
    window = window.with_room(room(observed, observed.in_flight))
    tried = {d for d in law.probes if law.bound_at.get(d) == now and observed.ok > law.rested_ok}
    probes = {
        d: probe.after_calls(now, passed, observed.accepted, observed.used(d), bound=d in tried)
        for d, probe in law.probes.items()
    }
    # Calls that counted as accepted at the last refusal may have been refused since.
    base = min(law.cut_accepted, observed.accepted)
    in_debt = law.in_debt and min(law.observed.accepted, observed.accepted) <= base
    if law.in_debt and not in_debt and law.suspect == "output" and "output" in probes:
        used = observed.used("output")
        owing = probes["output"]
        probes["output"] = owing.after_debt(now, observed.accepted, used, observed.refused)
    return msgspec.structs.replace(
        law, window=window, probes=probes, in_debt=in_debt, cut_accepted=base
    )


def _after_refusal(law: Law, observed: Observed, now: float) -> Law:
    """Blame a refusal on something, and cut that."""
    reached = observed.reached
    difference = abs(reached - law.cut_in_flight)
    alike = difference <= min(1.0, 0.1 * law.cut_in_flight)
    # Up to READABLE_CALLS of the calls that count as accepted may only be on their way.
    surely = max(min(law.observed.accepted, observed.accepted), observed.accepted - READABLE_CALLS)
    accepted = surely > law.cut_accepted if law.observed.epoch else observed.accepted > 0
    law = msgspec.structs.replace(law, alike=law.alike + 1 if alike else 0, in_debt=not accepted)
    law = msgspec.structs.replace(
        law,
        blamed=_blame(law, observed, now),
        cut_accepted=observed.accepted if accepted else surely,
        cut_in_flight=reached,
    )
    if not law.blamed:
        owing = law.probes if law.in_debt else {}
        probes = law.probes | {d: probe.in_debt(now, law.latency) for d, probe in owing.items()}
        suspect = "output" if _is_output_debt(law, observed, now) else law.suspect
        pause = min(PAUSE_S[1], 2 * law.pause)
        return msgspec.structs.replace(law, probes=probes, suspect=suspect, pause=pause)
    if law.blamed == "window":
        in_flight = observed.cut_in_flight if accepted else observed.in_flight
        size = min(law.window.size, in_flight) - 1
        window = law.window.after_refusal(size, law.latency, accepted=accepted)
    else:
        window = msgspec.structs.replace(law.window, peak=0.0)
    pause = max(PAUSE_S[0], 0.8 * law.pause)
    law = msgspec.structs.replace(law, window=window, pause=pause)
    return _measure(law, observed, now, cut=law.blamed != "window")


def _is_output_debt(law: Law, observed: Observed, now: float) -> bool:
    """Return whether a debt is one of output: only output is charged long after a call started.

    It lasts, and most calls have ended meanwhile, so it is no cap on calls in flight.
    """
    probe = law.probes.get("output")
    long = law.in_debt and probe is not None and now - probe.empty_at >= LONG_DEBT_S
    ended = 4 * observed.in_flight < law.window.size  # the window was twice of what was in flight
    return long and ended and not observed.cut_gate and observed.used("output") > 0


def _blame(law: Law, observed: Observed, now: float) -> str:
    """Return what a refusal is blamed on: "window", a dimension, or "" when a pause will do."""
    named = observed.cut_gate
    if named == "window":
        return "window"
    if named in observed.reported or (law.in_debt and (named or not law.window.cap_sure)):
        return ""
    if named:  # a dimension of which nothing was used yet cannot be measured
        return named if observed.used(named) > 0 else "requests"
    last_was_window = law.blamed == "window" and not law.window.cap_sure
    no_cap = last_was_window and law.window.peak >= law.cut_in_flight  # as many were accepted since
    first = not law.rated and not law.window.cap
    if no_cap or first:  # two more refusals show a rate; a cap that is none costs many calls
        return law.suspect
    fell = law.blamed == "window" and observed.reached < FELL * law.window.cap
    if law.in_debt or (fell and law.window.cap_sure):
        return "window"  # a known cap that fell
    untested = law.window.cap_known or law.window.untested(observed.reached)
    paced = now - law.bound_at.get(law.suspect, -BINDING_S) < BINDING_S
    return "window" if untested and (law.alike >= ALIKE_REFUSALS or not paced) else law.suspect


def _measure(law: Law, observed: Observed, now: float, *, cut: bool) -> Law:
    """Measure the refill between the last refusal and this one in every dimension.

    The limited dimension refills evenly, so its measurements agree with each other. Where no 429
    names a dimension, the one whose measurements agree best becomes the suspect.
    """
    probes, doubt = {}, dict(law.doubt)
    for d in DIMENSIONS:
        calls, used = observed.accepted, observed.used(d)
        old = law.probes.get(d)
        if old is None or (d == law.blamed and not old.used):
            # There is no refill to measure: nothing was used before the last refusal.
            pace = pace_of(law)
            if cut:
                fast = pace_of(law, at_least=UNPROVEN_PACE)
                pace = min(0.5 * fast, first_refill(calls, now - law.since))
            rate = pace * used / max(1, calls)
            probes[d] = Probe.at(now, rate, calls, used, observed.refused)
            continue
        paused = law.observed.paused
        probes[d] = old.after_refusal(now, calls, used, observed.refused, paused) if cut else old
        if cut and calls - old.calls >= READABLE_CALLS:
            surprise = min(LARGEST_SURPRISE, probes[d].surprise(old))
            weight = 0.3 * min(1.0, (calls - old.calls) / FULL_WEIGHT_CALLS)
            doubt[d] = doubt.get(d, 0.0) + weight * (surprise - doubt.get(d, 0.0))
    measured = law.measured + (doubt != law.doubt)
    suspect = law.blamed if law.blamed in DIMENSIONS else law.suspect
    if measured >= COMPARE_AFTER and not observed.cut_gate:
        used_ones = (d for d in DIMENSIONS if observed.used(d) > 0)
        best = min(used_ones, key=lambda d: doubt[d], default=suspect)
        suspect = best if doubt[best] + 0.01 < CLEARER * doubt[suspect] else suspect
    return msgspec.structs.replace(
        law, probes=probes, doubt=doubt, measured=measured, suspect=suspect, rated=law.rated or cut
    )


def pace_of(law: Law, *, at_least: float = 0.0) -> float:
    """Return how many calls may start a second, as the window says.

    While a lane opens, `at_least` is the least bound on that. A lane that opens slowly because its
    calls differ much has not shown that its limit is low.
    """
    limited = law.rated or law.window.cap > 0
    most = max(at_least, most_pace(law.observed, law.latency, law.clock - law.since))
    return window_pace(law.window, law.latency, limited=limited, most=most)


def rated_probe(law: Law) -> Probe | None:
    """Return the probe that limits the lane, None while no refusal has shown a rate."""
    return law.probes.get(law.suspect) if law.rated else None
