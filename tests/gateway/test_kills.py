"""kill -9: what was accepted is not lost, and nothing is accepted by half."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.gateway.batches.made import PATH, request
from tests.integration.shell import Endpoint, Shell, finish, simulated, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(shell: Shell) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a gateway without keys; yield its URL and its process."""
    with shell.started("serve", "--insecure", "--port", "0") as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[6], process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            finish(process, 0)


def call(url: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Send a request and return the JSON of its answer, or the lines of its results."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    with closing(connection):
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return data.splitlines() if path.endswith("/results") else json.loads(data)


def staged(shell: Shell) -> int:
    """Return how many requests are in the store."""
    with closing(sqlite3.connect(shell.data / "results.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM requests").fetchone()[0])


@contextmanager
def half_uploaded(url: str, body: bytes, shell: Shell) -> Iterator[None]:
    """Send half of a create, and wait until some of it is stored."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    with closing(connection):
        connection.putrequest("POST", PATH)
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders()
        connection.send(body[: len(body) // 2])
        until(lambda: staged(shell))
        yield


def run_to_its_end(shell: Shell, endpoint: Endpoint, batch: str, count: int) -> None:
    """Start everything again and wait for the batch; no prompt may be answered twice."""
    with serving(shell) as (url, _), shell.started("worker") as worker:

        def ended() -> bool:
            return bool(call(url, "GET", f"{PATH}/{batch}")["processing_status"] == "ended")

        until(ended)
        assert len(call(url, "GET", f"{PATH}/{batch}/results")) == count
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    assert sorted(endpoint.answered()) == [1] * count


def test_a_gateway_is_killed_in_the_middle_of_a_create_and_after_it(tmp_path: Path) -> None:
    """The embedded Valkey ends with it, too: the whole machine was restarted."""
    count = 5_000
    body = json.dumps({"requests": [request(number) for number in range(count)]}).encode()
    with simulated(tmp_path) as endpoint:
        shell = Shell(tmp_path, base_url=endpoint.url, api_key="k", window="50")
        with serving(shell) as (url, process), half_uploaded(url, body, shell):
            process.kill()
            process.wait()
        with serving(shell) as (url, process):
            assert call(url, "GET", PATH)["data"] == []
            few = {"requests": [request(number) for number in range(300)]}
            batch = call(url, "POST", PATH, few)["id"]
            process.kill()
            process.wait()
        for pid in shell.pids("valkey"):
            subprocess.run(["kill", "-9", str(pid)], check=True)  # noqa: S607 - as a person does
        run_to_its_end(shell, endpoint, batch, 300)
    shell.assert_nothing_runs()
