"""nightmill: hand over a pile of prompts, get a pile of results.

This is the client: it enqueues and reads results. The worker is `nightmill_worker`.
"""

from nightmill.client import Producer
from nightmill.errors import (
    InvalidParamsError,
    JobFailedError,
    JobNotFoundError,
    NightmillError,
    QueueUnavailableError,
    ResultTimeoutError,
)
from nightmill.intake import Receipt, Taken
from nightmill.result import Attempt, ErrorInfo, Result, Usage
from nightmill.settings import Settings, load_settings
from nightmill.state import JobState
from nightmill.sync import SyncProducer
from nightmill.wire import dump, load

__all__ = [
    "Attempt",
    "ErrorInfo",
    "InvalidParamsError",
    "JobFailedError",
    "JobNotFoundError",
    "JobState",
    "NightmillError",
    "Producer",
    "QueueUnavailableError",
    "Receipt",
    "Result",
    "ResultTimeoutError",
    "Settings",
    "SyncProducer",
    "Taken",
    "Usage",
    "dump",
    "load",
    "load_settings",
]
