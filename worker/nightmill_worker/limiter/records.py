"""What goes into the law and what comes out of it: plain records, kept in a lane's hash."""

from __future__ import annotations

import msgspec

from nightmill_worker.limiter.header_bucket import Reported


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator allows: per minute, in flight; `polite` is the share left to others."""

    requests: float | None = None
    input: float | None = None
    output: float | None = None
    window: int | None = None
    polite: float = 0.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What lane.lua knows of a batch; only how many answers it had is of interest here."""

    answers: int = 0


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane's hash says: lane.lua's counters since its beginning, and its last refusal.

    `ok`, `refused`, `unsent`, `failed`, `rejected` and `latency` (s, summed) are of answers, `sent`
    of claims; `used_input` and `used_output` are real tokens; `bound` says per gate how often it
    kept a job waiting. `epoch` counts refusals of calls sent after the refusal before;
    `cut_in_flight` (with the refused call) and `cut_gate` (what the 429 or its headers name, "" for
    nothing) are of the last one. `trial_end` is how the breaker's trial ended, "" while it runs.
    """

    in_flight: int = 0
    sent: int = 0
    ok: int = 0
    refused: int = 0
    unsent: int = 0
    failed: int = 0
    rejected: int = 0
    latency: float = 0.0
    used_input: float = 0.0
    used_output: float = 0.0
    bound: dict[str, int] = {}
    epoch: int = 0
    cut_in_flight: int = 0
    cut_gate: str = ""
    told: dict[str, Reported] = {}
    trial_end: str = ""
    costs: dict[str, Cost] = {}

    @property
    def accepted(self) -> int:
        """Calls that the endpoint let in, those on their way included."""
        return self.sent - self.refused - self.unsent

    @property
    def ended(self) -> int:
        """Calls that were answered, however."""
        return self.ok + self.refused + self.failed + self.rejected

    def used(self, dimension: str) -> float:
        """Return the units of a dimension used so far."""
        if dimension == "requests":
            return float(self.accepted)
        return self.used_input if dimension == "input" else self.used_output


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that claim keeps: units a second, what it holds, and what stays in it.

    A `mirror` follows the endpoint's headers both ways; any other only learns that less is left.
    """

    rate: float
    capacity: float
    reserve: float = 0.0
    mirror: bool = False


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the law publishes: calls in flight at most, and the gates by name.

    `reserves` tells claim to charge a call's max_tokens instead of the output learned.
    """

    window: int
    gates: dict[str, Gate]
    reserves: bool
    pause: float
