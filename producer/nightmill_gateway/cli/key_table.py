"""The keys as `nightmill keys list` prints them."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from nightmill.cli import options
from nightmill.errors import NightmillError
from nightmill.export.lines import rfc3339
from nightmill.records.key_limits import usd
from nightmill.reports.labels import KeyColumn, KeyState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nightmill.records.access_key import AccessKey
    from nightmill.settings import Settings
    from nightmill_gateway.access.used import Used


def used_of(
    keys: Sequence[AccessKey], *, redis_url: str | None, data_dir: Path | None
) -> dict[str, Used]:
    """Return what keys with limits use of them, by id; nothing when Redis does not answer."""
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - only for keys with limits
    from nightmill.settings import load_settings  # noqa: PLC0415

    counted = [key for key in keys if key.limits.counted and key.revoked_at is None]
    if not counted:
        return {}
    loaded = load_settings(redis_url=redis_url, data_dir=data_dir)
    try:
        with with_redis(loaded) as settings:
            return asyncio.run(_read(settings, counted))
    except NightmillError:
        return {}


async def _read(settings: Settings, keys: Sequence[AccessKey]) -> dict[str, Used]:
    from contextlib import aclosing  # noqa: PLC0415

    from nightmill.queue.connection import connect  # noqa: PLC0415
    from nightmill_gateway.access.used import read_used  # noqa: PLC0415

    async with aclosing(connect(settings)) as redis:
        return {key.key_id: await read_used(redis, key.key_id, key.limits) for key in keys}


def forget(key_id: str, *, redis_url: str | None, data_dir: Path | None) -> None:
    """Let jobs that wait for the budget of a key go. Raises QueueUnavailableError."""
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        asyncio.run(_forget(settings, key_id))


async def _forget(settings: Settings, key_id: str) -> None:
    from contextlib import aclosing  # noqa: PLC0415

    from nightmill.queue.budgets import forget_budget  # noqa: PLC0415
    from nightmill.queue.connection import connect  # noqa: PLC0415

    async with aclosing(connect(settings)) as redis:
        await forget_budget(redis, key_id)


def record(key: AccessKey, used: Used | None, now: int) -> dict[str, object]:
    """Return a key for programs."""
    limits, budget = key.limits, key.limits.budget
    return {
        "id": key.key_id,
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "state": _state(key, now),
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at),
        "revoked_at": rfc3339(key.revoked_at),
        "betas": limits.betas,
        "rpm": limits.rpm,
        "concurrency": limits.concurrency,
        "budget_usd": None if budget is None else budget.nanodollars / 1e9,
        "budget_period": None if budget is None else budget.period,
        "used_rpm": None if used is None or limits.rpm is None else used.a_minute,
        "used_concurrency": None if used is None or limits.concurrency is None else used.at_once,
        "used_usd": None if used is None or budget is None else used.nanodollars / 1e9,
        "budget_ends_at": None if budget is None else rfc3339(budget.ends(now)),
    }


def print_keys(keys: Sequence[AccessKey], used: Mapping[str, Used], now: int) -> None:
    """Print a table of keys; where it is narrow, their limits are a second table."""
    from nightmill.cli.console import VisibleConsole  # noqa: PLC0415 - `--json` needs no rich
    from nightmill.cli.fitted import FittedTable  # noqa: PLC0415

    headings = [*KeyColumn]
    main = headings.index(KeyColumn.LIMITS)
    table = FittedTable(headings, text_columns=len(headings), main=main)
    for key in keys:
        expires = str(rfc3339(key.expires_at) or "never")[:10]
        shown = (key.key_id, key.name, key.role, key.tenant, _state(key, now), expires)
        table.add(*shown, _limits(key), _used(key, used.get(key.key_id)))
    VisibleConsole(width=None if sys.stdout.isatty() else options.WIDE).print(table)


def _state(key: AccessKey, now: int) -> str:
    if key.revoked_at is not None:
        return KeyState.REVOKED
    return KeyState.VALID if key.valid(now) else KeyState.EXPIRED


def _limits(key: AccessKey) -> str:
    limits = key.limits
    parts = [] if limits.rpm is None else [f"{limits.rpm:,}/min"]
    if limits.concurrency is not None:
        parts.append(f"{limits.concurrency:,} at once")
    if limits.budget is not None:
        parts.append(str(limits.budget))
    if limits.betas is not None:
        parts.append(f"betas {' '.join(limits.betas) or 'none'}")
    return ", ".join(parts) or "none"


def _used(key: AccessKey, used: Used | None) -> str:
    limits = key.limits
    if not limits.counted or key.revoked_at is not None:
        return "-"
    if used is None:
        return "not known"
    parts = [] if limits.rpm is None else [f"{used.a_minute:,}/min"]
    if limits.concurrency is not None:
        parts.append(f"{used.at_once:,} at once")
    if limits.budget is not None:
        parts.append(usd(used.nanodollars))
    return ", ".join(parts)
