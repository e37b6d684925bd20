"""The time line of a job: queued, each call with its outcome, the waits, stored. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from nightmill.charts import Stretch, time_line
from nightmill.safety.visible import visible
from nightmill_gateway.console.formats import took

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nightmill.charts.stretches import Kind
    from nightmill.records.result import Attempt

_KINDS: Final[dict[str, Kind]] = {
    "succeeded": "good",
    "failed": "bad",
    "lost": "bad",
    "expired": "bad",
    "cancelled": "bad",
}
"""Outcome of a call -> its colour; another one is followed by another call."""


def line_of(
    attempts: Sequence[Attempt], enqueued_at: int | None, finished_at: int | None
) -> Markup:
    """Return the drawing of a job's calls; `finished_at` is None while it has not ended."""
    calls = sorted(attempts, key=lambda each: each.started_at)
    lead = ""
    if calls and enqueued_at is not None and enqueued_at <= calls[0].started_at:
        lead = f"queued {took(calls[0].started_at - enqueued_at)}"
    stretches = list(_stretches(calls, finished_at))
    end = "stored" if finished_at is not None else ""
    # Every text is escaped by the chart.
    return Markup(time_line(stretches, title="Time line of the job", lead=lead, end=end))  # noqa: S704


def _stretches(calls: Sequence[Attempt], finished_at: int | None) -> Iterator[Stretch]:
    for call, after in pairwise([*calls, None]):
        if call is None:
            return
        ended = call.started_at + call.duration_ms
        name = visible(f"{call.outcome}: call {call.n}, {took(call.duration_ms)}{_why(call)}")
        kind = _KINDS.get(call.outcome, "warn")
        label = str(call.n)
        yield _stretch(name, kind, call.started_at, ended, label)
        if after is not None:
            until = after.started_at
        elif finished_at is not None:
            until = finished_at
        else:
            until = ended + (call.wait_ms or 0)
        if until > ended:
            what = "storing" if after is None and finished_at is not None else "waiting"
            yield _stretch(f"{what}: {took(until - ended)}", "idle", ended, until)


def _stretch(name: str, kind: Kind, since_ms: int, until_ms: int, label: str = "") -> Stretch:
    return Stretch(name=name, kind=kind, since=since_ms / 1000, until=until_ms / 1000, label=label)


def _why(call: Attempt) -> str:
    facts = [f"HTTP {call.status}" if call.status else "", call.error_type or ""]
    return "".join(f", {each:.80}" for each in facts if each)
