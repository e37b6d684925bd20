"""What claim.lua, settle.lua and the governor do to a lane, in Python for the virtual clock.

The arithmetic is that of the scripts, line by line; only jobs and leases are left out. Times are
seconds of the virtual clock, which stands for Redis TIME.
"""

from __future__ import annotations

import msgspec

from nightmill_worker.lane.breaker import Breaker, watch
from nightmill_worker.lane.law import Law, orders, step
from nightmill_worker.lane.mirror import Told
from nightmill_worker.lane.terms import Caps, Orders, Seen
from tests.scenarios.server import Answer

DIMENSIONS = ("requests", "input", "output")


class Ticket(msgspec.Struct, kw_only=True):
    """A granted call: when, what was reserved, and the lane's levels and corrections then."""

    claimed_at: float
    guess: dict[str, float]
    mark: dict[str, float]
    lease_end: float
    in_flight: int


class Lane:
    """One lane's hash, its slots, and the law that moves it."""

    def __init__(self, caps: Caps, payload: float, max_tokens: float, ratio: float = 0.25) -> None:
        """Start as a lane nobody has used; `payload` is bytes a job."""
        self.caps, self.payload, self.max_tokens = caps, payload, max_tokens
        self.law = Law()
        self.orders: Orders = orders(self.law, caps)
        self.ratio, self.output = ratio, 200.0
        self.slots: dict[int, float] = {}
        self.level = dict.fromkeys(("pace", *DIMENSIONS), 0.0)
        self.corrected = dict.fromkeys(DIMENSIONS, 0.0)
        self.told: dict[str, Told] = {}
        self.told_at: dict[str, float] = {}
        self.refilled_at = 0.0
        self.pause_until = self.cut_at = 0.0
        self.epoch = self.running = self.cut_in_flight = 0
        self.cut_gate = ""
        self.counts = dict.fromkeys(("sent", "ok", "refused", "unsent", "failed"), 0)
        self.latency = 0.0
        self.used = {"input": 0.0, "output": 0.0}
        self.bound = dict.fromkeys(("window", "pace", *DIMENSIONS), 0)
        self.opened: set[str] = set()
        self.breaker = Breaker()
        self.trial, self.trial_end = 0, ""
        self.serial = 0

    def claim(self, now: float, want: int, lease: float) -> tuple[list[tuple[int, Ticket]], float]:
        """Grant up to `want` calls; return them and how long to wait for the gate that binds."""
        for slot in [s for s, end in self.slots.items() if end <= now]:
            del self.slots[slot]
        self.refill(now)
        granted: list[tuple[int, Ticket]] = []
        wait = 1.0
        output = self.max_tokens if self.orders.reserves else self.output
        guess = {"requests": 1.0, "input": self.payload * self.ratio, "output": output}
        while len(granted) < want:
            closed, wait = self.gate(now, guess)
            if closed:
                if closed in self.bound:
                    self.bound[closed] += 1
                break
            self.counts["sent"] += 1
            self.serial += 1
            self.slots[self.serial] = now + lease
            self.level["pace"] -= 1
            for name in DIMENSIONS:
                self.level[name] -= guess[name]
            mark = {d: self.level[d] - self.corrected[d] for d in DIMENSIONS}
            mark["output"] += self.unborn()
            ticket = Ticket(
                claimed_at=now,
                guess=guess,
                mark=mark,
                lease_end=now + lease,
                in_flight=len(self.slots),
            )
            granted.append((self.serial, ticket))
            if self.breaker.state == "half":
                self.trial = self.serial
        return granted, wait

    def gate(self, now: float, guess: dict[str, float]) -> tuple[str, float]:
        """Return the gate that keeps the next call waiting and for how long, or ("", 0)."""
        if self.breaker.state == "open" or (self.breaker.state == "half" and self.trial):
            return "breaker", 0.25
        if self.pause_until > now:
            return "pause", min(1.0, self.pause_until - now)
        if len(self.slots) >= self.orders.window:
            return "window", 1.0
        for name, gate in self.orders.gates.items():
            need = min(guess.get(name, 1.0) + gate.reserve, gate.capacity)
            short = need - self.level[name]
            if short > 1e-9:
                return name, min(1.0, short / gate.rate)
        return "", 0.0

    def refill(self, now: float) -> None:
        """Bring the buckets up to `now`; a clock that went back gives nothing."""
        passed = max(0.0, now - self.refilled_at)
        self.refilled_at = now
        for name, gate in self.orders.gates.items():
            if name not in self.opened and not gate.mirror:
                self.level[name] = gate.capacity  # a new gate starts with what it may hold
            level = self.level[name] + gate.rate * passed
            self.level[name] = min(gate.capacity, level)
        self.opened = set(self.orders.gates)

    def settle(self, now: float, done: list[tuple[int, Ticket, Answer]]) -> None:
        """Account for answers."""
        self.refill(now)
        for slot, ticket, answer in done:
            self.charge(ticket, answer)
            self.hear(ticket, answer)
            if answer.status == 429:
                self.refuse(now, ticket, answer)
            elif answer.status == 200:
                self.learn(ticket, answer)
            else:
                self.counts["failed"] += 1
            self.slots.pop(slot, None)
            if slot == self.trial:
                self.trial_end = "ok" if answer.status in {200, 429} else "failed"

    def charge(self, ticket: Ticket, answer: Answer) -> None:
        """Give back what was reserved too much, take what was too little."""
        for name in ("input", "output"):
            real = answer.input if name == "input" else answer.output
            self.level[name] += ticket.guess[name] - real
        if answer.status != 200:
            self.level["requests"] += 1

    def learn(self, ticket: Ticket, answer: Answer) -> None:
        """Count an answer and learn what calls of this lane cost."""
        self.counts["ok"] += 1
        self.latency += answer.after  # the worker's own measure: no clock jumps in it
        self.used["input"] += answer.input
        self.used["output"] += answer.output
        self.ratio += 0.05 * (answer.input / self.payload - self.ratio)
        self.output += 0.05 * (answer.output - self.output)
        if ticket.claimed_at >= self.cut_at:
            self.running = 0

    def hear(self, ticket: Ticket, answer: Answer) -> None:
        """Correct the mirrors of the server's buckets by what a header says of them.

        The header was written somewhere between send and answer: only what no moment between can
        explain is an error, half of which is believed.
        """
        for name, (limit, remaining) in (answer.headers or {}).items():
            old = self.told.get(name)
            fresh = ticket.claimed_at >= self.told_at.get(name, 0.0)
            if fresh or old is None:
                self.told_at[name] = ticket.claimed_at
            most = remaining + 1 if old is None or (fresh and old.limit != limit) else old.most
            then, here = ticket.mark[name] + self.corrected[name], self.level[name]
            here += self.unborn() if name == "output" else 0.0
            low, high = min(then, here), max(then, here)
            error = min(0.0, remaining - low) + max(0.0, remaining - high)
            gain = 1.0 if old is None else 0.5
            gate = self.orders.gates.get(name)
            if error > 0 and gate is not None and not gate.mirror:
                error = 0.0  # a gate of our own is not filled up by what the server has left
            self.level[name] += gain * error
            self.corrected[name] += gain * error
            adopted = limit if fresh or old is None else old.limit
            most = max(most, remaining + ticket.guess[name])
            self.told[name] = Told(limit=adopted, most=most, corrected=self.corrected[name])

    def unborn(self) -> float:
        """Return the output that is reserved here but not generated yet: half of what runs."""
        return 0.0 if self.orders.reserves else 0.5 * len(self.slots) * self.output

    def refuse(self, now: float, ticket: Ticket, answer: Answer) -> None:
        """Pause the fleet; a call sent after the last refusal opens a new epoch."""
        self.counts["refused"] += 1
        if ticket.claimed_at >= self.cut_at:
            self.epoch += 1
            self.running += 1
            self.cut_at = now
            self.cut_in_flight = ticket.in_flight
            self.cut_gate = answer.gate
            for name, (limit, remaining) in (answer.headers or {}).items():
                if remaining <= 0.01 * limit and not answer.gate:
                    self.cut_gate = name
            for name, gate in self.orders.gates.items():
                if not gate.mirror:  # what the endpoint's bucket lacks is not in ours either
                    half = 0.5 * ticket.guess.get(name, 1.0)
                    self.level[name] = min(self.level[name], -half)
        pause = min(4.0, self.orders.pause * 2 ** max(0, self.running - 1))
        self.pause_until = max(self.pause_until, now + max(pause, answer.retry_after or 0.0))

    def govern(self, now: float, chance: float) -> None:
        """Run the breaker and the law, as the governor does ten times a second."""
        before = self.breaker.state
        ended = self.counts["ok"] + self.counts["refused"] + self.counts["failed"]
        self.breaker = watch(
            self.breaker,
            calls=ended,
            failed=self.counts["failed"],
            trial=self.trial_end,
            now=self.law.clock,
            chance=chance,
        )
        if self.breaker.state != before:
            self.trial, self.trial_end = 0, ""
        seen = Seen(
            in_flight=len(self.slots),
            sent=self.counts["sent"],
            ok=self.counts["ok"],
            refused=self.counts["refused"],
            unsent=self.counts["unsent"],
            latency=self.latency,
            input=self.used["input"],
            output=self.used["output"],
            bound=self.bound,
            epoch=self.epoch,
            cut_in_flight=self.cut_in_flight,
            cut_gate=self.cut_gate,
            told=self.told,
        )
        self.law = step(self.law, msgspec.convert(msgspec.to_builtins(seen), Seen), now)
        self.orders = orders(self.law, self.caps)
