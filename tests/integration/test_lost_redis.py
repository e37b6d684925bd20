"""A Redis that loses its memory under commands: no exit code 0 with rows missing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from nightmill.queue import keys
from nightmill_worker.machine.embedded import embedded_server
from tests.integration.shell import Endpoint, Shell, finish, slowly, until
from tests.integration.test_run import assert_whole

JOBS = 60


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Return a client of a Redis of the test's own."""
    folder = tmp_path_factory.mktemp("v")
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        yield client


@pytest.fixture
def shell(shell: Shell, redis: Redis, endpoint: Endpoint) -> Shell:
    """Return a shell that uses this Redis, with slow calls."""
    slowly(shell, endpoint)
    path = redis.connection_pool.connection_kwargs["path"]
    shell.export(redis_url=f"unix://{path}", max_in_flight="5", lease_s="2")
    return shell


def ended(redis: Redis) -> int:
    """Return how many jobs of the batch have succeeded."""
    return int(redis.execute_command("HGET", keys.BATCH + "prompts", "succeeded") or 0)


def test_a_run_feeds_what_redis_has_lost(shell: Shell, redis: Redis, endpoint: Endpoint) -> None:
    """10 to 15 of 60 rows with exit code 0; and each call in flight was made a second time."""
    with shell.started("run", shell.write(JOBS)) as run:
        until(lambda: ended(redis) >= 10)
        redis.flushall()
        err = finish(run, 0).err
    assert "Redis lost jobs: " in err
    assert "60 succeeded (60 cut at max_tokens), 0 failed" in err
    assert_whole(shell, JOBS)
    assert endpoint.answered() == [1] * JOBS


def test_a_run_whose_batch_was_cancelled_does_not_run_it_after_a_loss(
    shell: Shell, redis: Redis, endpoint: Endpoint
) -> None:
    """The flag was lost with the jobs. What was cancelled must never be called."""
    with shell.started("run", shell.write(JOBS)) as run:
        until(lambda: ended(redis) >= 5)
        assert shell("cancel", "prompts").code == 0
        redis.flushall()
        code, err = ends(run)
    assert code in (1, 3), err
    assert sum(endpoint.answered()) < JOBS
    assert shell.status()["state"] == "cancelled"


def ends(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command's end; return its exit code and what it printed on stderr."""
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_a_run_can_be_interrupted_while_it_waits_for_workers(shell: Shell, redis: Redis) -> None:
    """The lease may be an hour."""
    shell.export(lease_s="600")
    with shell.started("run", shell.write(JOBS)) as run:
        until(lambda: ended(redis) >= 5)
        redis.flushall()
        until(lambda: not redis.execute_command("HLEN", keys.BATCH + "prompts"))
        run.send_signal(signal.SIGINT)
        finish(run, 130)


def test_a_budget_still_holds_after_a_loss(shell: Shell, redis: Redis) -> None:
    """It was lost with the batch, and the rest of the file was run without it."""
    limit = ("--budget-tokens", "2500")
    with shell.started("run", shell.write(400), *limit) as run:
        until(lambda: ended(redis) >= 20)
        redis.flushall()
        code, err = ends(run)
    assert (code, "the budget is used up. " in err) == (3, True), err
    assert 2500 >= sum(row_tokens(shell)) > 1500


def row_tokens(shell: Shell) -> list[int]:
    """Return the tokens of each stored row."""
    rows = [json.loads(line) for line in shell("results", "prompts").out.splitlines()]
    return [row["usage"]["input_tokens"] + row["usage"]["output_tokens"] for row in rows]


def test_waiting_for_a_batch_that_redis_lost_ends_with_3(shell: Shell, redis: Redis) -> None:
    """The workers went on, and `wait` was content with what it found."""
    assert shell("enqueue", shell.write(JOBS)).code == 0
    with shell.started("worker") as worker:
        until(lambda: ended(redis) >= 10)
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    redis.flushall()
    done = shell("wait", "prompts")
    assert done.code == 3
    assert "neither queued nor stored: feed its source again" in done.err
    assert shell("verify", "prompts").code == 1
    assert shell.status()["total"] == JOBS


def test_a_worker_in_another_folder_is_refused(
    shell: Shell, redis: Redis, endpoint: Endpoint, tmp_path: Path
) -> None:
    """It took 294 of 400 jobs; `results` had 106 with exit code 0, and 139 were paid for twice."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with shell.started("run", shell.write(JOBS)) as run:
        until(lambda: ended(redis) >= 5)
        other = Shell(folder, api_key="any-key", base_url=endpoint.url)
        other.env |= {"NIGHTMILL_REDIS_URL": shell.env["NIGHTMILL_REDIS_URL"]}
        refused = other("worker")
        finish(run, 0)
    assert refused.code == 2
    assert "this Redis is used with another results store" in refused.err
    assert_whole(shell, JOBS)
    assert endpoint.answered() == [1] * JOBS
