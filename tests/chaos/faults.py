"""The rows of the table. Each starts a fleet, causes a fault, waits for the end and checks bars."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos import (
    backlog,
    clocks,
    crash,
    endpoint,
    memory,
    payloads,
    postgres_store,
    processes,
    stops,
    store,
    turns,
    valkey,
)
from tests.chaos.report import Report

Fault = Callable[[Path, random.Random, int], Awaitable[Report]]
"""Takes an empty folder, a seeded random generator, and a scale: 1 (short form) or 10 (long)."""


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    fault: Fault
    seeds: int = 3
    """Runs in the long form, each with its own seed."""
    alone: bool = False
    """Its bars are tight times: no other row may run meanwhile."""


_ROWS: Final = (
    Row(processes.kill_nine, seeds=10),
    Row(processes.rolling_restart),
    Row(processes.short_grace, alone=True),
    Row(processes.frozen_worker),
    Row(processes.frozen_alone),
    Row(processes.blocked_loop),
    Row(processes.blocked_alone),
    Row(processes.cut_short),
    Row(processes.poison),
    Row(turns.between_turns),
    Row(turns.between_turns_postgres),
    Row(stops.redis_away_stop),
    Row(stops.group_stop),
    Row(stops.full_disk_stop),
    Row(stops.crash_loop),
    Row(crash.whole_run),
    Row(valkey.redis_killed),
    Row(valkey.aof_cut),
    Row(valkey.dropped_connections),
    Row(valkey.full_redis),
    Row(valkey.read_only),
    Row(valkey.forgotten_scripts),
    Row(valkey.cut_off),
    Row(valkey.no_replicas),
    Row(memory.lost_memory),
    Row(memory.lagging_replica),
    Row(memory.two_stores),
    Row(store.store_away),
    Row(store.disk_full),
    Row(store.spool_full),
    Row(store.unlinked),
    Row(postgres_store.postgres_away),
    Row(postgres_store.half_open_store),
    Row(postgres_store.lock_timeout),
    Row(postgres_store.statement_timeout),
    Row(endpoint.storm),
    Row(endpoint.stalls),
    Row(endpoint.stalled_streams),
    Row(endpoint.cut_bodies),
    Row(endpoint.stream_errors),
    Row(endpoint.wrong_type),
    Row(endpoint.half_open),
    Row(endpoint.one_percent),
    Row(endpoint.wrong_key),
    Row(endpoint.no_credit),
    Row(payloads.refused),
    Row(payloads.pickles),
    Row(payloads.repeats),
    Row(backlog.old_backlog),
    Row(backlog.million),
    Row(backlog.small_behind_huge, alone=True),
    Row(clocks.clock_step, alone=True),
    Row(clocks.producers_clocks, alone=True),
    Row(clocks.workers_clocks, alone=True),
)
ROWS: Final = {row.fault.__name__: row for row in _ROWS}
