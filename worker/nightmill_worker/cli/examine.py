"""The checks of `nightmill doctor`: Redis, the results store, the endpoint, the credential."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import msgspec

from nightmill.client.stored import used_store
from nightmill.errors import NightmillError, StoreMismatchError
from nightmill.queue import keys
from nightmill.queue.connection import ALLOW, connect, redis_errors
from nightmill.queue.live_workers import ALIVE_S, read_live
from nightmill.queue.locate import with_redis
from nightmill.queue.used_store import mismatch, note, noted
from nightmill.reports.labels import NO_WORKER
from nightmill.safety.redaction import Secrets
from nightmill.settings import Settings
from nightmill.store import ResultStore
from nightmill_worker.cli.redis_rights import EVICTION, Rights, evicts, missing_rights
from nightmill_worker.cli.worker import NO_CREDENTIAL
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.hidden import without_secrets
from nightmill_worker.messages.outcome import Broken, Fail, StopAccount

# Every Messages endpoint refuses this request: it checks the credential first, then max_tokens.
_FREE_CALL: Final = b'{"model":"nightmill-doctor","max_tokens":0,"messages":[]}'


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    what: str
    """What was checked."""
    ok: bool
    observed: str
    """What the check found."""
    warns: bool = False
    """Whether it works, but not as well as it could."""
    fix: str = ""
    """What to do, "" when nothing."""


async def examine(settings: Settings) -> list[Finding]:
    """Return the findings in the order in which they are printed."""
    checks: dict[str, Callable[[Settings], Awaitable[list[Finding]]]] = {
        "redis": _redis,
        "store": _store,
        "endpoint": _endpoint,
    }
    findings = []
    for what, check in checks.items():
        try:
            findings += await check(settings)
        except NightmillError as error:
            findings.append(Finding(what=what, ok=False, observed=str(error)))
    return findings


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[Settings]:
    with contextlib.ExitStack() as servers:
        yield await asyncio.to_thread(servers.enter_context, with_redis(settings))


async def _redis(settings: Settings) -> list[Finding]:
    async with _served(settings) as served, contextlib.aclosing(connect(served)) as redis:
        with redis_errors():
            server = await redis.info("server")
            found = _kind(await redis.info("replication"), await redis.info("cluster"))
            if found:
                return found
            saved = await redis.info("persistence")
        version = f"version {server['redis_version']} answers"
        rights = await missing_rights(redis)
        with redis_errors():
            workers = len(await read_live(redis))
        found = [Finding(what="redis", ok=True, observed=version), *_rights(rights)]
        policy, stock = await evicts(redis), False
        if not rights.commands:
            with redis_errors():
                stock = await redis.exists(f"{keys.QUEUE}:health-check")
    running = f"{workers:,} running" if workers else NO_WORKER.partition(":")[0]
    fix = "" if workers else NO_WORKER.partition(": ")[2]
    idle = not workers
    found.append(Finding(what="workers", ok=True, warns=idle, observed=running, fix=fix))
    if not saved["aof_enabled"]:
        fix = "appendonly yes, or a restart of Redis loses queued jobs (stored results are safe)"
        found.append(Finding(what="redis persistence", ok=False, observed="AOF is off", fix=fix))
    if policy:
        fix = f"{EVICTION}, or Redis deletes queued jobs when its memory is full"
        found.append(Finding(what="redis eviction", ok=False, observed=policy, fix=fix))
    if stock:
        fix = "stop that worker, or give it another queue: it may run or delete our jobs"
        observed = f"a stock arq worker listens on {keys.QUEUE}"
        found.append(Finding(what="redis queue", ok=False, observed=observed, fix=fix))
    return found


def _kind(replication: Mapping[str, object], cluster: Mapping[str, object]) -> list[Finding]:
    """Return why this kind of Redis cannot be used, if it cannot."""
    if cluster.get("cluster_enabled"):
        fix = "give the URL of a single Redis: nightmill's scripts use keys of several slots"
        return [Finding(what="redis mode", ok=False, observed="cluster mode", fix=fix)]
    if replication.get("role") != "master":
        fix = "give the URL of its primary: a replica takes no writes"
        return [Finding(what="redis role", ok=False, observed="a replica", fix=fix)]
    return []


def _rights(rights: Rights) -> list[Finding]:
    """Return what this user lacks."""
    found = []
    if rights.commands:
        observed = f"this user may not use {', '.join(rights.commands)}"
        found.append(Finding(what="redis rights", ok=False, observed=observed, fix=ALLOW))
    if rights.channels:
        observed = f"this user may not {' or '.join(rights.channels)}: jobs start 250 ms later"
        fix = f"ACL SETUSER NAME '&{keys.WAKE}'"
        finding = Finding(what="redis channel", ok=True, warns=True, observed=observed, fix=fix)
        found.append(finding)
    return found


async def _store(settings: Settings) -> list[Finding]:
    async with ResultStore.open(settings.store_at) as store:
        batches = await store.batches()
    found = [Finding(what="store", ok=True, observed=f"{store!r}, {len(batches)} batches")]
    with contextlib.suppress(NightmillError):  # Redis is away, which its own check has found
        found.append(await _store_in_use(settings))
    return found


async def _store_in_use(settings: Settings) -> Finding:
    """Compare the store that was given with the one that this Redis is used with."""
    async with (
        _served(settings) as served,
        contextlib.aclosing(connect(served)) as redis,
        ResultStore.open(settings.store_at) as store,
    ):
        problem = await mismatch(redis, await used_store(settings, store))
        used = await noted(redis)
    if problem is None:
        observed = "no worker has run with this Redis yet" if used is None else used.where
        return Finding(what="store in use", ok=True, observed=observed)
    observed, _, fix = str(problem).partition(". ")
    return Finding(what="store in use", ok=False, observed=observed, fix=fix)


async def accept_store(settings: Settings) -> str:
    """Make the given store the one that this Redis is used with, and return where it is.

    Raises StoreMismatchError while a worker with the other store lives.
    """
    async with (
        _served(settings) as served,
        contextlib.aclosing(connect(served)) as redis,
        ResultStore.open(settings.store_at) as store,
    ):
        mine = await used_store(settings, store)
        with redis_errors():
            if await mismatch(redis, mine) and (workers := await read_live(redis)):
                raise StoreMismatchError(
                    f"{len(workers):,} workers run with the other store: stop them, wait "
                    f"{ALIVE_S:.0f} s and try again"
                )
            return (await note(redis, mine, replace=True)).where


async def _endpoint(settings: Settings) -> list[Finding]:
    where = settings.base_url
    if not settings.has_credential:
        return [Finding(what="credential", ok=False, observed="none", fix=NO_CREDENTIAL)]
    async with MessagesClient(settings) as client:
        reply = await client.send(_FREE_CALL)
    if isinstance(reply, Broken):
        fix = "check NIGHTMILL_BASE_URL and the network"
        return [Finding(what="endpoint", ok=False, observed=f"{where}: {reply.detail}", fix=fix)]
    outcome = without_secrets(classify(reply, time.time()), Secrets.of(settings))
    reached = Finding(what="endpoint", ok=True, observed=f"{where} answers ({reply.status})")
    if isinstance(outcome, StopAccount):
        fix = outcome.error.fix or "check the credential"
        return [
            reached,
            Finding(what="credential", ok=False, observed=outcome.error.message, fix=fix),
        ]
    if isinstance(outcome, Fail):
        return [reached, Finding(what="credential", ok=True, observed="accepted")]
    message = getattr(getattr(outcome, "error", None), "message", "an unexpected answer")
    return [reached, Finding(what="credential", ok=True, observed=f"not checked: {message}")]
