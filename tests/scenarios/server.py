"""The endpoint of a scenario: token buckets, a cap on calls in flight, headers, 429s.

Its clock is an argument, so a scenario plays hours in seconds. It is not the simulator, which
serves real HTTP.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec

from nightmill_worker.messages.retry_after import retry_after_s

DIMENSIONS = ("requests", "input", "output")


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The jobs of one batch. All batches have the same weight."""

    batch: str = "only"
    latency: float = 7.0
    """Mean length of a call, seconds."""
    spread: float = 0.4
    """Sigma of the log-normal length."""
    input_tokens: float = 400.0
    """Mean input tokens."""
    output_tokens: float = 250.0
    """Mean output tokens."""
    output_spread: float = 0.5
    """Sigma of the log-normal output."""
    max_tokens: float = 1024.0


class Conditions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the endpoint behaves. A step of a scenario may change any of it."""

    rpm: float | None = None
    """Requests a minute."""
    itpm: float | None = None
    """Input tokens a minute."""
    otpm: float | None = None
    """Output tokens a minute."""
    burst_s: float = 60.0
    """A bucket holds the refill of this many seconds."""
    burst: float | None = None
    """Requests that the bucket of requests holds; None means as `burst_s` says."""
    cap: int | None = None
    """Most calls in flight."""
    reserve: bool = False
    """Whether max_tokens are charged when a call starts."""
    headers: str = "off"
    """When `remaining` is read: at "admission", at the "answer", or "off" for no headers."""
    streams_after: float | None = None
    """Seconds until the headers of an answer arrive; None: when the answer is whole."""
    streams: bool = True
    """Whether the endpoint answers a stream that nightmill asks for on its own."""
    stale: float = 0.0
    """Share of headers that are old, 0 to 1."""
    named: bool = False
    """Whether a 429 names its dimension."""
    retry_after: str = "none"
    """none, exact (whole seconds), float or date; anything else is sent as it is."""
    tenant: float = 0.0
    """Share of the limits that another user of the key takes, 0 to 1."""
    down: bool = False
    """Whether every call is answered 529."""
    fail: float = 0.0
    """Share of calls that are answered 529, 0 to 1."""
    fail_after: float = 0.05
    """Seconds until a 529 is answered: a server may queue calls before it refuses them."""
    unauthorized: bool = False
    """Whether every call is answered 401."""
    spent: bool = False
    """Whether every call is answered with a 429 that names a spend limit."""
    ramp: float | None = None
    """How fast the accepted rate may rise, from 2 calls a second, calls a second per second."""


class Bucket:
    """A token bucket. Its level may fall below 0."""

    def __init__(self, rate: float, capacity: float) -> None:
        """Start full; `rate` is units a second."""
        self.rate, self.capacity, self.level, self.at = rate, capacity, capacity, 0.0

    def refill(self, now: float) -> None:
        """Bring the level up to `now`."""
        self.level = min(self.capacity, self.level + self.rate * (now - self.at))
        self.at = now


class Answer(msgspec.Struct, kw_only=True):
    """What the server answers to a call."""

    status: int
    after: float
    """Seconds from the arrival of the call to the answer."""
    input: float = 0.0
    output: float = 0.0
    headers: dict[str, tuple[float, float]] | None = None
    """Dimension -> (limit a minute, remaining); None without headers."""
    gate: str = ""
    """What a 429 names, "" for nothing."""
    retry_after: float = 0.0
    stops: bool = False
    """Whether the account is stopped: no call with this credential can succeed."""
    reserved: float = 0.0
    """Output tokens that were charged at admission."""


class Server:
    """Admits and answers calls under `Conditions`, and counts what was used of its limits."""

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
        """Adopt the limits of `self.now`. Levels above a new capacity are cut to it."""
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
        """Refill, and count what the limits offered and how much of the cap was used."""
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
        """Answer a call that arrives at `now`. The caller ends an admitted call with `done`."""
        self.advance(now)
        self.calls += 1
        c = self.now
        if c.unauthorized:
            return Answer(status=401, after=0.01, stops=True)
        if c.spent:
            return Answer(status=429, after=0.01, stops=True)
        if c.down or self.rng.random() < c.fail:
            self.failed += 1
            return Answer(status=529, after=c.fail_after)
        gate = self.gate(kind)
        if gate:
            self.refused += 1
            return self.refusal(gate)
        return self.admit(kind)

    def gate(self, kind: Kind) -> str:
        """Return what refuses the next call, "" for nothing."""
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
        """Return a 429 with the hints of these conditions."""
        c = self.now
        bucket = self.buckets.get(gate)
        wait = max(0.0, (1 - bucket.level) / bucket.rate) if bucket and bucket.rate else 1.0
        name = gate if c.named and gate != "ramp" else ""
        asked = retry_after_s(self.hint(wait), self.at) or 0.0
        return Answer(status=429, after=0.005, headers=self.report(), gate=name, retry_after=asked)

    def hint(self, wait: float) -> dict[str, str]:
        """Return the header that asks for a wait of `wait` seconds, in these conditions' form."""
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
        """Charge a call and draw its answer at random."""
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
            headers=self.report(),
            reserved=kind.max_tokens if c.reserve else 0.0,
        )

    def take(self, name: str, amount: float) -> None:
        """Charge a bucket."""
        self.used[name] += amount
        if name in self.buckets:
            self.buckets[name].level -= amount

    def generate(self, now: float, tokens: float) -> None:
        """Charge output that was just generated, unless it was charged at admission."""
        self.advance(now)
        if not self.now.reserve:
            self.take("output", tokens)

    def done(self, now: float, answer: Answer) -> Answer:
        """End an admitted call: correct what was charged at admission, read the headers."""
        self.advance(now)
        self.in_flight -= 1
        if answer.reserved:
            self.take("output", answer.output - answer.reserved)
        if self.now.headers == "answer":
            answer.headers = self.report()
        return answer

    def report(self) -> dict[str, tuple[float, float]] | None:
        """Return dimension -> (limit, remaining); tokens are rounded to 1,000, some are old."""
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
