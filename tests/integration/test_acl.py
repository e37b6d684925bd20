"""A Redis user with the documented rights and no others: every command, worker and gateway work."""

from __future__ import annotations

import http.client
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.shell import Endpoint, Shell, finish
from tests.redis_servers import Server, serving

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

PAGE_PASSWORD = "PASSWORD"  # noqa: S105 - the word of the page


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a Redis with a user who has the rights of the page."""
    with serving(tmp_path_factory.mktemp("acl"), "--appendonly", "yes") as server:
        (line,) = re.findall(r"^ACL SETUSER .*>PASSWORD.*", PAGE.read_text(), re.MULTILINE)
        with server.client() as client:
            client.execute_command(*line.split())
        yield server


def refused(server: Server) -> list[str]:
    """Return what Redis refused anybody."""
    with server.client() as client:
        entries = client.execute_command("ACL", "LOG")
    return [f"{entry[b'reason']!r} {entry[b'object']!r}" for entry in map(pairs, entries)]


def pairs(flat: list[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return an entry of the log as a table."""
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def post(url: str, path: str, key: str, body: object) -> int:
    """Return the status of a POST of JSON."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        headers = {"x-api-key": key, "content-type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_every_command_works_with_the_documented_rights(
    shell: Shell, endpoint: Endpoint, server: Server
) -> None:
    """A command of Redis that the code begins to need must be documented."""
    endpoint.configure(latency_s=0.01)
    shell.export(redis_url=f"redis://nightmill:PASSWORD@127.0.0.1:{server.port}/0")
    source = shell.write(30)
    assert shell("enqueue", source).code == 0
    for command in ("status", "lanes", "pause prompts", "resume prompts"):
        assert shell(*command.split()).code == 0, command
    with shell.started("worker") as worker:
        assert shell("wait", "prompts").code == 0
        assert shell("doctor").code in (0, 2)
        source = shell.write(5, "again.jsonl")
        assert shell("enqueue", source, "--budget-usd", "50").code == 0
        assert shell("adjust", "again", "--budget-usd", "60").code == 0
        assert shell("wait", "again").code == 0
        serve(shell)
        worker.send_signal(signal.SIGTERM)
        finish(worker, 0)
    assert shell("results", "prompts", "-o", "out.jsonl").code == 0
    assert len(shell.rows("out.jsonl")) == 30
    assert shell("errors", "prompts").code == 0
    assert shell("verify", "prompts", "--source", "prompts.jsonl").code == 0
    assert shell("enqueue", shell.write(5, "gone.jsonl")).code == 0
    assert shell("cancel", "gone").code == 0
    retried = shell("retry", "gone", "--cancelled")
    assert retried.code == 0, retried.err
    assert shell("prune", "prompts", "--yes").code in (0, 2)
    assert refused(server) == []


def serve(shell: Shell) -> None:
    """Use the gateway: a Message, a Message Batch, a job."""
    key = shell("keys", "create", "web").out.strip()
    request = {
        "model": "claude-opus-4-6",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "hello"}],
    }
    with shell.started("serve", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[6]
        assert post(url, "/v1/messages", key, request) == 200
        made = {"requests": [{"custom_id": "a", "params": request}]}
        assert post(url, "/v1/messages/batches", key, made) == 200
        assert post(url, "/v1/jobs", key, {"params": request}) in (200, 202)
        process.send_signal(signal.SIGTERM)
        finish(process, 0)


def test_a_right_that_is_missing_is_seen(server: Server) -> None:
    """The test above could not fail otherwise."""
    with server.client(username="nightmill", password=PAGE_PASSWORD) as client:
        with pytest.raises(Exception, match="permissions"):
            client.execute_command("SINTER", "nightmill:a")
        with pytest.raises(Exception, match="permissions"):
            client.get("other:key")
    assert len(refused(server)) == 2
