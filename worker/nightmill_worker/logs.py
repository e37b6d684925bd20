"""Logs: one line for each event, to stderr, as JSON or as text. No line holds a credential."""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.safety.logger import make_logger
from nightmill_worker import events, group_events

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit, Event

UNLOGGED: Final = 0
"""Level of events that are for metrics alone."""
KINDS: Final = 20
"""Kinds of failed calls with a line at info between two lines of progress; endpoints name them."""
# Events of single jobs are debug: logging a million of them costs more than their calls.
LEVELS: Final[dict[type[Event], int]] = {
    group_events.CallsEnded: UNLOGGED,
    group_events.JobsClaimed: UNLOGGED,
    group_events.RowsCommitted: UNLOGGED,
    group_events.CallEnded: logging.DEBUG,
    events.JobsFinished: logging.DEBUG,
    events.CallRefused: logging.DEBUG,
    events.CallFailed: logging.DEBUG,  # the first of a kind in a minute: info
    events.AccountStopped: logging.ERROR,
    events.LaneStopped: logging.ERROR,
    events.LaneHeld: logging.WARNING,
    events.WorkerFailed: logging.ERROR,
    events.WorkerDied: logging.ERROR,
    events.WorkersCrash: logging.ERROR,
    events.LeaseLost: logging.WARNING,
    events.FinishRefused: logging.WARNING,
    events.JobsRestored: logging.WARNING,
    events.LeasesReleased: logging.WARNING,
    events.JobQuarantined: logging.ERROR,
    events.RedisAway: logging.WARNING,
    events.StoreAway: logging.ERROR,
    events.SpoolFailed: logging.ERROR,
    events.SpoolDamaged: logging.ERROR,
    events.ModelUnpriced: logging.WARNING,
    events.MediaTypeCorrected: logging.WARNING,
    events.WebhookFailed: logging.WARNING,
    events.JobFaulted: logging.ERROR,
    events.LoopFailed: logging.ERROR,
    events.ClaimsHeld: logging.ERROR,
    events.SubscriberFailed: logging.WARNING,
    events.TelemetryMissing: logging.WARNING,
    events.RowReduced: logging.ERROR,
    events.AnswersUnsaved: logging.ERROR,
}


def log_events(settings: Settings) -> Emit:
    """Return a listener that logs events from LOG_LEVEL on, in LOG_FORMAT."""
    log = make_logger(settings)
    least = logging.getLevelNamesMapping()[settings.log_level.upper()]
    tally = _Tally()

    def listen(event: Event) -> None:
        tally.add(event)
        if isinstance(event, group_events.CallsEnded) and least <= logging.DEBUG:
            for call in event.calls():
                listen(call)
        level = LEVELS.get(type(event), logging.INFO)
        if isinstance(event, events.CallFailed) and tally.is_first(event.error_type):
            level = logging.INFO
        if level >= least:
            name = logging.getLevelName(level).lower()
            getattr(log, name)(_spaced(type(event).__name__), **tally.fields(event))

    return listen


class _Tally:
    """What has ended since the last line of progress."""

    def __init__(self) -> None:
        self._since: Counter[str] = Counter()
        self._failures: set[str] = set()

    def is_first(self, error_type: str) -> bool:
        """Tell whether no call failed in this way since the last line of progress."""
        if error_type in self._failures or len(self._failures) >= KINDS:
            return False
        self._failures.add(error_type)
        return True

    def add(self, event: Event) -> None:
        """Count what an event says."""
        match event:
            case group_events.RowsCommitted(rows=rows):
                self._since["ended"] += len(rows)
                self._since["failed"] += sum(row.status == "failed" for row in rows)
            case events.CallRefused():
                self._since["calls_refused"] += 1
            case events.CallFailed():
                self._since["calls_failed"] += 1

    def fields(self, event: Event) -> dict[str, Any]:
        """Return what the line of an event says."""
        found = msgspec.structs.asdict(event)
        if isinstance(event, group_events.CallEnded):
            usage = found.pop("usage")
            found |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if isinstance(event, group_events.WorkerProgress):
            names = ("ended", "failed", "calls_refused", "calls_failed")
            found |= {name: self._since[name] for name in names}
            self._since.clear()
            self._failures.clear()
        return found


def _spaced(name: str) -> str:
    """Return an event's name as words: AccountStopped -> account stopped."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
