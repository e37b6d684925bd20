"""What this user of Redis may not do, asked of Redis itself; and whether Redis deletes jobs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import QueueFullError, QueueRefusedError, QueueUnavailableError
from nightmill.queue import keys
from nightmill.queue.connection import connect, redis_errors
from nightmill.queue.rights import PREFIXES, WITH_KEYS, WITHOUT_KEYS
from nightmill.queue.server import CLUSTER_FIX, WrongServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from nightmill.settings import Settings

EVICTION: Final = "set maxmemory-policy noeviction"
OLDEST: Final = 7
"""The oldest major version of Redis that has what the scripts use."""
WARN_S: Final = 2.0
"""Longest time that a start waits for this check, seconds."""
# acl_check_cmd answers for the user who runs the script, also about channels.
_MISSING: Final = """
local missing = {}
if not redis.acl_check_cmd then return missing end
for _, words in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if known and not allowed then missing[#missing + 1] = words[1] .. ' ' .. (words[2] or '') end
end
return missing
"""


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may not do."""

    commands: tuple[str, ...]
    """Commands, some with a key, without which nothing works."""
    channels: tuple[str, ...]
    """PUBLISH or SUBSCRIBE with the channel: without them jobs start up to 250 ms later."""


async def missing_rights(redis: Redis) -> Rights:
    """Return what this user may not do. Raises QueueRefusedError when it may run no scripts."""
    asked = [[name, PREFIXES[1] + "doctor"] for name in WITH_KEYS]
    asked += [["EXISTS", prefix + "doctor"] for prefix in PREFIXES]
    asked += [[name] for name in WITHOUT_KEYS]
    channels = [["PUBLISH", keys.WAKE, "1"], ["SUBSCRIBE", keys.WAKE]]
    script = redis.register_script(_MISSING)
    with redis_errors():
        commands = await script(args=[msgspec.json.encode(asked)])
        closed = await script(args=[msgspec.json.encode(channels)])
    return Rights(commands=_names(commands), channels=_names(closed))


def wrong_kind(info: Mapping[str, object]) -> tuple[str, str, str] | None:
    """Return why a Redis cannot be used at all: what was checked, what was found, the fix."""
    if info.get("cluster_enabled"):
        return "redis mode", "cluster mode", CLUSTER_FIX
    if info.get("role", "master") != "master":
        return "redis role", "a replica", "give the URL of its primary: a replica takes no writes"
    version = str(info.get("redis_version", OLDEST))
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST:
        return "redis", f"version {version}", f"use Redis {OLDEST} or newer, or Valkey"
    return None


def evicts(info: Mapping[str, object]) -> str:
    """Return how a Redis deletes keys when its memory is full, "" when it does not."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return "" if policy == "noeviction" else policy


async def warnings(settings: Settings) -> list[str]:
    """Return what `run` and `worker` say about this Redis at their start.

    A Redis that is away, or that does not tell this user, is no matter of this check. Raises
    QueueRefusedError for a kind of Redis that cannot be used.
    """
    try:
        async with aclosing(connect(settings)) as redis, asyncio.timeout(WARN_S):
            with redis_errors():
                info = await redis.info()
    except (QueueUnavailableError, QueueFullError, TimeoutError) as error:
        if isinstance(error.__cause__, WrongServerError):
            raise
        return []
    if found := wrong_kind(info):
        _, observed, fix = found
        raise QueueRefusedError(f"NIGHTMILL_REDIS_URL is {observed}: {fix}")
    policy = evicts(info)
    if not policy:
        return []
    text = f"warning: this Redis deletes queued jobs when its memory is full ({policy}): {EVICTION}"
    return [text]


def _names(found: list[bytes]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.decode(errors="replace") for each in found))
