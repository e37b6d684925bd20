"""What the model of the scripts knows: one account, one lane, its limits, its jobs and claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import msgspec

from nightmill.queue import keys, wire
from nightmill.records.job import Job

ACCOUNT, MODEL = "l", "m"
LANE = f"{keys.LANE}{ACCOUNT}:{MODEL}"
BATCHES = ("", "b", "c")
WINDOW, LEASE_MS = 4, 60_000
TOMORROW = 2e10  # epoch s
CAPACITY = {"pace": 5, "requests": 4, "input": 100, "output": 700}
"""A few claims empty these buckets. They do not refill before the rule `time_passes`."""
PAST_MS = 1_000
"""A score in the past; not 1, which arq's abort() sets."""
GATE = {"rate": 1e-12, "reserve": 0, "mirror": False}
GATES = {name: GATE | {"capacity": capacity} for name, capacity in CAPACITY.items()}
ORDERS = msgspec.json.encode(
    {
        "window": WINDOW,
        "gates": GATES,
        "reserves": False,
        "pause": 0,
        "breaker": "closed",
        "round": 0,
    }
)
DEBT = {"pace": 1, "requests": 1, "input": 100, "output": 200}
"""How far below 0 one call may take a bucket: a refusal, or an estimate that was too low."""
STATES = ("in_flight", "retrying", "snoozed", "succeeded", "failed", "cancelled", "expired")
Outcome = Literal["ok", "refused", "failed", "rejected", "unsent"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
PAYLOAD = wire.encode_job(Job(params=msgspec.Raw(b'{"model":"m","messages":[]}')), 1)


def queue_of(batch: str) -> str:
    """Return the queue of a batch's jobs."""
    return keys.queue_of(batch or None, MODEL)


class Claim(NamedTuple):
    """A granted job: its id, its lease's token, the reservation that settle wants back."""

    job_id: str
    token: str
    reservation: msgspec.Raw


@dataclass
class ModelJob:
    """What the model knows of one job."""

    batch: str
    state: str = "queued"
    token: str = ""
    expired: bool = False
    ended: list[str] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether it has no result and no call under a live lease."""
        return self.state != "over" and (self.state != "in_flight" or self.expired)
