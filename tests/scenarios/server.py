"""The endpoint of a scenario: true token buckets, a cap, headers, 429s; its clock is an argument.

Smaller than the simulator, which serves real HTTP: a scenario plays hours in seconds.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec

from nightmill_worker.messages.classify import retry_after_s

DIMENSIONS = ("requests", "input", "output")


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the jobs of one batch are like: tokens, and seconds a call; each batch claims alike."""

    batch: str = "only"
    latency: float = 7.0
    spread: float = 0.4
    input_tokens: float = 400.0
    output_tokens: float = 250.0
    output_spread: float = 0.5
    max_tokens: float = 1024.0


class Conditions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the endpoint is like; a step of a scenario may change any of it. Rates per minute.

    `burst_s` is how many seconds' worth every bucket holds, `burst` overrides it for requests.
    `headers` is when `remaining` is read: at "admission", at the "answer", or "off".
    `named` tells whether a 429 names its dimension; `retry_after` is none, exact (whole seconds),
    float or date, else a header as sent. `ramp` (req/s^2) is how fast the accepted rate may rise,
    from 2 a second. `unauthorized` answers 401, `spent` a 429 that names a spend limit.
    """

    rpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    burst_s: float = 60.0
    burst: float | None = None
    cap: int | None = None
    reserve: bool = False
    headers: str = "off"
    stale: float = 0.0
    named: bool = False
    retry_after: str = "none"
    tenant: float = 0.0
    down: bool = False
    fail: float = 0.0
    unauthorized: bool = False
    spent: bool = False
    ramp: float | None = None


class Bucket:
    """A token bucket that may go into debt; `offered` counts what was refilled for the meter."""

    def __init__(self, rate: float, capacity: float) -> None:
        """Start full; `rate` is units a second."""
        self.rate, self.capacity, self.level, self.at = rate, capacity, capacity, 0.0

    def refill(self, now: float) -> None:
        """Bring the level up to `now`."""
        self.level = min(self.capacity, self.level + self.rate * (now - self.at))
        self.at = now


class Answer(msgspec.Struct, kw_only=True):
    """What comes back: `status`, when (s after arrival), real tokens, headers, hints of a 429.

    `stops` tells that nobody can be served; `reserved` is the output charged at admission.
    """

    status: int
    after: float
    input: float = 0.0
    output: float = 0.0
    headers: dict[str, tuple[float, float]] | None = None
    gate: str = ""
    retry_after: float = 0.0
    stops: bool = False
    reserved: float = 0.0


class Server:
    """Admits and answers calls under `Conditions`, and measures what was used of its limits."""

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        """Start with full buckets."""
        self.now = conditions
        self.rng = rng
        self.buckets: dict[str, Bucket] = {}
        self.in_flight = 0
        self.calls = self.refused = self.failed = self.accepted = 0
        self.used = dict.fromkeys((*DIMENSIONS, "window"), 0.0)
        self.offered = dict(self.used)
        self.recent: deque[dict[str, tuple[float, float]]] = deque(maxlen=50)
        self.ramp_rate, self.ramp_level, self.at = 2.0, 2.0, 0.0
        self.set_limits()

    def set_limits(self) -> None:
        """Adopt the limits of `self.now`; levels stay as far as they fit."""
        c = self.now
        limits = {"requests": c.rpm, "input": c.itpm, "output": c.otpm}
        for name, limit in limits.items():
            if limit is None:
                self.buckets.pop(name, None)
                continue
            rate = limit / 60 * (1 - c.tenant)
            burst = c.burst if c.burst and name == "requests" else limit * c.burst_s / 60
            bucket = self.buckets.setdefault(name, Bucket(rate, burst))
            bucket.rate, bucket.capacity = rate, burst
            bucket.level = min(bucket.level, burst)

    def advance(self, now: float) -> None:
        """Refill, and count what was offered and how much of the cap was used."""
        passed = now - self.at
        self.at = now
        for name, bucket in self.buckets.items():
            bucket.refill(now)
            self.offered[name] += bucket.rate * passed
        if self.now.cap is not None:
            self.offered["window"] += self.now.cap * passed
            self.used["window"] += self.in_flight * passed
        if self.now.ramp is not None:
            self.ramp_level = min(self.ramp_rate, self.ramp_level + self.ramp_rate * passed)
            self.ramp_rate += self.now.ramp * passed

    def call(self, now: float, kind: Kind) -> Answer:
        """Meet a call that arrives at `now`; the caller later tells `done` when it was admitted."""
        self.advance(now)
        self.calls += 1
        c = self.now
        if c.unauthorized:
            return Answer(status=401, after=0.01, stops=True)
        if c.spent:
            return Answer(status=429, after=0.01, stops=True)
        if c.down or self.rng.random() < c.fail:
            self.failed += 1
            return Answer(status=529, after=0.05)
        gate = self.gate(kind)
        if gate:
            self.refused += 1
            return self.refusal(gate)
        return self.admit(kind)

    def gate(self, kind: Kind) -> str:
        """Return what refuses the next call, or nothing."""
        c = self.now
        if c.cap is not None and self.in_flight >= c.cap:
            return "window"
        if c.ramp is not None and self.ramp_level < 1:
            return "ramp"
        needs = {
            "requests": 1.0,
            "input": kind.input_tokens,
            "output": kind.max_tokens if c.reserve else 1.0,
        }
        for name, bucket in self.buckets.items():
            if bucket.level < needs[name] - 1e-6:
                return name
        return ""

    def refusal(self, gate: str) -> Answer:
        """Return a 429 with the hints that the conditions give."""
        c = self.now
        bucket = self.buckets.get(gate)
        wait = max(0.0, (1 - bucket.level) / bucket.rate) if bucket and bucket.rate else 1.0
        name = gate if c.named and gate != "ramp" else ""
        told = retry_after_s(self.hint(wait), self.at) or 0.0
        return Answer(status=429, after=0.005, headers=self.seen(), gate=name, retry_after=told)

    def hint(self, wait: float) -> dict[str, str]:
        """Return the header that asks to wait `wait` seconds, in the way of these conditions."""
        match self.now.retry_after:
            case "none":
                return {}
            case "exact":
                text = str(int(wait) + 1)
            case "float":
                text = f"{wait:.3f}"
            case "date":
                text = format_datetime(datetime.fromtimestamp(self.at + wait + 1, UTC), usegmt=True)
            case text:
                pass
        return {"retry-after": text}

    def admit(self, kind: Kind) -> Answer:
        """Charge a call and draw its answer."""
        c = self.now
        spread, jitter = kind.output_spread, kind.spread
        scale = self.rng.lognormvariate(-(spread**2) / 2, spread)
        output = min(kind.max_tokens, kind.output_tokens * scale)
        share = 0.5 + 0.5 * scale if c.otpm else 1.0
        length = share * self.rng.lognormvariate(-(jitter**2) / 2, jitter)
        inputs = kind.input_tokens * self.rng.uniform(0.7, 1.3)
        self.accepted += 1
        self.in_flight += 1
        self.take("requests", 1.0)
        self.take("input", inputs)
        if c.reserve:
            self.take("output", kind.max_tokens)
        return Answer(
            status=200,
            after=kind.latency * length,
            input=inputs,
            output=output,
            headers=self.seen(),
            reserved=kind.max_tokens if c.reserve else 0.0,
        )

    def take(self, name: str, amount: float) -> None:
        """Charge a bucket."""
        self.used[name] += amount
        if name in self.buckets:
            self.buckets[name].level -= amount

    def generate(self, now: float, tokens: float) -> None:
        """Charge output that came just now, where it is charged as it comes."""
        self.advance(now)
        if not self.now.reserve:
            self.take("output", tokens)

    def done(self, now: float, answer: Answer) -> Answer:
        """End an admitted call: its place is free, an estimate is corrected, headers are read."""
        self.advance(now)
        self.in_flight -= 1
        if answer.reserved:
            self.take("output", answer.output - answer.reserved)
        if self.now.headers == "answer":
            answer.headers = self.seen()
        return answer

    def seen(self) -> dict[str, tuple[float, float]] | None:
        """Return (limit, remaining) per dimension, tokens rounded to 1,000; sometimes stale."""
        c = self.now
        if c.headers == "off":
            return None
        limits = {"requests": c.rpm, "input": c.itpm, "output": c.otpm}
        found = {}
        for name, bucket in self.buckets.items():
            level = max(0.0, bucket.level)
            rounded = float(int(level + 1e-6)) if name == "requests" else round(level, -3)
            found[name] = (limits[name] or 0.0, rounded)
        self.recent.append(found)
        if c.stale and self.rng.random() < c.stale:
            return self.recent[0]
        return found
