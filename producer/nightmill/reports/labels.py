"""The words that commands print as headings and labels; docs/glossary.md explains each of them.

Job states are in records.state, batch states in records.counts, those of a webhook in
queue.webhooks.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

NO_WORKER: Final = (
    'no worker is running: start one with "nightmill worker", or run the file again with '
    '"nightmill run"'
)
"""What is wrong, and the fix, while jobs wait and no running worker claims them."""


class StatusColumn(StrEnum):
    """Headings of `nightmill status`; the job states stand between REFUSED and TOKENS."""

    BATCH = "batch"
    STATE = "state"
    DONE = "done"
    RATE = "rate"
    ETA = "ETA"
    COST = "cost"
    REFUSED = "refused (429)"
    TOKENS = "tokens in / out"
    LIMIT_USED = "of rate limit"


class ProgressLabel(StrEnum):
    """Words of the progress line of `run`, `enqueue`, `wait` and `status --watch`."""

    DONE = "done"
    FAILED = "failed"
    IN_FLIGHT = "in flight"
    TOKENS = "tokens"
    REFUSED = "refused (429)"
    ETA = "ETA"


class PanelLabel(StrEnum):
    """Labels of the panel that `run`, `enqueue` and `wait` show on a terminal."""

    ETA = "ETA"
    BATCH = "batch"
    DONE = "done"
    RATE = "rate"
    TOKENS = "tokens"
    COST = "cost"
    LIMITED_BY = "limited by"
    REFUSED = "refused (429)"
    NOT_WHOLE = "not whole"
    NEWEST_ERROR = "newest error"


class SummaryLabel(StrEnum):
    """Labels of the summary that `run` shows at its end on a terminal."""

    BATCH = "batch"
    SUCCEEDED = "succeeded"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    NOT_WHOLE = "not whole"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LEFT = "left"
    TOKENS = "tokens"
    COST = "cost"
    LIMIT_USED = "limit used"
    OUTPUT = "output"


class KeyColumn(StrEnum):
    """Headings of `nightmill keys list`."""

    KEY = "key"
    NAME = "name"
    ROLE = "role"
    TENANT = "tenant"
    STATE = "state"
    EXPIRES = "expires"
    LIMITS = "limits"
    USED = "used"


class KeyState(StrEnum):
    """The state of a key."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class LaneColumn(StrEnum):
    """Headings of `nightmill lanes`."""

    LANE = "lane"
    LIMITED_BY = "limited by"
    IN_FLIGHT = "in flight"
    REFUSED = "refused (429)"
    REQUESTS = "requests/min"
    INPUT = "input/min"
    OUTPUT = "output/min"


class HistoryLabel(StrEnum):
    """Labels of `nightmill show`."""

    RUN = "run"
    MODEL = "model"
    LANE = "lane"
    WORKER = "worker"
    ENQUEUED = "enqueued"
    FINISHED = "finished"
    QUEUE_TIME = "in the queue"
    CALL_TIME = "in calls"
    COUNTED = "counted attempts"
    NOT_COUNTED = "not counted"
    WAITED = "waited"
    TOKENS = "tokens"
    CACHE = "cache"
    STOP_REASON = "stop reason"
    ERROR = "error"
    FIX = "to fix it"
    REQUEST = "request"
    ANSWER = "answer"


class FailureLabel(StrEnum):
    """Labels of `nightmill errors`."""

    EXAMPLE = "example"
    FIX = "to fix it"
    RUN_AGAIN = "run again"


class VerifyLabel(StrEnum):
    """Labels of `nightmill verify`."""

    STORED = "stored"
    UNFINISHED = "not finished"
    MISSING = "missing"
    FIX = "to fix it"
    OTHERS = "rows of other ids"
    LOST_CALLS = "calls lost in crashes"


class DryRunLabel(StrEnum):
    """Labels of `--dry-run`."""

    INPUT = "input"
    OUTPUT = "output"
    ATTACHMENT = "attachment"
    COST = "cost"
    WARNING = "warning"
    BAD_ROW = "bad row"
