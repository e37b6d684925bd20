"""A scenario: the server's conditions, what happens meanwhile, and the accepted ranges."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import msgspec

from nightmill_worker.limiter.records import Caps
from tests.scenarios.fleet import Fleet, together
from tests.scenarios.server import Conditions, Kind, Server

HERE = Path(__file__).parent
SPAN_S = 20
"""`reach` looks for the first span of this many seconds in which 95 % of the limit are used."""


class Step(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Something that happens at `at` seconds."""

    at: float
    server: dict[str, object] = {}
    """Conditions of the server that change."""
    kill: int | None = None
    """The number of a worker that dies."""
    redis_away: float = 0.0
    """How long Redis is away, seconds."""
    clock: float = 0.0
    """How far Redis TIME jumps, seconds; negative is back."""
    rest: float = 0.0
    """How long no job is queued, seconds."""
    trial: bool = False
    """Whether a stopped account is open again, as after a trial that was answered."""


class Expect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is accepted between `after` and `until` (seconds); None means any value."""

    after: float = 0.0
    until: float
    utilisation: float | None = None
    """Least share of the limit used, %."""
    refused: float | None = None
    """Largest share of calls refused, %."""
    refusals: int | None = None
    """Most calls refused."""
    failed: int | None = None
    """Most calls failed."""
    calls: int | None = None
    """Most calls."""
    fairness: float | None = None
    """Least fairness between workers: Jain's index of their calls, 0 to 1."""
    rate: float | None = None
    """Least rate of accepted calls, calls a second."""
    in_flight: int | None = None
    """Least number of calls in flight at the end."""
    reach: float | None = None
    """Longest time after `after` until 95 % of the limit are used, seconds."""
    done: float | None = None
    """Longest time from the first call to the last answer, seconds."""
    cap_rate: float | None = None
    """Highest rate of accepted calls, calls a second."""


class Scenario(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One table of a file. It is played with each of the `seeds`; the worst result counts.

    Each of the `fleets` has its own governor and its own kinds of jobs. They share the server.
    """

    name: str
    server: Conditions
    fleets: tuple[tuple[Kind, ...], ...] = ((Kind(),),)
    expect: list[Expect]
    step: list[Step] = []
    caps: Caps = Caps()
    seeds: tuple[int, ...] = (1, 2)
    workers: int = 4
    slots: int = 5000
    """Calls in flight of one worker at most."""
    jobs: int | None = None
    redis_ms: float = 1.0
    max_rate: float | None = None
    short: bool = False


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The counters at the end of a second."""

    calls: int
    refused: int
    failed: int
    in_flight: int
    used: dict[str, float]
    offered: dict[str, float]
    by_worker: tuple[int, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one span of time, named and measured as in `Expect`."""

    utilisation: float
    refused: float
    refusals: int
    failed: int
    calls: int
    fairness: float
    rate: float
    in_flight: int
    reach: float
    done: float

    def misses(self, wanted: Expect) -> list[str]:
        """Return the names of the figures outside their accepted ranges."""
        least = ("utilisation", "fairness", "rate", "in_flight")
        most = ("refused", "refusals", "failed", "calls", "reach", "done")
        low = [n for n in least if (w := getattr(wanted, n)) is not None and getattr(self, n) < w]
        high = [n for n in most if (w := getattr(wanted, n)) is not None and getattr(self, n) > w]
        fast = wanted.cap_rate is not None and self.rate > wanted.cap_rate
        return [*low, *high, *(["cap_rate"] if fast else [])]


def load(folder: Path) -> list[Scenario]:
    """Read all scenarios of a folder. A file holds a list of them."""
    found: list[Scenario] = []
    for path in sorted(folder.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        found += msgspec.convert(content["scenario"], list[Scenario])
    return found


def play(scenario: Scenario, seed: int) -> list[Found]:
    """Play a scenario with a seed; return the figures for each of its expectations."""
    rng = random.Random(seed)
    conditions = msgspec.convert(msgspec.to_builtins(scenario.server), Conditions)
    server = Server(conditions, rng)
    fleets = [
        Fleet(
            server,
            rng,
            kinds=kinds,
            workers=scenario.workers,
            slots=scenario.slots,
            jobs=scenario.jobs,
            caps=scenario.caps,
            redis_s=scenario.redis_ms / 1000,
            max_rate=scenario.max_rate,
        )
        for kinds in scenario.fleets
    ]
    first = fleets[0]
    for step in scenario.step:
        first.at(step.at, happen, fleets, step)
    moments = [moment(fleets)]
    for second in range(1, int(max(e.until for e in scenario.expect)) + 1):
        if len(fleets) == 1:
            first.run(second)
        else:
            together(fleets, second)
        moments.append(moment(fleets))
    done = max(first.ended, default=0.0) - first.first_call
    if scenario.jobs is not None and len(first.ended) < scenario.jobs:
        done = float("inf")
    return [measure(moments, expect, done) for expect in scenario.expect]


def happen(fleets: list[Fleet], step: Step) -> None:
    """Carry out a step. A worker that dies is one of the first fleet."""
    first = fleets[0]
    server = first.server
    server.advance(first.now)
    for name, value in step.server.items():
        setattr(server.now, name, value)
    server.set_limits()
    if step.kill is not None:
        first.kill(step.kill)
    for fleet in fleets:
        if step.redis_away:
            fleet.redis_back = first.now + step.redis_away
        fleet.skew += step.clock
        fleet.rests_until = max(fleet.rests_until, first.now + step.rest)
        fleet.stopped &= not step.trial


def moment(fleets: list[Fleet]) -> Moment:
    """Read the counters."""
    server = fleets[0].server
    server.advance(max(fleets[0].now, server.at))
    return Moment(
        calls=server.calls,
        refused=server.refused,
        failed=server.failed,
        in_flight=server.in_flight,
        used=dict(server.used),
        offered=dict(server.offered),
        by_worker=tuple(w.calls for fleet in fleets for w in fleet.workers),
    )


def measure(moments: list[Moment], wanted: Expect, done: float) -> Found:
    """Return the figures of a span."""
    a, b = int(wanted.after), int(wanted.until)
    first, last = moments[a], moments[b]
    calls = last.calls - first.calls
    shares = [e - s for s, e in zip(first.by_worker, last.by_worker, strict=True)]
    squares = len(shares) * sum(s * s for s in shares)
    starts = range(a, b - SPAN_S + 1)
    reach = next((t - a for t in starts if utilisation(moments, t, t + SPAN_S) >= 95.0), b - a)
    return Found(
        utilisation=utilisation(moments, a, b),
        refused=100 * (last.refused - first.refused) / max(1, calls),
        refusals=last.refused - first.refused,
        failed=last.failed - first.failed,
        calls=calls,
        fairness=sum(shares) ** 2 / squares if squares else 1.0,
        rate=(calls - last.refused + first.refused) / (b - a),
        in_flight=last.in_flight,
        reach=float(reach),
        done=done,
    )


def utilisation(moments: list[Moment], a: int, b: int) -> float:
    """Return what was used of the tightest limit between two seconds, % of its refill."""
    first, last = moments[a], moments[b]
    offered = {n: last.offered[n] - first.offered[n] for n in last.offered}
    used = {n: last.used[n] - first.used[n] for n in last.used}
    return max((100 * used[n] / offered[n] for n in used if offered[n] > 0), default=100.0)
