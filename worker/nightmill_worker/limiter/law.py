"""The law of a lane: how fast calls may start and how many may run, over the whole fleet. Pure.

What limits a lane is one of four: the endpoint's buckets for requests, input and output tokens,
or the number of calls it lets run at once. Where headers tell a limit it is followed (mirror);
where nobody tells, it is found by trying (growth). A refusal is blamed on one of the four first,
and cuts that one only, once an epoch. Growth goes only along the gate that keeps calls waiting.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.limiter.header_bucket import Drift, refill, reserve
from nightmill_worker.limiter.probing import ENOUGH, Probe, Window
from nightmill_worker.limiter.records import Caps, Gate, Observed, Orders

DIMENSIONS: Final = ("requests", "input", "output")
FIRST_LATENCY_S: Final = 1.0
"""Taken for a call's length until the first has ended."""
AHEAD: Final = 1.5
"""Calls start this much faster than the window turns over, evenly, never in bursts."""
FAR_AHEAD: Final = 3.0
"""The same once the endpoint's cap is known: a free slot need not wait."""
GRAIN_S: Final = 0.05
"""A bucket that we fill ourselves holds a call and this many seconds' worth for late claims."""
CAPPED_S: Final = 1.0
"""The same for an operator's cap on tokens: what was reserved too much must fit in again."""
LONGEST_S: Final = 60.0
"""Between two steps no more time passes than this, whatever the clock says."""
PAUSE_S: Final = (0.25, 6.0)
"""Bounds of the pause after a refusal, and between calls while a debt they ran into is paid."""
LATELY_S: Final = 3.0
"""A gate that kept calls waiting within this time was binding."""
SEMANTICS_S: Final = 90.0
"""A mirror of output that proves wrong changes how output is charged, this often at most."""
COMPARED: Final = 4
"""Measurements before dimensions are compared."""
ALIKE: Final = 3
"""Refusals in a row at the same number of calls in flight are no accident after this many."""
CHANGED: Final = 0.15
"""More surprise than this is a limit that changed, which says nothing about what it is of."""
TELLING: Final = 50
"""A reading over fewer calls says little about which dimension is limited."""
SURER: Final = 0.7
"""Another dimension is believed when its refills agree with each other this much better."""


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """What the law knows of a lane. `seen` and `at` are of its last step.

    `clock` is the law's own time in seconds, which no jump of `at` moves far. `owed`: nothing was
    let in between the last two refusals, so calls ask one by one until one is.
    """

    at: float = 0.0
    clock: float = 0.0
    seen: Observed = Observed()
    latency: float = 0.0
    window: Window = Window()
    probes: dict[str, Probe] = {}
    suspect: str = "requests"
    doubt: dict[str, float] = {}
    measured: int = 0
    rated: bool = False
    drifts: dict[str, Drift] = {}
    reserves: bool = False
    reserves_at: float = -SEMANTICS_S
    blamed: str = ""
    bound_at: dict[str, float] = {}
    pause: float = 0.25
    in_flight: tuple[int, ...] = (0, 0, 0)
    cut_accepted: int = 0
    cut_in_flight: int = 0
    alike: int = 0
    owed: bool = False


def step(law: Law, seen: Observed, now: float) -> Law:
    """Return the law's next state; `now` is in seconds and may stand still, jump or go back."""
    passed = min(LONGEST_S, max(0.0, now - law.at)) if law.at else 0.0
    clock = law.clock + passed
    law = _note(law, seen, clock, passed)
    if seen.epoch != law.seen.epoch:
        law = _refused(law, seen, clock)
    else:
        law = _grown(law, seen, clock, min(1.0, passed))
    return msgspec.structs.replace(law, seen=seen, at=now, clock=clock)


