"""The client: enqueues requests as jobs and reads their results.

The workers that call the endpoint are the package `nightmill_worker`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.client.batch import Batch
    from nightmill.client.producer import Producer
    from nightmill.client.sync import SyncProducer
    from nightmill.enqueue.changes import Changed
    from nightmill.enqueue.fed import Fed
    from nightmill.enqueue.prepare import Receipt, Taken
    from nightmill.errors import (
        AnswerNotJSONError,
        BatchBusyError,
        BatchChangedError,
        BatchEndedError,
        BatchNotFoundError,
        BatchStoppedError,
        BatchTimeoutError,
        InvalidAcceptanceError,
        InvalidLimitError,
        InvalidParamsError,
        JobFailedError,
        JobNotFoundError,
        NightmillError,
        QueueUnavailableError,
        ResultTimeoutError,
        SchemaError,
        SettingsError,
        StoreMissingError,
        WrongLoopError,
    )
    from nightmill.queue.wire import dump, load
    from nightmill.records.acceptance import Acceptance
    from nightmill.records.counts import Counts
    from nightmill.records.limits import Limits
    from nightmill.records.message import Message
    from nightmill.records.result import Attempt, Bill, ErrorInfo, Result, Usage
    from nightmill.records.state import JobState
    from nightmill.settings import Settings, load_settings
    from nightmill.sources import Template
    from nightmill.store import ResultStore

__all__ = [
    "Acceptance",
    "AnswerNotJSONError",
    "Attempt",
    "Batch",
    "BatchBusyError",
    "BatchChangedError",
    "BatchEndedError",
    "BatchNotFoundError",
    "BatchStoppedError",
    "BatchTimeoutError",
    "Bill",
    "Changed",
    "Counts",
    "ErrorInfo",
    "Fed",
    "InvalidAcceptanceError",
    "InvalidLimitError",
    "InvalidParamsError",
    "JobFailedError",
    "JobNotFoundError",
    "JobState",
    "Limits",
    "Message",
    "NightmillError",
    "Producer",
    "QueueUnavailableError",
    "Receipt",
    "Result",
    "ResultTimeoutError",
    "SchemaError",
    "Settings",
    "SettingsError",
    "StoreMissingError",
    "SyncProducer",
    "Taken",
    "Template",
    "Usage",
    "WrongLoopError",
    "dump",
    "load",
    "load_settings",
]

if find_spec("sqlalchemy") is not None:  # else `from nightmill import *` would fail
    __all__ += ["ResultStore"]

_MODULE_OF = {
    "Acceptance": "records.acceptance",
    "AnswerNotJSONError": "errors",
    "Attempt": "records.result",
    "Batch": "client.batch",
    "Bill": "records.result",
    "BatchBusyError": "errors",
    "BatchChangedError": "errors",
    "BatchEndedError": "errors",
    "BatchNotFoundError": "errors",
    "BatchStoppedError": "errors",
    "BatchTimeoutError": "errors",
    "Changed": "enqueue.changes",
    "Counts": "records.counts",
    "ErrorInfo": "records.result",
    "Fed": "enqueue.feeder",
    "InvalidAcceptanceError": "errors",
    "InvalidLimitError": "errors",
    "InvalidParamsError": "errors",
    "JobFailedError": "errors",
    "JobNotFoundError": "errors",
    "JobState": "records.state",
    "Limits": "records.limits",
    "Message": "records.message",
    "NightmillError": "errors",
    "Producer": "client.producer",
    "QueueUnavailableError": "errors",
    "Receipt": "enqueue.prepare",
    "Result": "records.result",
    "ResultStore": "store",
    "ResultTimeoutError": "errors",
    "SchemaError": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "StoreMissingError": "errors",
    "SyncProducer": "client.sync",
    "Taken": "enqueue.prepare",
    "Template": "sources",
    "Usage": "records.result",
    "WrongLoopError": "errors",
    "dump": "queue.wire",
    "load": "queue.wire",
    "load_settings": "settings",
}
"""Public name -> the module that defines it, imported when the name is first used."""

if not TYPE_CHECKING:  # type checkers take the names from the imports above

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that `nightmill --help` starts fast.

        Raises AttributeError, and StoreMissingError for `ResultStore` in the base install.
        """
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in __all__:
            raise import_module("nightmill.errors").StoreMissingError
        globals()[name] = getattr(import_module(f"nightmill.{_MODULE_OF[name]}"), name)
        return globals()[name]
