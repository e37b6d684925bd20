"""What `run` cannot work with, `doctor` sees: rights, channels, cluster mode, replica, eviction."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from nightmill import Producer, Settings, load_settings
from nightmill.errors import QueueRefusedError, QueueUnavailableError
from nightmill.queue.connection import connect
from nightmill.queue.rights import SCRIPTS, WITH_KEYS, WITHOUT_KEYS, rights
from nightmill_worker.cli.examine_redis import examine_redis
from nightmill_worker.cli.finding import Finding
from nightmill_worker.cli.redis_rights import warnings, wrong_kind
from tests.rig import hello

OURS = (
    "execute",
    "execute_command",
    "register_script",
    "pipeline",
    "pubsub",
    "aclose",
    "ping",
    "info",
)
"""Methods of redis-py that are no commands with keys."""
ROOT = Path(__file__).parents[3]
DOCUMENTED = rights()


@pytest.fixture
async def admin(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client that may do everything; remove what a test has set."""
    async with connect(load_settings(redis_url=redis_url)) as client:
        yield client
        await client.execute_command("ACL", "DELUSER", "limited")
        await client.config_set("maxmemory-policy", "noeviction")


async def limited(admin: Redis, redis_url: str, *rights: str) -> Settings:
    """Return the settings of a user with `rights`."""
    await admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *rights)
    path = redis_url.removeprefix("unix://")
    return load_settings(redis_url=f"unix://limited@{path}?password=pw")


def of(findings: list[Finding], what: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = (finding for finding in findings if finding.what == what)
    return found


async def test_the_documented_rights_suffice(admin: Redis, redis_url: str) -> None:
    """docs/operations.md and the errors list them."""
    findings = await examine_redis(await limited(admin, redis_url, *DOCUMENTED))
    assert {finding.what for finding in findings} <= {"redis", "redis persistence", "workers"}
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"ACL SETUSER nightmill reset on >PASSWORD {' '.join(DOCUMENTED)}\n" in page


async def test_a_command_that_is_missing_is_named(admin: Redis, redis_url: str) -> None:
    """`doctor` said ok, and `run` hung."""
    settings = await limited(admin, redis_url, "~*", "&*", "+@all", "-zscan", "-hset")
    found = of(await examine_redis(settings), "redis rights")
    assert not found.ok
    assert "HSET" in found.observed
    assert "ZSCAN" in found.observed
    assert "ZADD" not in found.observed
    assert "ACL SETUSER" in found.fix


async def test_keys_that_are_missing_are_named(admin: Redis, redis_url: str) -> None:
    """The keys have two prefixes."""
    settings = await limited(admin, redis_url, "~arq:*", "&*", "+@all")
    assert "nightmill:" in of(await examine_redis(settings), "redis rights").observed


async def test_many_commands_that_are_missing_are_counted(admin: Redis, redis_url: str) -> None:
    """A user of other keys filled half a screen with the names of 41 commands."""
    settings = await limited(admin, redis_url, "~other:*", "&*", "+@all")
    observed = of(await examine_redis(settings), "redis rights").observed
    assert re.fullmatch(r".* may not use (\w+ \S+, ){2}\w+ \S+ and \d+ other commands", observed)


async def test_a_missing_channel_is_a_warning(admin: Redis, redis_url: str) -> None:
    """No channels is what Redis 7 gives a new user; jobs only start a little later."""
    found = of(
        await examine_redis(await limited(admin, redis_url, "~*", "+@all", "resetchannels")),
        "redis channel",
    )
    assert (found.ok, found.warns) == (True, True)
    assert "nightmill:wake" in found.observed
    assert "&nightmill:wake" in found.fix


def test_a_replica_and_a_cluster_are_refused() -> None:
    """`doctor` said ok, and `run` ended with READONLY or CROSSSLOT."""
    good = {"redis_version": "7.2.4", "role": "master", "cluster_enabled": 0}
    assert wrong_kind(good) is None
    for odd in ({"role": "slave"}, {"cluster_enabled": 1}, {"redis_version": "6.2.14"}):
        found = wrong_kind({**good, **odd})
        assert found is not None
        assert all(found)


async def test_a_replica_ends_run_and_worker_at_their_start(admin: Redis, redis_url: str) -> None:
    """A worker with a replica logged `redis away` for ever; `run` named no fix."""
    await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(QueueRefusedError, match="is a replica: give the URL of its primary"):
            await warnings(load_settings(redis_url=redis_url))
        (found,) = await examine_redis(load_settings(redis_url=redis_url))
        assert (found.what, found.ok) == ("redis role", False)
        with pytest.raises(QueueUnavailableError, match="Give the URL of its primary"):
            async with Producer(redis_url) as producer:
                await producer.enqueue(hello())
    finally:
        await admin.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_start_warns_of_eviction(admin: Redis, redis_url: str) -> None:
    """Evicted jobs were fed again and again, and only `doctor` looked."""
    settings = load_settings(redis_url=redis_url)
    assert await warnings(settings) == []
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    (warning,) = await warnings(settings)
    assert "allkeys-lru" in warning
    assert "maxmemory-policy noeviction" in warning
    assert "allkeys-lru" in of(await examine_redis(settings), "redis eviction").observed


async def test_a_redis_that_is_away_is_no_warning(tmp_path: Path) -> None:
    """Others say so."""
    assert await warnings(load_settings(redis_url=f"unix://{tmp_path}/none.sock")) == []


def test_every_command_is_asked_for() -> None:
    """A command that is not asked for would be found missing by `run` only."""
    used: set[str] = set()
    for folder in ("producer", "worker"):
        for path in (ROOT / folder).rglob("*.lua"):
            used.update(re.findall(r"redis\.p?call\(['\"]([A-Z]+)", path.read_text()))
            used.update(re.findall(r"redis\.p?call, ['\"]([A-Z]+)", path.read_text()))
        for path in (ROOT / folder).rglob("*.py"):
            used.update(re.findall(r"command\(\s*\"([A-Z]+)\"", path.read_text()))
            used.update(
                name.upper()
                for name in re.findall(r"(?:pipe|redis)\.([a-z_]+)\(", path.read_text())
                if name not in OURS
            )
    used = {{"DELETE": "DEL"}.get(name, name.removesuffix("_ITER")) for name in used}
    # AUTH and HELLO need no right: they begin a connection.
    others = {*SCRIPTS, "PUBLISH", "PUBSUB_NUMSUB", "HELLO", "CLOSE"}
    assert used - {*WITH_KEYS, *WITHOUT_KEYS, *others} == set()
    assert {*WITH_KEYS, *WITHOUT_KEYS} - {*used, "EXEC", "MULTI", "UNWATCH"} == set()