def _note(law: Law, seen: Observed, now: float, passed: float) -> Law:
    """Take in what needs no decision: latency, binding gates, drift, recent calls in flight."""
    answered = seen.ok - law.seen.ok
    latency = law.latency
    if answered > 0:
        mean = (seen.latency - law.seen.latency) / answered
        weight = min(1.0, answered / law.window.size) if latency else 1.0
        latency += weight * (mean - latency)
    bound = {n: now for n, count in seen.bound.items() if count > law.seen.bound.get(n, 0)}
    missed = seen.cut_gate if seen.epoch != law.seen.epoch else ""
    drifts = {
        d: law.drifts.get(d, Drift()).learn(told, now).care(passed, missed=d == missed)
        for d, told in seen.told.items()
    }
    reserves, reserves_at = law.reserves, law.reserves_at
    if missed == "output" and missed in seen.told and now - reserves_at > SEMANTICS_S:
        reserves, reserves_at = not reserves, now  # and what looked like others was ourselves
        drifts[missed] = msgspec.structs.replace(drifts[missed], rate=0.0)
    return msgspec.structs.replace(
        law,
        reserves=reserves,
        reserves_at=reserves_at,
        latency=latency,
        bound_at={**law.bound_at, **bound},
        drifts=drifts,
        in_flight=(*law.in_flight[1:], seen.in_flight),
    )


def _grown(law: Law, seen: Observed, now: float, passed: float) -> Law:
    """Grow along the gate that binds."""
    told = seen.told.get("requests")
    needed = told.limit / 60 * law.latency if told and not law.window.roof else 0.0
    bound = law.bound_at.get("window") == now or law.window.size < needed
    passing = 0 if law.owed else min(law.in_flight)
    window = law.window.grow(seen.ok - law.seen.ok, passing, bound=bound)
    probes = {
        d: probe.grow(now, passed, seen.accepted, seen.used(d), law.bound_at.get(d) == now)
        for d, probe in law.probes.items()
    }
    base = min(law.cut_accepted, seen.accepted)  # calls on their way then were refused since
    owed = law.owed and min(law.seen.accepted, seen.accepted) <= base
    return msgspec.structs.replace(law, window=window, probes=probes, owed=owed, cut_accepted=base)


def _refused(law: Law, seen: Observed, now: float) -> Law:
    """Blame a refusal and cut what is blamed."""
    near = abs(seen.cut_in_flight - law.cut_in_flight) <= min(1.0, 0.1 * law.cut_in_flight)
    passed = max(min(law.seen.accepted, seen.accepted), seen.accepted - ENOUGH)
    moved = not law.seen.epoch or passed > law.cut_accepted  # more than may be on its way now
    law = msgspec.structs.replace(law, alike=law.alike + 1 if near else 0, owed=not moved)
    law = msgspec.structs.replace(
        law,
        blamed=_blame(law, seen, now),
        cut_accepted=seen.accepted if moved else passed,
        cut_in_flight=seen.cut_in_flight,
    )
    if not law.blamed:
        owing = law.probes if law.owed else {}
        probes = law.probes | {d: probe.owe(now, law.latency) for d, probe in owing.items()}
        return msgspec.structs.replace(law, probes=probes, pause=min(PAUSE_S[1], 2 * law.pause))
    if law.blamed == "window":
        size = min(law.window.size, seen.cut_in_flight if moved else seen.in_flight) - 1
        window = law.window.refuse(size, law.latency, passed=moved)
    else:
        window = msgspec.structs.replace(law.window, peak=0.0)
    pause = max(PAUSE_S[0], 0.8 * law.pause)
    law = msgspec.structs.replace(law, window=window, pause=pause)
    return _measured(law, seen, now, cut=law.blamed != "window")


def _blame(law: Law, seen: Observed, now: float) -> str:
    """Return what a refusal is blamed on: the window, a dimension, or "" when a pause will do."""
    if seen.cut_gate == "window":
        return "window"
    if seen.cut_gate in seen.told or (law.owed and (seen.cut_gate or not law.window.sure)):
        return ""
    if seen.cut_gate:
        return seen.cut_gate
    if law.blamed == "window" and not law.window.sure and law.window.peak >= law.cut_in_flight:
        return law.suspect  # what it was blamed for has passed since
    if law.owed:
        return "window"  # a known cap that fell
    record = law.window.known or law.window.new(seen.cut_in_flight)
    paced = now - law.bound_at.get(law.suspect, -LATELY_S) < LATELY_S
    return "window" if record and (law.alike >= ALIKE or not paced) else law.suspect


