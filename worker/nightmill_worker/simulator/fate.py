"""What becomes of one call: drawn from the seed, the prompt and how often it was called."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from nightmill_worker.simulator.config import SimulatorConfig

Kind = Literal["answer", "status", "stall", "truncate", "sse_error", "drop", "wrong_type"]


@dataclass(frozen=True, slots=True)
class Fate:
    """How a call ends, how long it takes (seconds), and the status of a `status` fate."""

    kind: Kind
    latency_s: float
    status: int = 200


def draw_fate(config: SimulatorConfig, key: str, nth: int, *, stream: bool) -> Fate:
    """Draw the fate of the `nth` call of a prompt.

    It depends on nothing else, so a run meets the same faults whatever order its calls come in.
    """
    draw = hashlib.blake2b(f"{config.seed}:{nth}:{key}".encode(), digest_size=16).digest()
    luck, spread = (int.from_bytes(half) / 2**64 for half in (draw[:8], draw[8:]))
    latency_s = config.latency_s * (1 + config.jitter * (2 * spread - 1))
    for fault in config.faults:
        if luck < fault.share:
            return Fate("status", latency_s, fault.status)
        luck -= fault.share
    shares: tuple[tuple[Kind, float], ...] = (
        ("stall", config.stall),
        ("truncate", config.truncate),
        ("drop", config.drop),
        ("wrong_type", config.wrong_type),
        ("sse_error", config.sse_error if stream else 0.0),
    )
    for kind, share in shares:
        if luck < share:
            return Fate(kind, latency_s)
        luck -= share
    return Fate("answer", latency_s)
