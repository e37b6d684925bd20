"""What goes into the law and what comes out of it: plain records.

A lane's Redis hash stores them as JSON. Workers of two versions read it at the same time, so a
field that was renamed in Python keeps its stored name (`rename`).
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import msgspec

from nightmill_worker.limiter.bounds import LARGEST_COUNT, LARGEST_WINDOW, bounded, count
from nightmill_worker.limiter.header_bucket import Reported

DIMENSIONS: Final = ("requests", "input", "output")
CUT_GATES: Final = ("window", *DIMENSIONS)
"""What a refusal may name."""
GATES: Final = (*CUT_GATES, "pace", "pause", "breaker")
"""What may keep a call waiting."""
OVERTAKING: Final = 8
"""Calls that may arrive before one that was sent earlier."""
REMEMBERED: Final = 1000
"""Batches at most; lane.lua stores 32."""


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator allows each lane; None means no cap."""

    requests: float | None = None
    """Requests a minute."""
    input: float | None = None
    """Input tokens a minute."""
    output: float | None = None
    """Output tokens a minute."""
    window: int | None = None
    """Calls in flight at once."""
    polite: float = 0.0
    """Share of the endpoint's limits that is left to other users of the credential, 0 to 1."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What lane.lua knows of a batch. The law needs the number of answers only."""

    answers: int = 0


class Observed(msgspec.Struct, frozen=True, kw_only=True, rename={"reported": "told"}):
    """What the fleet observed in a lane: lane.lua's counters since the lane began."""

    in_flight: int = 0
    """Calls in flight now."""
    sent: int = 0
    """Calls that claims granted."""
    ok: int = 0
    """Calls answered with a message."""
    refused: int = 0
    """Calls answered with a 429."""
    unsent: int = 0
    """Granted calls that were never made."""
    failed: int = 0
    """Calls answered with a 5xx or 529, or broken off."""
    rejected: int = 0
    """Calls answered with an error that is the job's own fault."""
    latency: float = 0.0
    """Seconds that the calls answered with a message took, summed up."""
    used_input: float = 0.0
    """Input tokens that the endpoint counted."""
    used_output: float = 0.0
    """Output tokens that the endpoint counted."""
    first_ended: int = 0
    """How many of the first calls of a lane that opened have ended."""
    bound: dict[str, int] = {}
    """Gate -> how many claims found that this gate kept a job waiting."""
    epoch: int = 0
    """Counts the refusals of calls that were sent after the refusal before."""
    cut_in_flight: int = 0
    """Calls in flight when the call of the last epoch's refusal was sent, itself included."""
    cut_at: float = 0.0
    """When the last epoch began, by Redis's clock, seconds."""
    pause_until: float = 0.0
    """When the last pause ends, by Redis's clock, seconds."""
    cut_gate: str = ""
    """The gate that the last epoch's 429 or its headers named, "" for none."""
    reported: dict[str, Reported] = {}
    """Dimension -> what headers reported."""
    trial_end: str = ""
    """How the breaker's trial ended: "ok" or "failed"; "" while it runs."""
    costs: dict[str, Cost] = {}
    """Batch -> what is known of its calls."""

    @property
    def accepted(self) -> int:
        """Calls that the endpoint accepted. Calls whose answer is not there yet are included."""
        return max(0, self.sent - self.refused - self.unsent)

    @property
    def ended(self) -> int:
        """Calls that have an answer of any kind."""
        return self.ok + self.refused + self.failed + self.rejected

    @property
    def doubts(self) -> int:
        """Calls that were refused, or that failed: they show that a known limit is wrong."""
        return self.refused + self.failed

    @property
    def reached(self) -> int:
        """Calls in flight with which the last epoch's call was refused, itself included.

        A few calls that were sent after it may have arrived before it, and were accepted.
        """
        return max(self.cut_in_flight, min(self.in_flight + 1, self.cut_in_flight + OVERTAKING))

    @property
    def paused(self) -> float:
        """How long the pause after the last epoch's refusal was, seconds."""
        return max(0.0, self.pause_until - self.cut_at)

    def used(self, dimension: str) -> float:
        """Return the units of a dimension used since the lane began."""
        if dimension == "requests":
            return float(self.accepted)
        return self.used_input if dimension == "input" else self.used_output

    def within_bounds(self) -> Observed:
        """Return these observations with every number finite and in range, and known names only.

        A value from outside cannot break the law: whatever a lane's hash holds comes in here.
        """
        return Observed(
            in_flight=int(bounded(self.in_flight, 0, LARGEST_WINDOW)),
            sent=count(self.sent),
            ok=count(self.ok),
            refused=count(self.refused),
            unsent=count(self.unsent),
            failed=count(self.failed),
            rejected=count(self.rejected),
            latency=bounded(self.latency, 0.0, LARGEST_COUNT),
            used_input=bounded(self.used_input, 0.0, LARGEST_COUNT),
            used_output=bounded(self.used_output, 0.0, LARGEST_COUNT),
            first_ended=count(self.first_ended),
            bound={name: count(self.bound[name]) for name in GATES if name in self.bound},
            epoch=count(self.epoch),
            cut_in_flight=int(bounded(self.cut_in_flight, 0, LARGEST_WINDOW)),
            cut_at=bounded(self.cut_at, 0.0, LARGEST_COUNT),
            pause_until=bounded(self.pause_until, 0.0, LARGEST_COUNT),
            cut_gate=self.cut_gate if self.cut_gate in CUT_GATES else "",
            reported={
                d: self.reported[d].within_bounds()
                for d in DIMENSIONS
                if d in self.reported and self.reported[d].credible
            },
            trial_end=self.trial_end,
            costs={
                batch: Cost(answers=count(cost.answers))
                for batch, cost in islice(self.costs.items(), REMEMBERED)
            },
        )

    def continues(self, before: Observed) -> bool:
        """Whether the counters went on from `before`. After a loss of the hash, they start at 0."""
        return self.sent >= before.sent and self.ok >= before.ok and self.epoch >= before.epoch


class Gate(msgspec.Struct, frozen=True, kw_only=True, rename={"follows_headers": "mirror"}):
    """A bucket that claims take from."""

    rate: float
    """Refill, units a second."""
    capacity: float
    """The most that the bucket holds, units."""
    reserve: float = 0.0
    """Claims leave this much in the bucket, units."""
    follows_headers: bool = False
    """True: headers correct the level up and down. False: headers only correct it down."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the law publishes for claims to obey."""

    window: int
    """Calls in flight at most."""
    gates: dict[str, Gate]
    """Gate (pace, requests, input, output) -> its bucket."""
    reserves: bool
    """True: a claim charges a call's max_tokens. False: it charges the output it expects."""
    pause: float
    """The first pause of the fleet after a refusal, seconds."""
