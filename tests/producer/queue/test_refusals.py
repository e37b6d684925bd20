"""A Redis that refuses for good: one clear error with the fix, not endless retries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis import exceptions

from nightmill import Producer
from nightmill.errors import QueueRefusedError
from nightmill.queue import patience
from nightmill.queue.patience import patiently
from nightmill.queue.refusals import refusal
from tests.rig import Rig, hello


@pytest.fixture
async def limited(rig: Rig) -> AsyncIterator[str]:
    """Return the URL of a user without rights, whose rights a test gives."""
    await rig.redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw")
    path = (rig.settings.redis_url or "").removeprefix("unix://")
    yield f"unix://limited@{path}?password=pw"
    await rig.redis.execute_command("ACL", "DELUSER", "limited")


async def test_a_user_without_channels_enqueues(rig: Rig, limited: str) -> None:
    """Redis 7 gives a new user no channels: jobs were enqueued again and again, for ever."""
    await rig.redis.execute_command("ACL", "SETUSER", "limited", "~*", "+@all", "resetchannels")
    async with Producer(limited) as producer:
        receipt = await producer.enqueue(hello())
        assert receipt.new
    await rig.work_off()
    assert (await rig.row(receipt.job_id)).text


async def test_a_user_without_a_command_gets_the_fix(rig: Rig, limited: str) -> None:
    """The error names the command, and what to allow."""
    await rig.redis.execute_command(
        "ACL", "SETUSER", "limited", "~*", "&*", "+@all", "-evalsha", "-eval"
    )
    async with Producer(limited) as producer:
        with pytest.raises(QueueRefusedError, match=r"evalsha.*ACL SETUSER"):
            await producer.enqueue(hello())


async def test_a_wrong_password_is_refused_at_once(rig: Rig, limited: str) -> None:
    """Nothing that time changes."""
    del rig
    with pytest.raises(QueueRefusedError, match="check the user and the password"):
        async with Producer(limited.replace("=pw", "=another")):
            pass


async def test_patience_with_a_refusal_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command ends with the fix instead of trying for five minutes."""
    monkeypatch.setattr(patience, "REFUSED_S", 0)
    monkeypatch.setattr(patience, "_AGAIN_S", 0)
    calls = []

    async def refused() -> None:
        calls.append(1)
        raise QueueRefusedError

    with pytest.raises(QueueRefusedError):
        await patiently(refused)
    assert calls


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (
            exceptions.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
            "cluster",
        ),
        (exceptions.ResponseError("MOVED 1 127.0.0.1:1"), "cluster"),
        (
            exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind"),
            "own",
        ),
        (exceptions.ResponseError("unknown command 'X'"), "Redis 7"),
        (
            exceptions.ResponseError("ERR ACL failure in script: User u has no permissions to run"),
            "ACL SETUSER",
        ),
        (exceptions.ResponseError("MISCONF Redis is configured to save"), ""),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), ""),
        (exceptions.BusyLoadingError("loading"), ""),
        (exceptions.ConnectionError("gone"), ""),
        (OSError("gone"), ""),
    ],
)
def test_a_failover_is_no_refusal(error: Exception, word: str) -> None:
    """MISCONF and READONLY pass: a failover looks so."""
    fix = refusal(error)
    assert bool(fix) == bool(word)
    assert word in fix
