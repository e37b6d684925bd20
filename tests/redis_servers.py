"""Stock Redis and Valkey servers as services run them: with a port, replicas, Sentinels, TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from nightmill_worker.machine.embedded import _binary

REDIS: Final = shutil.which("redis-server")
"""The stock server with TLS, None where it is not installed."""
PRIMARY: Final = "jobs"
STARTS_S: Final = 20.0


class Server:
    """One server process on a port of 127.0.0.1."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        """Start it, with its files in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.log = folder / "server.log"
        command = [REDIS or str(_binary()), *options]
        if "--tls-port" not in options:
            command += ["--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Redis:  # noqa: ANN401 - redis-py's
        """Return a client, to be closed by the caller."""
        return Redis(host="127.0.0.1", port=self.port, **options)

    def answers(self, **options: Any) -> bool:  # noqa: ANN401 - redis-py's
        """Return whether it answers."""
        try:
            with self.client(**options) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(true: object) -> None:
    """Wait until a function returns a true value."""
    assert callable(true)
    end = time.monotonic() + STARTS_S
    while not true():
        assert time.monotonic() < end, f"not within {STARTS_S} s"
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """Run one server, which answers without TLS and password, for the length of a block."""
    with ended(Server(folder, *options, port=port)) as server:
        wait_until(server.answers)
        yield server


@contextmanager
def ended(server: Server) -> Iterator[Server]:
    """End a server after a block."""
    try:
        yield server
    finally:
        server.kill()


AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""By default a primary waits 5 s for more replicas before it sends its data to the first."""


class Watched:
    """A primary, its replica, and the Sentinels that watch them."""

    def __init__(self, primary: Server, replica: Server, sentinels: list[Server]) -> None:
        """Take servers that run."""
        self.primary, self.replica, self.sentinels = primary, replica, sentinels

    @property
    def hosts(self) -> str:
        """Return the Sentinels as REDIS_URL names them."""
        return ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)

    def url(self, user: str = "") -> str:
        """Return REDIS_URL."""
        return f"redis+sentinel://{user}{self.hosts}/{PRIMARY}/0"


@contextmanager
def watched(folder: Path, *, password: str = "", sentinels: int = 3) -> Iterator[Watched]:
    """Run a primary with a replica, and Sentinels that make it the primary within seconds."""
    secret = ("--requirepass", password, "--masterauth", password) if password else ()
    known = {"password": password} if password else {}
    with ExitStack() as stack:
        primary = stack.enter_context(
            ended(Server(folder / "primary", "--appendonly", "yes", *AT_ONCE, *secret))
        )
        wait_until(lambda: primary.answers(**known))
        follows = ("--replicaof", "127.0.0.1", str(primary.port))
        replica = stack.enter_context(
            ended(Server(folder / "replica", "--appendonly", "yes", *follows, *secret))
        )
        wait_until(lambda: _follows(replica, known))
        watching = []
        for number in range(sentinels):
            config = _sentinel_config(folder / f"sentinel-{number}", primary.port, password)
            server = Server(config.parent, str(config), "--sentinel")
            watching.append(stack.enter_context(ended(server)))
        for server in watching:
            wait_until(lambda server=server: _watches(server, sentinels - 1))
        yield Watched(primary, replica, watching)


def _sentinel_config(folder: Path, port: int, password: str) -> Path:
    folder.mkdir(parents=True)
    lines = [f"sentinel monitor {PRIMARY} 127.0.0.1 {port} 2"]
    lines += [f"sentinel auth-pass {PRIMARY} {password}"] if password else []
    lines += [f"sentinel down-after-milliseconds {PRIMARY} 500"]
    lines += [f"sentinel failover-timeout {PRIMARY} 3000"]
    path = folder / "sentinel.conf"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _follows(replica: Server, known: dict[str, Any]) -> bool:
    try:
        with replica.client(**known) as client:
            return bool(client.info("replication").get("master_link_status") == "up")
    except RedisError:
        return False


def _watches(sentinel: Server, others: int) -> bool:
    try:
        with sentinel.client() as client:
            state = client.sentinel_masters().get(PRIMARY)
    except RedisError:
        return False
    return bool(state) and state["num-slaves"] >= 1 and state["num-other-sentinels"] >= others
