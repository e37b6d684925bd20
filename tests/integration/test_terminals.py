"""Two terminals with a stock Redis: workers in one, everything else in the other."""

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
    """Whether a Redis serves at `url`."""
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture
def terminal(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Return a shell whose REDIS_URL is a stock Redis, as a package manager installs it."""
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
    """The worker waits for work, outlives a batch, and leaves when it is told to."""
    with terminal.started("worker", "--processes", "2") as worker:
        assert terminal("enqueue", terminal.write(200)).code == 0
        watched = terminal("status", "prompts", "--watch")
        assert watched.code == 0
        assert "prompts done: 200/200 done · 0 failed" in watched.out.splitlines()[-1]
        done = terminal("results", "prompts", "-o", "out.jsonl")
        assert done.code == 0
        assert len(terminal.rows("out.jsonl")) == 200
        assert endpoint.answered() == [1] * 200
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    assert not (terminal.data / "valkey.log").exists()


def test_sigterm_lets_calls_finish(terminal: Shell, endpoint: Endpoint) -> None:
    """Calls under way are paid for; what was not called yet stays queued."""
    endpoint.configure(latency_s=1.5)
    terminal("enqueue", terminal.write(5))
    with terminal.started("worker") as worker:
        until(lambda: len(endpoint.calls()) == 5)
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    told = terminal.status()
    assert (told["succeeded"], told["in_flight"]) == (5, 0)
    assert endpoint.answered() == [1] * 5


def test_doctor_names_what_a_stock_redis_lacks(terminal: Shell) -> None:
    """Its defaults forget what is queued, so the fix is told."""
    told = terminal("doctor")
    assert told.code == 2
    assert "FAIL redis persistence: AOF is off" in told.out
    assert "fix: appendonly yes" in told.out


def test_a_run_uses_the_redis_that_is_set(terminal: Shell, tmp_path: Path) -> None:
    """No embedded server beside it."""
    assert terminal("run", terminal.write(20)).code == 0
    assert len(terminal.rows()) == 20
    assert not (tmp_path / ".nightmill" / "valkey.log").exists()
