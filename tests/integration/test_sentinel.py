"""Redis with Sentinels: a real failover in the middle of a run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from nightmill.errors import QueueRefusedError, QueueUnavailableError
from nightmill.queue.connection import connect, connect_blocking, redis_errors
from nightmill.settings import load_settings
from tests.integration.shell import Endpoint, Shell, finish, slowly, until
from tests.redis_servers import PRIMARY, Watched, watched

JOBS = 400
PASSWORD = "s3cret-of-redis-4711"  # noqa: S105 - of a server of this test


def failed_over(servers: Watched) -> bool:
    """Return whether all Sentinels name the replica as the primary."""
    for sentinel in servers.sentinels:
        with sentinel.client() as client:
            state = client.sentinel_masters()[PRIMARY]
        if state["port"] != servers.replica.port or state["is_sdown"]:
            return False
    return True


def test_a_failover_in_the_middle_of_a_run_loses_no_job(
    shell: Shell, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The worker finds the new primary, and every prompt has one row and was paid for once."""
    folder = tmp_path_factory.mktemp("sentinel")
    with watched(folder, password=PASSWORD) as servers:
        slowly(shell, endpoint)
        shell.export(redis_url=servers.url(f":{PASSWORD}@"))
        with shell.started("worker", "--processes", "2") as worker:
            assert shell("enqueue", shell.write(JOBS)).code == 0
            until(lambda: sum(endpoint.answered()) > JOBS // 8)
            servers.primary.kill()
            until(lambda: failed_over(servers))
            waited = shell("wait", "prompts")
            assert waited.code == 0, waited.err
            status = shell.status()
            worker.send_signal(signal.SIGTERM)
            done = finish(worker, 0)
        assert (status["total"], status["succeeded"]) == (JOBS, JOBS)
        assert shell("results", "prompts", "-o", "out.jsonl").code == 0
    rows = shell.rows("out.jsonl")
    assert len({row["custom_id"] for row in rows}) == len(rows) == JOBS
    assert endpoint.answered() == [1] * JOBS
    assert PASSWORD not in done.err + done.out + json.dumps(status) + waited.err


async def test_what_sentinels_answer(tmp_path: Path) -> None:
    """Names that they do not watch, a password that is wrong, and Sentinels that are away."""
    with watched(tmp_path, password=PASSWORD, sentinels=1) as servers:
        good = servers.url(f":{PASSWORD}@")
        async with connect(load_settings(redis_url=good)) as redis:
            assert await redis.ping()
        with connect_blocking(load_settings(redis_url=good)) as blocking:
            assert blocking.ping()
        wrong = {
            good.replace(f"/{PRIMARY}/", "/other/"): "watch no primary with the name other",
            good.replace(PASSWORD, "wrong-password-1"): "check the user and the password",
            f"redis://{servers.hosts}": "it is a Sentinel, which holds no jobs",
        }
        for url, expected in wrong.items():
            await expect(url, QueueRefusedError, expected)
        for sentinel in servers.sentinels:
            sentinel.kill()
        error = await expect(good, QueueUnavailableError, "no Sentinel knows a primary jobs")
        assert servers.hosts in error
        assert "object" not in error


async def expect(url: str, kind: type[Exception], words: str) -> str:
    """Check the error of both clients at `url`, and return its text."""
    settings = load_settings(redis_url=url)
    async with connect(settings) as redis:
        with pytest.raises(kind, match=words) as caught, redis_errors():
            await redis.ping()
    client = connect_blocking(settings)
    with client, pytest.raises(kind, match=words) as blocked, redis_errors():
        client.ping()
    for each in (caught, blocked):
        assert PASSWORD not in str(each.value)
        assert "wrong-password-1" not in str(each.value)
    return str(caught.value)