def _measured(law: Law, seen: Observed, now: float, *, cut: bool = False) -> Law:
    """Read the refill between the last refusal and this one in every dimension.

    Units of the true limit refill evenly, so the dimension whose refills agree with each other
    becomes the suspect where nobody names one.
    """
    probes, doubt = {}, dict(law.doubt)
    for d in DIMENSIONS:
        calls, used = seen.accepted, seen.used(d)
        old = law.probes.get(d)
        if old is None:
            rate = _pace(law) * used / max(1, calls) * (0.5 if cut else 1.0)
            probes[d] = Probe.at(now, rate, calls, used, seen.refused)
            continue
        probes[d] = old.refuse(now, calls, used, seen.refused) if cut else old
        if cut and calls - old.calls >= ENOUGH:
            surprise = min(CHANGED, probes[d].differs(old))
            weight = 0.3 * min(1.0, (calls - old.calls) / TELLING)
            doubt[d] = doubt.get(d, 0.0) + weight * (surprise - doubt.get(d, 0.0))
    measured = law.measured + (doubt != law.doubt)
    suspect = law.blamed if law.blamed in DIMENSIONS else law.suspect
    if measured >= COMPARED and not seen.cut_gate:
        best = min(DIMENSIONS, key=lambda d: doubt[d])
        suspect = best if doubt[best] + 0.01 < SURER * doubt[suspect] else suspect
    return msgspec.structs.replace(
        law, probes=probes, doubt=doubt, measured=measured, suspect=suspect, rated=law.rated or cut
    )


def _pace(law: Law) -> float:
    """Return how many calls may start a second for the window to fill within a round trip."""
    ahead = FAR_AHEAD if law.window.sure and law.window.size <= law.window.roof + 1 else AHEAD
    return ahead * law.window.size / max(0.001, law.latency or FIRST_LATENCY_S)


def orders(law: Law, caps: Caps) -> Orders:
    """Return what to publish: the slowest of told, found and allowed for each dimension."""
    pace = _pace(law)
    gates = {"pace": Gate(rate=pace, capacity=1.0 + GRAIN_S * pace)}
    if law.owed:  # one call a pause, from the debt of half a call that a refusal leaves
        gates["pace"] = Gate(rate=min(pace, 1.5 / law.pause), capacity=1.0)
    for d in DIMENSIONS:
        gate = _gate(law, caps, d)
        if gate is not None:
            gates[d] = gate
    window = min(int(law.window.size), caps.window or int(law.window.size))
    return Orders(window=window, gates=gates, reserves=law.reserves, pause=law.pause)


def _gate(law: Law, caps: Caps, dimension: str) -> Gate | None:
    told = law.seen.told.get(dimension)
    rates = []
    if told is not None:
        rates.append(refill(told, law.drifts[dimension]))
    if law.rated and dimension == law.suspect:
        rates.append(law.probes[dimension].now)
    rates = [rate * (1 - caps.polite) for rate in rates]
    cap = getattr(caps, dimension)
    if cap is not None:
        rates.append(cap / 60)
    if not rates:
        return None
    rate = max(1e-3, min(rates))
    if told is not None and rate == rates[0] and not caps.polite:
        left = reserve(told, law.drifts[dimension])
        return Gate(rate=rate, capacity=told.most, reserve=left, mirror=True)
    need = max(1.0, law.seen.used(dimension) / max(1, law.seen.accepted))
    capped = cap is not None and rate == cap / 60 and dimension != "requests"
    grain = CAPPED_S if capped else GRAIN_S
    return Gate(rate=rate, capacity=need + max(0.0, grain * rate - 0.1 * need))
