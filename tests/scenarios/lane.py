"""What lane.lua does to a lane, in Python with a virtual clock, and the governor's part.

The arithmetic is the script's, line by line: test_lane.py compares both on random histories. Jobs
and leases are left out. Times are seconds of the virtual clock, which stands for Redis TIME.
"""

from __future__ import annotations

import msgspec

from nightmill_worker.limiter.breaker import Breaker, watch
from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import Law, step
from nightmill_worker.limiter.orders import orders
from nightmill_worker.limiter.records import Caps, Observed, Orders

DIMENSIONS = ("requests", "input", "output")
GATES = ("pace", *DIMENSIONS)
QUANTILE, LEAST_WEIGHT, REMEMBERED, LARGEST_DECAY = 0.7, 0.05, 32, 0.99
LONGEST_PAUSE_S, LONGEST_CALL_S = 900.0, 600.0
FIRST_CALLS, IDLE_S = 16, 60.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim knows of a job: its batch, its payload's size, and its max_tokens."""

    batch: str
    size: int
    max_tokens: float


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim reserved for one call."""

    at: float
    """When, seconds."""
    guess: dict[str, float]
    """Gate -> units reserved."""
    mark: dict[str, float]
    """Dimension -> the lane's level then, less its corrections, units."""
    in_flight: int
    job: Job
    first: bool = False
    """Whether it is one of the first calls of a lane that opened."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """One call as settle.lua gets it; `reported` is dimension -> (limit a minute, remaining)."""

    slot: str
    reservation: Reservation
    outcome: str
    latency: float = 0.0
    input: float = 0.0
    output: float = 0.0
    reported: dict[str, tuple[float, float]] = {}
    gate: str = ""
    retry_after: float = 0.0


class Cost(msgspec.Struct):
    """What a batch's calls use: input tokens a byte, a quantile of output tokens."""

    ratio: float
    output: float
    answers: int = 0
    at: float = 0.0


def within_bounds(item: Settled, now: float) -> Settled:
    """Return an answer whose times fit Redis's clock; the server's other values always do."""
    passed = now - item.reservation.at
    latency = min(item.latency, LONGEST_CALL_S if passed < 0 else passed)
    reservation = msgspec.structs.replace(item.reservation, at=min(now, item.reservation.at))
    return msgspec.structs.replace(item, latency=latency, reservation=reservation)


