"""The plan for one call: drawn from the seed, the prompt and how often it was called."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from nightmill_worker.simulator.config import SimulatorConfig

Kind = Literal["answer", "status", "stall", "truncate", "sse_error", "drop", "wrong_type"]


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How a call ends and how long it takes."""

    kind: Kind
    latency_s: float
    """Duration of the call, seconds."""
    status: int = 200
    """HTTP status of a plan of kind `status`."""


def plan_call(config: SimulatorConfig, key: str, nth: int, *, stream: bool) -> CallPlan:
    """Draw the plan for the `nth` call of the prompt `key`.

    It depends on nothing else: a run gets the same faults in whatever order its calls arrive.
    """
    draw = hashlib.blake2b(f"{config.seed}:{nth}:{key}".encode(), digest_size=16).digest()
    chance, spread = (int.from_bytes(half) / 2**64 for half in (draw[:8], draw[8:]))
    latency_s = config.latency_s * (1 + config.jitter * (2 * spread - 1))
    for fault in config.faults:
        if chance < fault.share:
            return CallPlan("status", latency_s, fault.status)
        chance -= fault.share
    shares: tuple[tuple[Kind, float], ...] = (
        ("stall", config.stall),
        ("truncate", config.truncate),
        ("drop", config.drop),
        ("wrong_type", config.wrong_type),
        ("sse_error", config.sse_error if stream else 0.0),
    )
    for kind, share in shares:
        if chance < share:
            return CallPlan(kind, latency_s)
        chance -= share
    return CallPlan("answer", latency_s)
