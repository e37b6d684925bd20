"""Every Redis key and every time-to-live, in one place.

The `arq:` keys are arq's own (arq 0.28 constants.py), so that arq's Job API works on our jobs;
all others start with `nightmill:`. The Lua scripts build keys from the same prefixes.
"""

from __future__ import annotations

from typing import Final

# arq's own
PAYLOAD: Final = "arq:job:"
IN_PROGRESS: Final = "arq:in-progress:"
RESULT: Final = "arq:result:"
ABORTS: Final = "arq:abort"

# queues: sorted sets, id -> due time or lease end (epoch ms)
QUEUE: Final = "nightmill:queue"
QUEUES: Final = "nightmill:queues"
"""Set of the active batch queues; the shared queue is always active."""
QUEUES_OF: Final = "nightmill:queues:"
"""Set of the queues a batch ever had, one a model."""
FOREIGN: Final = "nightmill:foreign"
QUARANTINE: Final = "nightmill:quarantine"
WAKE: Final = "nightmill:wake"
"""Channel: a producer publishes here after it enqueued."""

# per job, per batch, per lane
RECORD: Final = "nightmill:job:"
ATTEMPTS: Final = "nightmill:attempts:"
BATCH: Final = "nightmill:batch:"
BATCHES: Final = "nightmill:batches"
"""Set of the batches that were ever fed."""
LANES: Final = "nightmill:lanes"
GOVERNOR: Final = "nightmill:governor:"
GRANT: Final = "nightmill:grant:"
"""What a worker's last claim got, so that a lost answer can be given again."""
SIDESTEP: Final = "nightmill:sidestep"
SWEEP: Final = "nightmill:sweep"
"""How far the sweep of the shared queue is, and when it went on."""
FEEDER: Final = "nightmill:feeder:"
ACCOUNT: Final = "nightmill:line:"
LANE: Final = "nightmill:lane:"
WORKERS: Final = "nightmill:workers"
DEATHS: Final = "nightmill:deaths"
"""Sorted set: workers that died with their jobs -> when that was noticed, epoch ms."""
CANCELLATION: Final = "nightmill:withdrawal:"
"""Who takes the queued jobs of an ended batch out."""

SINGLES: Final = ""
"""The batch name under which single jobs are counted."""

WEBHOOKS: Final = "nightmill:webhooks"
"""Sorted set: batches whose completion is still to be told -> when to look, epoch ms."""
WEBHOOK: Final = "nightmill:webhook:"
"""Held by the worker that tells of a batch right now."""

RESULT_TTL_MS: Final = 3_600_000
FEEDER_TTL_MS: Final = 15_000
CANCELLATION_TTL_MS: Final = 5_000


def batch_queue(batch: str, model: str) -> str:
    """Name the queue of one batch and model; a batch name has no colon, a model may."""
    return f"{QUEUE}:{batch}:{model}"


def queue_of(batch: str | None, model: str) -> str:
    """Name the queue a job belongs in: its batch's, or the shared one for a single job."""
    return batch_queue(batch, model) if batch else QUEUE


def job_id(batch: str, custom_id: str) -> str:
    """Name a batch job, so that enqueueing it twice is a no-op."""
    return f"{batch}:{custom_id}"