class Lane:
    """One lane's hash, its slots, and the law that moves it."""

    def __init__(self, caps: Caps) -> None:
        """Start as a lane that has never been used."""
        self.caps = caps
        self.law = Law()
        self.orders: Orders = orders(self.law, caps)
        self.breaker = Breaker()
        self.slots: dict[str, float] = {}
        self.level = dict.fromkeys(GATES, 0.0)
        self.largest = dict.fromkeys(GATES, 0.0)
        self.corrected = dict.fromkeys(DIMENSIONS, 0.0)
        self.reported: dict[str, Reported] = {}
        self.reported_at: dict[str, float] = {}
        self.opened: set[str] = set()
        self.bound = dict.fromkeys(("window", "pause", "breaker", *GATES), 0)
        self.counts = dict.fromkeys(("sent", "ok", "refused", "unsent", "failed", "stop"), 0)
        self.refilled_at = self.pause_until = self.cut_at = self.latency = 0.0
        self.sent_at = 0.0
        self.first_sent = self.first_ended = 0
        self.epoch = self.running = self.cut_in_flight = 0
        self.cut_gate = self.trial = self.trial_end = ""
        self.used = {"input": 0.0, "output": 0.0}
        self.ratio, self.output, self.guessed, self.reserved = 0.25, 200.0, 200.0, 0.0
        self.costs: dict[str, Cost] = {}

    def open(self, now: float) -> None:
        """Refill the buckets, free the slots of dead workers."""
        self.refill(now)
        gone = [slot for slot, end in self.slots.items() if end <= now]
        for slot in gone:
            del self.slots[slot]
        self.reserved *= len(self.slots) / max(1, len(self.slots) + len(gone))

    def refill(self, now: float) -> None:
        """Refill the buckets up to now. A clock that went back adds nothing."""
        passed = now - self.refilled_at
        if passed < 0:
            self.move_back(-passed)
            passed = 0.0
        self.refilled_at = now
        for name, gate in self.orders.gates.items():
            if name in self.opened or gate.follows_headers:
                level = min(gate.capacity, self.level[name] + gate.rate * passed)
            else:
                level = 1.0 if name == "pace" else gate.capacity
            self.level[name] = max(level, -LONGEST_PAUSE_S * gate.rate)
        self.opened = set(self.orders.gates)

    def move_back(self, seconds: float) -> None:
        """Move all moments that were noted before the clock went back."""
        self.pause_until -= seconds
        self.cut_at -= seconds
        self.sent_at -= seconds
        self.reported_at = {name: at - seconds for name, at in self.reported_at.items()}
        for cost in self.costs.values():
            cost.at -= seconds
        self.slots = {slot: end - seconds for slot, end in self.slots.items()}

    def guess(self, job: Job) -> dict[str, float]:
        """Return what a call of this job is expected to use."""
        known = self.costs.get(job.batch)
        ratio, output = (known.ratio, known.output) if known else (self.ratio, self.output)
        output = job.max_tokens if self.orders.reserves else output
        return {"requests": 1.0, "pace": 1.0, "input": job.size * ratio, "output": output}

    def closed(self, guess: dict[str, float], now: float) -> tuple[str, float]:
        """Return the gate that keeps such a call waiting and its wait in seconds, or ("", 0)."""
        if self.breaker.state == "open" or (self.breaker.state == "half" and self.trial):
            return "breaker", 0.25
        pause = min(LONGEST_PAUSE_S, self.pause_until - now)
        if pause > 0:
            return "pause", pause
        if len(self.slots) >= self.orders.window:
            return "window", 1.0
        for name in GATES:
            gate = self.orders.gates.get(name)
            if gate is None:
                continue
            need = max(guess[name], LARGEST_DECAY * self.largest[name])
            self.largest[name] = need
            short = min(need + gate.reserve, gate.capacity) - self.level[name]
            if short > 1e-9:
                return name, min(1.0, short / gate.rate)
        return "", 0.0

    def take(
        self, job: Job, guess: dict[str, float], slot: str, now: float, end: float
    ) -> Reservation:
        """Take a slot and tokens."""
        if not self.slots and now - self.sent_at > IDLE_S:
            self.first_sent = self.first_ended = 0
        self.counts["sent"] += 1
        self.sent_at = now
        first = self.first_sent < FIRST_CALLS
        self.first_sent += first
        self.slots[slot] = end
        self.reserved += guess["output"]
        for name in GATES:
            self.level[name] -= guess[name]
        mark = {d: self.level[d] - self.corrected[d] for d in DIMENSIONS}
        mark["output"] += self.not_generated()
        if self.breaker.state == "half":
            self.trial = slot
        return Reservation(
            at=now, guess=guess, mark=mark, in_flight=len(self.slots), job=job, first=first
        )

    def not_generated(self) -> float:
        """Return the output that calls in flight reserved and that is not generated yet."""
        share = 1.0 - 0.5 * min(1.0, self.output / max(1.0, self.guessed))
        return 0.0 if self.orders.reserves else self.reserved * share

    def settle(self, now: float, items: list[Settled]) -> None:
        """Account for answers."""
        self.refill(now)
        for item in [within_bounds(item, now) for item in items]:
            begun = item.outcome == "begun"
            if not begun:
                self.counts[item.outcome] += 1
                self.first_ended += item.reservation.first
                self.charge(item)
            for name, (limit, remaining) in item.reported.items():
                self.follow_header(item, name, limit, remaining)
            if item.outcome == "ok":
                self.learn(item)
            if item.outcome == "refused":
                self.refuse(item, now)
            if item.slot == self.trial and not begun:
                self.trial_end = "failed" if item.outcome == "failed" else "ok"
                if item.outcome == "unsent":
                    self.trial = self.trial_end = ""
        for item in items:
            if item.outcome != "begun":
                self.slots.pop(item.slot, None)

    def charge(self, item: Settled) -> None:
        """Replace what was reserved by what was used."""
        self.level["input"] += item.reservation.guess["input"] - item.input
        self.level["output"] += item.reservation.guess["output"] - item.output
        self.reserved = max(0.0, self.reserved - item.reservation.guess["output"])
        if item.outcome != "ok":
            self.level["requests"] += 1
        if item.outcome == "unsent":
            self.level["pace"] += 1

    def learn(self, item: Settled) -> None:
        """Learn what calls of this lane use."""
        self.latency += item.latency
        self.used["input"] += item.input
        self.used["output"] += item.output
        weight = max(LEAST_WEIGHT, 1 / self.counts["ok"])
        self.ratio += weight * (item.input / item.reservation.job.size - self.ratio)
        self.output += weight * (item.output - self.output)
        self.guessed += weight * (item.reservation.guess["output"] - self.guessed)
        self.learn_cost(item)
        if item.reservation.at >= self.cut_at:
            self.running = 0

    def learn_cost(self, item: Settled) -> None:
        """Learn what calls of its batch use."""
        batch = item.reservation.job.batch
        if batch not in self.costs:
            if len(self.costs) >= REMEMBERED:
                del self.costs[min(self.costs, key=lambda name: self.costs[name].at)]
            self.costs[batch] = Cost(ratio=self.ratio, output=max(1.0, item.output))
        cost = self.costs[batch]
        cost.answers, cost.at = cost.answers + 1, self.refilled_at
        weight = max(LEAST_WEIGHT, 1 / cost.answers)
        cost.ratio += weight * (item.input / item.reservation.job.size - cost.ratio)
        change = QUANTILE if item.output > cost.output else QUANTILE - 1
        cost.output = max(1.0, cost.output * (1 + weight * change))

    def follow_header(self, item: Settled, name: str, limit: float, remaining: float) -> None:
        """Correct the lane's level by what a header reports of the server's bucket."""
        old, gate, reservation = (
            self.reported.get(name),
            self.orders.gates.get(name),
            item.reservation,
        )
        newer = old is None or reservation.at >= self.reported_at.get(name, 0.0)
        if newer:
            self.reported_at[name] = reservation.at
        kept = old is not None and not (newer and old.limit != limit)
        largest = old.largest if old is not None and kept else remaining + 1
        before, here = reservation.mark[name] + self.corrected[name], self.level[name]
        if name == "output":
            here += self.not_generated()
        low, high = min(before, here), max(before, here)
        wrong = min(0.0, remaining - low) + max(0.0, remaining - high)
        if wrong > 0 and gate is not None and not gate.follows_headers:
            wrong = 0.0
        wrong *= 0.5 if old is not None else 1.0
        self.level[name] += wrong
        self.corrected[name] += wrong
        if item.outcome == "refused" and remaining < reservation.guess[name]:
            most = remaining + limit / 60 * (self.refilled_at - reservation.at)
            most -= self.not_generated() if name == "output" else 0.0
            self.level[name] = min(self.level[name], most)
        self.reported[name] = Reported(
            limit=limit if newer or old is None else old.limit,
            largest=max(largest, remaining + reservation.guess[name]),
            corrected=self.corrected[name],
        )

    def refuse(self, item: Settled, now: float) -> None:
        """Pause the fleet. A call sent after the last refusal begins a new epoch."""
        if item.reservation.at >= self.cut_at:
            running = self.running + 1 if self.counts["ok"] else 1
            self.epoch, self.running, self.cut_at = self.epoch + 1, running, now
            self.cut_in_flight, self.cut_gate = item.reservation.in_flight, item.gate
            for name in DIMENSIONS:
                limit, remaining = item.reported.get(name, (0.0, 1.0))
                if remaining <= 0.01 * limit and not item.gate:
                    self.cut_gate = name
            for name, gate in self.orders.gates.items():
                if not gate.follows_headers:
                    half = 0.5 * item.reservation.guess[name]
                    self.level[name] = min(self.level[name], -half)
        pause = min(4.0, self.orders.pause * 2 ** max(0, self.running - 1))
        pause = min(LONGEST_PAUSE_S, max(pause, item.retry_after))
        self.pause_until = max(self.pause_until, now + pause)

    def observed(self) -> Observed:
        """Return what the governor reads. The dicts are copies, as those read from JSON are."""
        return Observed(
            in_flight=len(self.slots),
            sent=self.counts["sent"],
            ok=self.counts["ok"],
            refused=self.counts["refused"],
            unsent=self.counts["unsent"],
            latency=self.latency,
            failed=self.counts["failed"],
            used_input=self.used["input"],
            used_output=self.used["output"],
            bound=dict(self.bound),
            first_ended=self.first_ended,
            epoch=self.epoch,
            cut_in_flight=self.cut_in_flight,
            cut_at=self.cut_at,
            pause_until=self.pause_until,
            cut_gate=self.cut_gate,
            reported=dict(self.reported),
        )

    def govern(self, now: float, chance: float) -> None:
        """Run the law and the breaker, as the governor does ten times a second."""
        observed = self.observed()
        self.law = step(self.law, observed, now)
        before = self.breaker.state
        self.breaker = watch(
            self.breaker,
            calls=observed.ended,
            failed=observed.failed,
            trial=self.trial_end,
            now=self.law.clock,
            chance=chance,
            length=self.law.latency,
        )
        if self.breaker.state != before:
            self.trial = self.trial_end = ""
        self.orders = orders(self.law, self.caps)
