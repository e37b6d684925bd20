"""Every Redis key and every time-to-live. docs/wire.md lists them; a test compares the two.

The `arq:` keys are those of arq 0.28 (its constants.py), so arq's Job API works on our jobs. All
others start with `nightmill:`. The Lua scripts get the same names: see `wire.lua_prelude`.
"""

from __future__ import annotations

from typing import Final

# Keys of arq. Names that end in a colon are prefixes.
PAYLOAD: Final = "arq:job:"
"""String, by job id: the job's payload."""
IN_PROGRESS: Final = "arq:in-progress:"
"""String, by job id: the lease; its value is the token."""
RESULT: Final = "arq:result:"
"""String, by job id: arq's result dict as JSON."""
ABORTS: Final = "arq:abort"
"""Sorted set: job ids that arq's `abort()` asked to cancel."""

# Queues: sorted sets, job id -> due time or lease end, epoch ms.
QUEUE: Final = "nightmill:queue"
"""The shared queue, of single jobs."""
QUEUES: Final = "nightmill:queues"
"""Set: the batch queues that are claimed from. The shared queue always is."""
QUEUES_OF: Final = "nightmill:queues:"
"""Set, by batch: all queues it ever had, one a model."""
FOREIGN: Final = "nightmill:foreign"
"""Sorted set: ids of jobs that are not nightmill's -> when they were moved here, epoch ms."""
QUARANTINE: Final = "nightmill:quarantine"
"""Hash: job id -> a payload that is not a nightmill job."""
WAKE: Final = "nightmill:wake"
"""Channel: a producer publishes here after it enqueued jobs."""

# By job, batch, account or lane.
RECORD: Final = "nightmill:job:"
"""Hash, by job id: state, token, numbers of calls and deaths."""
ATTEMPTS: Final = "nightmill:attempts:"
"""List, by job id: attempts as JSON."""
BATCH: Final = "nightmill:batch:"
"""Hash, by batch: counts, flag, limits, webhook."""
BATCHES: Final = "nightmill:batches"
"""Set: names of the known batches."""
LANES: Final = "nightmill:lanes"
"""Set: `<account>:<lane>` of every lane."""
GOVERNOR: Final = "nightmill:governor:"
"""String, by account: the worker that sets the limits of its lanes now."""
GRANT: Final = "nightmill:grant:"
"""String, by worker: the jobs of its last claim, to send them again when the answer was lost."""
SIDESTEP: Final = "nightmill:sidestep"
"""String: the head of the shared queue was put back a moment ago."""
SWEEP: Final = "nightmill:sweep"
"""Hash: how far sweep.lua has read the shared queue, and when it ran last."""
FEEDER: Final = "nightmill:feeder:"
"""String, by batch: the process that feeds it."""
UNREAD: Final = "nightmill:unread:"
"""List, by tenant and request: jobs whose answers their clients over HTTP do not have yet."""
NAMED: Final = "nightmill:named:"
"""String, by tenant, path and Idempotency-Key: digest of the body, and name of the job."""
GATEWAY: Final = "nightmill:gateway:"
"""Channel, by gateway process, which is subscribed to it while it runs."""
REQUESTS: Final = "nightmill:requests:"
"""Hash, by key id: requests that it may send. With `:open` behind it: those not answered yet."""
BUDGET: Final = "nightmill:budget:"
"""Hash, by key id: its budget, and what its jobs have cost in the period."""
ACCOUNT: Final = "nightmill:line:"
"""Hash, by account: state and reason while it is not open."""
ACCOUNTS: Final = "nightmill:accounts"
"""Hash: account -> the host of its endpoint, for a person."""
HELD: Final = "nightmill:held:"
"""Hash, by account: model -> why its lane is held or stopped, as JSON; see account.lua."""
LANE: Final = "nightmill:lane:"
"""Hash, by lane: buckets, window, pause. With `:slots` behind it, a sorted set: calls in flight."""
WORKERS: Final = "nightmill:workers"
"""Hash: worker -> its last sign of life, as JSON."""
WORKER: Final = "nightmill:worker:"
"""String, by worker: its version, host, memory ... as JSON, see live_workers.Facts."""
CRASHES: Final = "nightmill:crashes"
"""Hash: <host>:<pid> of a supervisor whose workers keep dying at start -> JSON, see crashes.py."""
TROUBLES: Final = "nightmill:troubles"
"""Hash: a worker that runs but cannot go on as it should -> JSON, see crashes.py."""
STORE: Final = "nightmill:store"
"""Hash: the results store that is used with this Redis."""
CANCELLATION: Final = "nightmill:withdrawal:"
"""String, by batch: the process that takes its queued jobs out after it has ended."""

