"""nightmill: hand over a pile of prompts, get a pile of results.

This is the client: it enqueues and reads results. The worker is `nightmill_worker`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.client import Producer
    from nightmill.counts import Counts
    from nightmill.errors import (
        BatchEndedError,
        BatchNotFoundError,
        BatchStoppedError,
        BatchTimeoutError,
        InvalidLimitError,
        InvalidParamsError,
        JobFailedError,
        JobNotFoundError,
        NightmillError,
        QueueUnavailableError,
        ResultTimeoutError,
    )
    from nightmill.feed import Fed
    from nightmill.handle import Batch
    from nightmill.intake import Receipt, Taken
    from nightmill.result import Attempt, ErrorInfo, Result, Usage
    from nightmill.settings import Settings, load_settings
    from nightmill.sources import Template
    from nightmill.state import JobState
    from nightmill.sync import SyncProducer
    from nightmill.wire import dump, load

__all__ = [
    "Attempt",
    "Batch",
    "BatchEndedError",
    "BatchNotFoundError",
    "BatchStoppedError",
    "BatchTimeoutError",
    "Counts",
    "ErrorInfo",
    "Fed",
    "InvalidLimitError",
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
    "Template",
    "Usage",
    "dump",
    "load",
    "load_settings",
]

_ROOMS = (
    *("state", "errors", "result", "wire", "settings", "counts"),
    *("sources", "intake", "feed", "handle", "client", "sync"),
)
"""Where these names live, the lightest module first."""

if not TYPE_CHECKING:  # type checkers know the names from above, and no others

    def __getattr__(name: str) -> object:
        """Fetch a public name when it is first used: `nightmill --help` waits for none."""
        for room in _ROOMS if name in __all__ else ():
            module = import_module(f"nightmill.{room}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
