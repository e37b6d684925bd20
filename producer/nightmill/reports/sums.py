"""One pass over the rows of a batch: sums, distributions and what happened over time. Pure."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.charts import Bin
from nightmill.charts.scale import ticks
from nightmill.records.result import Attempt, Bill

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKETS: Final = 240
"""Most steps of time in a chart."""
STEPS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
FIRST: Final = 100
"""Jobs from whose mean cost the first estimate is made."""
BARS: Final = 24
DISTRIBUTIONS: Final = ("call_ms", "queue_ms", "input_tokens", "output_tokens")

_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_bill = msgspec.json.Decoder(Bill)
_reasons = msgspec.json.Decoder(dict[str, int])


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of one number over jobs."""

    number: int = 0
    mean: float = 0.0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    largest: int = 0
    bins: tuple[Bin, ...] = ()


class ModelSum(msgspec.Struct, kw_only=True):
    """What the jobs of one model used."""

    jobs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: float = 0.0
    unpriced: int = 0
    bill: Bill = Bill()
    """Its parts; of jobs whose parts are not known, nothing."""
    parts_of: float = 0.0
    """The cost of the jobs whose parts are known."""


class Sums:
    """Adds rows up; what it keeps grows with the rows by 32 bytes each."""

    def __init__(self, first_ms: int, last_ms: int) -> None:
        """Take when the first and the last row ended."""
        span_s = max(1, (last_ms - first_ms) / 1000)
        self.step_s = next((s for s in STEPS_S if span_s / s <= BUCKETS), math.ceil(span_s / 240))
        self.states: Counter[str] = Counter()
        self.models: dict[str, ModelSum] = {}
        self.ended: Counter[int] = Counter()
        """Step -> jobs that ended in it; a step is epoch seconds, divided by `step_s`."""
        self.tokens: Counter[int] = Counter()
        """Step -> output tokens of the jobs that ended in it."""
        self.calls = 0
        self.again: Counter[str] = Counter()
        """Why calls were made again -> how many, as far as the rows have it."""
        self.lost_calls = 0
        self.lost_usd = 0.0
        """An estimate: each lost call at the cost of its job's row."""
        self.failed_usd = 0.0
        self.cut_usd = 0.0
        self.first_enqueued = 0
        self.first_started = 0
        self.last_ended = 0
        self._first_costs: list[float | None] = []
        self._values = {name: array("q") for name in DISTRIBUTIONS}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add a page of rows, each in the order of ReportRow."""
        calls, waits, inputs, outputs = self._values.values()
        for row in rows:
            (at, _, status, stop, model, given, made, read, written, cost, enqueued) = row[:11]
            started, counted, snoozed, attempts, queue_ms, call_ms, reasons, parts = row[11:]
            self.states[status] += 1
            step = at // 1000 // self.step_s
            self.ended[step] += 1
            self.tokens[step] += made
            self.last_ended = max(self.last_ended, at)
            if enqueued:
                self.first_enqueued = min(self.first_enqueued or enqueued, enqueued)
            if started is not None:
                self.first_started = min(self.first_started or started, started)
                calls.append(call_ms)
                inputs.append(given)
                outputs.append(made)
                if queue_ms is not None:
                    waits.append(queue_ms)
            if len(self._first_costs) < FIRST:
                self._first_costs.append(cost)
            self._add_model(model, (given, made, read, written), cost, parts)
            if cost and status != "succeeded":
                self.failed_usd += cost
            elif cost and stop == "max_tokens":
                self.cut_usd += cost
            self.calls += counted + snoozed
            if reasons:
                self.again.update(_read(reasons, _reasons, {}))
            if attempts:
                self._add_attempts(_read(attempts, _attempts, ()), cost or 0.0)

    def _add_model(
        self, model: str | None, used: tuple[int, int, int, int], cost: float | None, parts: str
    ) -> None:
        sums = self.models.get(model or "")
        if sums is None:
            sums = self.models.setdefault(model or "", ModelSum())
        sums.jobs += 1
        sums.input_tokens += used[0]
        sums.output_tokens += used[1]
        sums.cache_read += used[2]
        sums.cache_write += used[3]
        if cost is None:
            sums.unpriced += 1
            return
        sums.cost += cost
        if parts and (bill := _read(parts, _bill, None)):
            sums.bill += bill
            sums.parts_of += cost

    def _add_attempts(self, attempts: tuple[Attempt, ...], cost: float) -> None:
        """Add why calls were made again: those that counted, and those that were lost."""
        for number, each in enumerate(attempts, 1):
            if each.outcome == "lost":
                self.lost_calls += 1
                self.lost_usd += cost
            elif each.counted and number < len(attempts):
                self.again[each.error_type or each.outcome] += 1

    @property
    def rows(self) -> int:
        """All rows."""
        return self.states.total()

    @property
    def called(self) -> int:
        """Jobs of which a call was made."""
        return len(self._values["call_ms"])

    @property
    def cost(self) -> float:
        """US dollars of all rows with a known price."""
        return math.fsum(each.cost for each in self.models.values())

    @property
    def first_estimate(self) -> float | None:
        """The mean cost of the first FIRST jobs that ended, US dollars; None when not known."""
        known = [cost for cost in self._first_costs if cost is not None]
        return math.fsum(known) / len(known) if len(known) == len(self._first_costs) > 0 else None

    def spread(self, name: str) -> Spread:
        """Return the distribution of one of DISTRIBUTIONS."""
        values = sorted(self._values[name])
        if not values:
            return Spread()
        return Spread(
            number=len(values),
            mean=sum(values) / len(values),
            p50=percentile(values, 50),
            p90=percentile(values, 90),
            p99=percentile(values, 99),
            largest=values[-1],
            bins=tuple(bins(values)),
        )


def percentile(values: Sequence[int], percent: int) -> int:
    """Return the smallest of the sorted `values` that is not less than `percent` % of them."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def bins(values: Sequence[int]) -> list[Bin]:
    """Return about BARS bars up to the 99th percentile; the last one has all that is larger."""
    axis = ticks(max(1, percentile(values, 99)), BARS)
    size = axis[1] if axis[1] >= 1 else 1.0
    edges = [size * n for n in range(int(axis[-1] / size) + 1)]
    found, below = [], 0
    for low in edges:
        upto = len(values) if low == edges[-1] else bisect_left(values, low + size)
        high = max(low + size, values[-1] + 1.0) if low == edges[-1] else low + size
        found.append(Bin(low=low, high=high, count=upto - below))
        below = upto
    return found


def _read(text: str, decoder: msgspec.json.Decoder[Any], otherwise: Any) -> Any:  # noqa: ANN401
    """Return what a JSON column holds; a damaged one costs itself, not the report."""
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return otherwise