SINGLES: Final = ""
"""The batch name under which single jobs are counted."""

WEBHOOKS: Final = "nightmill:webhooks"
"""Sorted set: batches whose webhook is not delivered yet -> next try, epoch ms."""
WEBHOOK: Final = "nightmill:webhook:"
"""String, by batch: the worker that delivers its webhook now."""
NOTICES: Final = "nightmill:notices"
"""Sorted set: ids of notices that are not delivered yet -> next try, epoch ms."""
NOTICE: Final = "nightmill:notice:"
"""String, by id: a webhook about one event, as JSON; see notices.py."""

SESSION: Final = "nightmill:session:"
"""String, by digest of a session's id: the id of the key that a browser logged in with."""
LOGINS: Final = "nightmill:logins:"
"""String, by address: how many wrong keys in the console's login form."""
HISTORY: Final = "nightmill:history:"
"""List, by span (hour, day) and series: points as JSON, see reports/history.py."""

# Times to live, milliseconds.
RESULT_TTL_MS: Final = 3_600_000
"""Of a single job's RESULT."""
MARKER_TTL_MS: Final = 60_000
"""Of a batch job's RESULT: its row says the same, and a million of them slow a server's start."""
FEEDER_TTL_MS: Final = 15_000
"""Of FEEDER; the feeder renews it."""
CANCELLATION_TTL_MS: Final = 5_000
"""Of CANCELLATION; each call of cancellation.lua renews it."""
NOTICE_TTL_MS: Final = 604_800_000
"""Of NOTICE until it is delivered or given up; its tries last a day."""
NOTICED_TTL_MS: Final = 86_400_000
"""Of NOTICE after that: the same event is not sent again meanwhile."""
UNREAD_TTL_MS: Final = 600_000
"""Of UNREAD: for so long a retry of the same request takes over the job."""
NAMED_TTL_MS: Final = 86_400_000
"""Of NAMED."""
WORKER_TTL_MS: Final = 60_000
"""Of WORKER; each sign of life renews it."""
SESSION_TTL_MS: Final = 43_200_000
"""Of SESSION, after its last request."""
LOGINS_TTL_MS: Final = 60_000
"""Of LOGINS, after the last key."""
REQUESTS_TTL_MS: Final = 600_000
"""Of REQUESTS; each request renews it."""
OPEN_TTL_MS: Final = 60_000
"""Of a request in `:open`; its gateway renews it."""
CRASHES_TTL_MS: Final = 600_000
"""Of CRASHES and TROUBLES; each write of a note renews it."""


def history(span: str, series: str) -> str:
    """Return the list of points of one series: of the fleet, a lane or a batch."""
    return f"{HISTORY}{span}:{series}"


def batch_queue(batch: str, model: str) -> str:
    """Return the queue of one batch and model. A batch name has no colon; a model may have one."""
    return f"{QUEUE}:{batch}:{model}"


def queue_of(batch: str | None, model: str) -> str:
    """Return the queue of a job: its batch's, or the shared one for a single job."""
    return batch_queue(batch, model) if batch else QUEUE


def job_id(batch: str, custom_id: str) -> str:
    """Return the job id of a batch job. It is fixed, so a second enqueue changes nothing."""
    return f"{batch}:{custom_id}"
