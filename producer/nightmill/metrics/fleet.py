"""The fleet's figures as Prometheus metrics, read from Redis at each scrape.

Every command that serves /metrics shows the same figures: take `max`, not `sum`, over instances.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nightmill.errors import QueueUnavailableError
from nightmill.metrics.figures import OTHER, REASONS, LaneCounts, LaneNames, read_figures
from nightmill.reports.history_points import DAY
from nightmill.reports.lanes import UNITS, Look

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client import Metric
    from redis.asyncio import Redis

    from nightmill.metrics.figures import Figures, Jobs
    from nightmill.reports.lanes import Lane

READ_S: Final = 3.0
"""Longest time to read Redis for a scrape, seconds; Prometheus gives up after 10."""
FRESH_S: Final = 1.0
"""Two scrapes within this time get the same lanes to compare with."""
LANE: Final = ("account", "lane")


class FleetCollector(Collector):
    """Reads the figures when Prometheus asks. The server's thread calls it."""

    def __init__(self, redis: Redis, spool: Path, loop: asyncio.AbstractEventLoop) -> None:
        """Take a client of `loop`, and the folder of the spool on this machine."""
        self._redis, self._spool, self._loop = redis, spool, loop
        self._names, self._counts = LaneNames(), LaneCounts()
        self._before: dict[tuple[str, str], Lane] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; of a Redis that does not answer, only that."""
        figures = self._read()
        yield _gauge(
            "nightmill_redis_up", "1 when Redis answered this scrape, else 0.", figures is not None
        )
        yield _gauge(
            "nightmill_redis_unreadable",
            "Parts of the fleet's metrics that are missing: Redis refuses them, or a key is wrong.",
            figures.unreadable if figures is not None else 0,
        )
        size = sum(map(_size, self._spool.glob("*.jsonl")))
        yield _gauge(
            "nightmill_spool_bytes", "Answers on this machine's disk that wait for the store.", size
        )
        if figures is None:
            return
        if figures.workers is not None:
            yield _gauge("nightmill_workers", "Worker processes that run now.", figures.workers)
        if figures.troubles is not None:
            yield _gauge(
                "nightmill_worker_troubles",
                "Different troubles that workers report now.",
                figures.troubles,
            )
        if figures.jobs is not None:
            yield from _jobs(figures.jobs)
        if figures.lanes is not None:
            yield from self._lanes(figures.lanes)

    def _read(self) -> Figures | None:
        reading = asyncio.run_coroutine_threadsafe(read_figures(self._redis), self._loop)
        try:
            return reading.result(READ_S)
        except (QueueUnavailableError, TimeoutError, CancelledError, RuntimeError):
            reading.cancel()
            return None

    def _lanes(self, lanes: Sequence[Lane]) -> Iterator[Metric]:
        """Yield the metrics of the lanes that were used within a day."""
        looks: dict[tuple[str, str], list[Look]] = defaultdict(list)
        for lane in sorted(lanes, key=lambda each: each.idle_s):
            if lane.idle_s > DAY.seconds:
                self._counts.add(None, lane)
                continue
            key, name = (lane.account, lane.model), self._names.of(lane)
            before = self._before.setdefault(key, lane)
            looks[name].append(Look(before=before, now=lane))
            self._counts.add(name, lane)
            if lane.at - before.at > FRESH_S:
                self._before[key] = lane
        self._counts.keep(lanes)
        there = {(lane.account, lane.model) for lane in lanes}
        self._before = {key: lane for key, lane in self._before.items() if key in there}
        yield from _sums(looks, self._counts)
        limit = GaugeMetricFamily(
            "nightmill_lane_limit_units_per_second",
            "Limit of the endpoint, reported or learned: requests or tokens a second.",
            labels=[*LANE, "dimension"],
        )
        used = GaugeMetricFamily(
            "nightmill_lane_limit_used_ratio",
            "Share of that limit that was used since the scrape before.",
            labels=[*LANE, "dimension"],
        )
        bound = GaugeMetricFamily(
            "nightmill_lane_limited_by",
            "1 for what limits the lane now, 0 for all other reasons.",
            labels=[*LANE, "reason"],
        )
        for name, some in looks.items():
            if name[0] == OTHER:  # several lanes: their limits cannot be added up
                continue
            for dimension in UNITS:
                if found := some[0].now.limit(dimension):
                    limit.add_metric([*name, dimension], found / 60)
                if (
                    some[0].now is not some[0].before
                    and (share := some[0].used(dimension)) is not None
                ):
                    used.add_metric([*name, dimension], max(0.0, share))
            for reason in REASONS:
                bound.add_metric([*name, reason], some[0].limited_by == reason)
        yield from (limit, used, bound)


def _jobs(found: Jobs) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("nightmill_queue_jobs", "Jobs in Redis by state.", labels=["state"])
    for state, count in found.states.items():
        jobs.add_metric([state], count)
    batches = GaugeMetricFamily("nightmill_batches", "Batches in Redis by state.", labels=["state"])
    for state, count in found.batches.items():
        batches.add_metric([state], count)
    yield from (jobs, batches)
    yield _gauge(
        "nightmill_queue_oldest_age_seconds",
        "How long the job that is due longest has been due; batches that are held do not count.",
        found.oldest_s,
    )


def _sums(looks: Mapping[tuple[str, str], Sequence[Look]], counts: LaneCounts) -> Iterator[Metric]:
    """Yield what can be added up over lanes."""
    in_flight = GaugeMetricFamily("nightmill_lane_in_flight", "Calls in flight.", labels=LANE)
    window = GaugeMetricFamily(
        "nightmill_lane_window", "Most calls in flight that the lane allows.", labels=LANE
    )
    calls = CounterMetricFamily("nightmill_lane_calls", "Calls that were granted.", labels=LANE)
    refused = CounterMetricFamily(
        "nightmill_lane_refusals", "Calls that were answered 429.", labels=LANE
    )
    for name, some in looks.items():
        lanes = [look.now for look in some]
        in_flight.add_metric(name, sum(lane.in_flight for lane in lanes))
        window.add_metric(name, sum(lane.orders.window for lane in lanes))
        sent, answered_429 = counts.of(name)
        calls.add_metric(name, sent)
        refused.add_metric(name, answered_429)
    yield from (in_flight, window, calls, refused)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # drained meanwhile
        return 0
