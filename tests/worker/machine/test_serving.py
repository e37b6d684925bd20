"""The embedded server of a command that runs workers: started again as often as it dies."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from nightmill import Settings, load_settings
from nightmill_worker.machine.running_server import lives
from nightmill_worker.machine.serving import serving_redis
from tests.rig import until


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Return settings without a Redis; no server may be left in their data directory."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        yield load_settings(data_dir=folder, redis_url=None)
        assert not lives(Path(folder)), "a server was left running"


def pid_of(settings: Settings) -> int:
    """Return the process id of the server that answers, 0 when none does."""
    try:
        with Redis.from_url(str(settings.redis_url)) as client:
            return int(client.info("server")["process_id"])
    except RedisError:
        return 0


async def test_the_server_is_started_again_whenever_it_dies(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when nothing has used it since its last death."""
    async with serving_redis(settings) as served:
        pids = [pid_of(served)]
        for _ in range(3):
            os.kill(pids[-1], signal.SIGKILL)
            await until(lambda: pid_of(served) not in {0, *pids})
            pids.append(pid_of(served))
    assert "the embedded Valkey died" in capsys.readouterr().err
