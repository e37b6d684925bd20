"""The check of Redis: what `run` and `worker` cannot work with, and what is risky."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nightmill.queue import keys
from nightmill.queue.connection import connect, redis_errors
from nightmill.queue.live_workers import read_live
from nightmill.queue.refusals import ALLOW
from nightmill.reports.labels import NO_WORKER
from nightmill.reports.progress import counted
from nightmill_worker.cli.examine_endpoint import clock_finding
from nightmill_worker.cli.finding import Finding
from nightmill_worker.cli.redis_rights import (
    EVICTION,
    Rights,
    evicts,
    missing_rights,
    wrong_kind,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.settings import Settings

FULL: Final = 0.9
"""Share of its memory from which on Redis is nearly full."""
_NAMED: Final = 3
"""Commands without a right that are named."""


async def examine_redis(settings: Settings) -> list[Finding]:
    """Look at a Redis that answers. Raises QueueUnavailableError, and QueueRefusedError."""
    async with contextlib.aclosing(connect(settings)) as redis:
        with redis_errors():
            info = await redis.info()
        if wrong := wrong_kind(info):
            what, observed, fix = wrong
            return [Finding(what=what, ok=False, observed=observed, fix=fix)]
        rights = await missing_rights(redis)
        found = [_answers(settings, info), *_rights(rights)]
        if not rights.commands:
            found += await _use(redis)
        return found + _health(info)


def _answers(settings: Settings, server: Mapping[str, object]) -> Finding:
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version", server["redis_version"])
    unix = str(settings.redis_url).startswith("unix:")
    place = f"{name} {version} answers" + (" on a socket of this machine" if unix else "")
    return Finding(what="redis", ok=True, observed=place)


def _rights(rights: Rights) -> list[Finding]:
    """Return what this user lacks."""
    found = []
    if rights.commands:
        named, more = rights.commands[:_NAMED], len(rights.commands) - _NAMED
        rest = f" and {counted(more, 'other command')}" if more > 0 else ""
        observed = f"this user may not use {', '.join(named)}{rest}"
        found.append(Finding(what="redis rights", ok=False, observed=observed, fix=ALLOW))
    if rights.channels:
        observed = f"this user may not {' or '.join(rights.channels)}: jobs start 250 ms later"
        fix = f"ACL SETUSER NAME '&{keys.WAKE}'"
        finding = Finding(what="redis channel", ok=True, warns=True, observed=observed, fix=fix)
        found.append(finding)
    return found


async def _use(redis: Redis) -> list[Finding]:
    """Return who works with this Redis, and how its clock differs from ours."""
    with redis_errors():
        workers = len(await read_live(redis))
        stock = await redis.exists(f"{keys.QUEUE}:health-check")
        began = time.time()
        seconds, micros = await redis.time()
        middle = (began + time.time()) / 2
    running = f"{workers:,} running" if workers else NO_WORKER.partition(":")[0]
    fix = "" if workers else NO_WORKER.partition(": ")[2]
    found = [Finding(what="workers", ok=True, warns=not workers, observed=running, fix=fix)]
    if stock:
        fix = "stop that worker, or give it another queue: it may run or delete our jobs"
        observed = f"a stock arq worker listens on {keys.QUEUE}"
        found.append(Finding(what="redis queue", ok=False, observed=observed, fix=fix))
    if apart := clock_finding("Redis", seconds + micros / 1e6, middle):
        found.append(apart)
    return found


def _health(info: Mapping[str, Any]) -> list[Finding]:
    """Return how this Redis may lose or refuse jobs."""
    found = []
    if not info.get("aof_enabled"):
        fix = "appendonly yes, or a restart of Redis loses queued jobs (stored results are safe)"
        found.append(Finding(what="redis persistence", ok=False, observed="AOF is off", fix=fix))
    if policy := evicts(info):
        fix = f"{EVICTION}, or Redis deletes queued jobs when its memory is full"
        found.append(Finding(what="redis eviction", ok=False, observed=policy, fix=fix))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used >= FULL * most:
        observed = f"{used / most:.0%} of maxmemory ({most:,} bytes) is used"
        fix = "raise maxmemory, or lower NIGHTMILL_WINDOW: a full Redis takes no new jobs"
        finding = Finding(what="redis memory", ok=True, warns=True, observed=observed, fix=fix)
        found.append(finding)
    return found
