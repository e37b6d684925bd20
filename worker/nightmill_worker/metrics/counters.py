"""The counters of one worker process: a listener of its events. See docs/metrics.md.

prometheus_client keeps them in a file that the process of /metrics reads. A group of events is
added up first: each count costs about as much as a line of a log.
"""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from nightmill.records.error_types import STANDARD
from nightmill.records.state import TERMINAL
from nightmill_worker.events import Event, FinishRefused, JobsRestored, LeaseLost
from nightmill_worker.group_events import CallsEnded, JobsClaimed, RowsCommitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.result import Result

OWN_TYPES: Final = (
    *("connection_error", "connection_dropped", "timeout", "truncated_response"),
    *("invalid_response", "input_cut", "response_too_large", "internal_error"),
)
"""Error types of calls that nightmill names itself: BreakKind."""
TYPES: Final = frozenset((*STANDARD, *OWN_TYPES, ""))
OTHER: Final = "other"
"""An error type, or a status, that an endpoint made up: each label is a series for ever."""
STATUSES: Final = frozenset(
    (*range(200, 209), *range(300, 309), *range(400, 430), 431, 451, *range(500, 512))
) | {499, 520, 521, 522, 523, 524, 525, 526, 529, 530, 598, 599}
CALL_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
STEP_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Counters:
    """Counts what events say."""

    def __init__(self) -> None:
        """Make all counters; those without labels begin at 0."""
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nightmill_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(f"nightmill_{name}", text, registry=registry, buckets=bounds)

        self._jobs = counter("jobs", "Jobs that ended, by outcome.", "outcome")
        self._calls = counter("calls", "Calls that ended.", "status", "error_type")
        self._tokens = counter("tokens", "Tokens of jobs that ended.", "kind")
        self._cost = counter("cost_dollars", "US dollars of jobs that ended.", "kind")
        self._unpriced = counter("unpriced_jobs", "Jobs that ended without a known price.")
        self._leases = counter("leases_lost", "Jobs that other workers took over.")
        self._duplicates = counter("duplicates_refused", "Second results that were refused.")
        self._restored = counter("jobs_restored", "Jobs in flight that Redis had lost.")
        for outcome in TERMINAL:  # an alert must tell "none" from "not known"
            self._jobs.labels(str(outcome))
        for kind in ("input", "output"):
            self._tokens.labels(kind)
            self._cost.labels(kind)
        self._call_s = histogram("call_duration_seconds", "Time of a call.", CALL_S)
        self._claim_s = histogram("claim_duration_seconds", "Time of a claim.", STEP_S)
        self._commit_s = histogram("commit_duration_seconds", "Time of a commit.", STEP_S)

    def listen(self, event: Event) -> None:
        """Count one event."""
        match event:
            case CallsEnded():
                self._add_calls(event)
            case RowsCommitted(rows=rows, seconds=seconds, refused=refused):
                self._add_rows(rows)
                self._commit_s.observe(seconds)
                self._duplicates.inc(refused)
            case JobsClaimed(seconds=seconds):
                self._claim_s.observe(seconds)
            case LeaseLost():
                self._leases.inc()
            case FinishRefused():
                self._duplicates.inc()
            case JobsRestored(jobs=jobs):
                self._restored.inc(jobs)

    def _add_calls(self, event: CallsEnded) -> None:
        calls: Tally[tuple[str, str]] = Tally()
        for call in event.calls():
            calls[bounded_status(call.status), bounded_type(call.error_type)] += 1
            self._call_s.observe(call.duration_ms / 1000)
        for labels, count in calls.items():
            self._calls.labels(*labels).inc(count)

    def _add_rows(self, rows: Sequence[Result]) -> None:
        """Count jobs whose rows are committed: a job whose worker dies before is called again."""
        jobs: Tally[str] = Tally()
        tokens: Tally[str] = Tally()
        dollars: dict[str, float] = {}
        for row in rows:
            jobs[str(row.status)] += 1
            _add_usage(row, tokens, dollars)
            if row.cost is None and row.message is not None:
                self._unpriced.inc()
        for outcome, count in jobs.items():
            self._jobs.labels(outcome).inc(count)
        for kind, count in tokens.items():
            self._tokens.labels(kind).inc(count)
        for kind, amount in dollars.items():
            self._cost.labels(kind).inc(amount)


def _add_usage(row: Result, tokens: Tally[str], dollars: dict[str, float]) -> None:
    usage = row.usage
    tokens["input"] += usage.input_tokens
    tokens["output"] += usage.output_tokens
    if usage.cache_read_input_tokens or usage.cache_creation_input_tokens:
        tokens["cache_read"] += usage.cache_read_input_tokens
        tokens["cache_write"] += usage.cache_creation_input_tokens
    if (bill := row.cost_parts) is not None:
        dollars["input"] = dollars.get("input", 0.0) + bill.input
        dollars["output"] = dollars.get("output", 0.0) + bill.output
        for kind in ("cache_read", "cache_write", "web_search"):
            if part := getattr(bill, kind):
                dollars[kind] = dollars.get(kind, 0.0) + part


def bounded_status(status: int | None) -> str:
    """Return the label of a status; "none" when no answer began."""
    if status is None:
        return "none"
    return str(status) if status in STATUSES else OTHER


def bounded_type(kind: str) -> str:
    """Return the label of an error type; "none" for a call without an error."""
    if kind in TYPES:
        return kind or "none"
    return OTHER
