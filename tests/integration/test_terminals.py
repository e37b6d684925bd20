"""Two terminals with a stock Redis: workers in one, other commands in the other."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.integration.shell import Endpoint, Shell, finish, until

REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(REDIS is None, reason="no redis-server on PATH")


def answers(url: str) -> bool:
    """Return whether a Redis answers at `url`."""
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture
def terminal(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Return a shell whose REDIS_URL is a Redis with default settings."""
    home = tmp_path_factory.mktemp("redis")
    path = home / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--dir", str(home), "--save", "")
    assert REDIS is not None
    with subprocess.Popen([REDIS, *options], stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: answers(f"unix://{path}"))
            shell.export(redis_url=f"unix://{path}")
            yield shell
        finally:
            server.terminate()


def test_two_terminals(terminal: Shell, endpoint: Endpoint) -> None:
    """The worker waits for jobs, goes on after a batch, and ends on SIGTERM."""
    with terminal.started("worker", "--processes", "2") as worker:
        assert terminal("enqueue", terminal.write(200)).code == 0
        watched = terminal("status", "prompts", "--watch")
        assert watched.code == 0
        assert "prompts done: 200/200 done · " in watched.out.splitlines()[-1]
        done = terminal("results", "prompts", "-o", "out.jsonl")
        assert done.code == 0
        assert len(terminal.rows("out.jsonl")) == 200
        assert endpoint.answered() == [1] * 200
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    assert not (terminal.data / "valkey.log").exists()


def test_sigterm_lets_calls_finish(terminal: Shell, endpoint: Endpoint) -> None:
    """Calls under way finish, as they are paid for."""
    endpoint.configure(latency_s=1.5)
    terminal("enqueue", terminal.write(5))
    with terminal.started("worker") as worker:
        until(lambda: len(endpoint.calls()) == 5)
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    status = terminal.status()
    assert (status["succeeded"], status["in_flight"]) == (5, 0)
    assert endpoint.answered() == [1] * 5


def test_doctor_names_the_wrong_settings_of_a_stock_redis(terminal: Shell) -> None:
    """Its defaults lose queued jobs at a restart, so doctor prints the fix."""
    done = terminal("doctor")
    assert done.code == 2
    assert "FAIL redis persistence: AOF is off" in done.out
    assert "fix: appendonly yes" in done.out


def test_a_run_uses_the_redis_that_is_set(terminal: Shell, tmp_path: Path) -> None:
    """It starts no embedded server."""
    assert terminal("run", terminal.write(20)).code == 0
    assert len(terminal.rows()) == 20
    assert not (tmp_path / ".nightmill" / "valkey.log").exists()
