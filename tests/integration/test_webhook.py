"""A run and a fleet that post a webhook when a batch is complete."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nightmill_worker.webhooks.signature import sign
from tests.integration.shell import Endpoint, Shell, finish, until

KEY = b"k" * 24
SECRET = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tr"  # noqa: S105


class Receiver(HTTPServer):
    """Takes webhooks on loopback and answers with `status`."""

    def __init__(self) -> None:
        """Listen."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?token=secret"
        self.status = 204
        self.got: list[tuple[str, dict[str, object]]] = []


class Handler(BaseHTTPRequestHandler):
    """Checks the signature and keeps the body."""

    server: Receiver

    def do_POST(self) -> None:
        """Take one webhook."""
        body = self.rfile.read(int(self.headers["content-length"]))
        name, at = self.headers["webhook-id"], int(self.headers["webhook-timestamp"])
        assert self.headers["webhook-signature"] == sign(KEY, name, at, body)
        self.server.got.append((name, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.usefixtures("endpoint")
def test_a_run_delivers_before_it_ends(shell: Shell, receiver: Receiver) -> None:
    """Each completion is delivered once, so a second run of the same file posts nothing."""
    shell.export(webhook_secret=SECRET, webhook_allow_private="true")
    source = shell.write(20)
    for _ in range(2):
        done = shell("run", source, "--on-complete", receiver.url)
        assert done.code == 0, done.err
        assert "webhook: delivered" in done.err
    [(_, body)] = receiver.got
    assert isinstance(data := body["data"], dict)
    assert data["counts"] == {
        "total": 20,
        "succeeded": 20,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
    }
    assert data["cost"] > 0
    assert shell.status()["webhook"] == "delivered"
    assert "webhook of prompts: delivered" in shell("status").out


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "batch.paused"), (401, "account.stopped")], ids=["batch", "account"]
)
def test_a_run_that_is_stopped_tells_so_before_it_ends(
    shell: Shell, receiver: Receiver, endpoint: Endpoint, status: int, kind: str
) -> None:
    """Its workers end with it: nobody would post the webhook before the next run."""
    shell.export(webhook_secret=SECRET, webhook_allow_private="true", webhook_url=receiver.url)
    endpoint.configure(faults=[{"status": status, "share": 1}])
    done = shell("run", shell.write(40), "--on-complete", receiver.url)
    assert done.code == 3, done.err
    assert [body["type"] for _, body in receiver.got] == [kind]


def test_a_webhook_that_cannot_be_delivered_is_reported_at_once(
    shell: Shell, endpoint: Endpoint
) -> None:
    """A missing secret or a bad URL is found before any call, a private one at the post."""
    source = shell.write(2)
    done = shell("run", source, "--on-complete", "http://example.com/")
    assert done.code == 2
    assert "NIGHTMILL_WEBHOOK_SECRET" in done.err
    shell.export(webhook_secret=SECRET)
    for command in ("run", "enqueue"):
        done = shell(command, source, "--on-complete", "example.com")
        assert (done.code, endpoint.calls()) == (2, {})
        assert "on-complete: not an http(s) address" in done.err
    done = shell("run", source, "--on-complete", "http://127.0.0.1:9/")
    assert done.code == 0
    assert "webhook: given up (127.0.0.1 is a private address" in done.err


@pytest.mark.usefixtures("endpoint")
def test_workers_go_on_trying_after_a_restart(shell: Shell, receiver: Receiver) -> None:
    """The receiver was down when the batch ended. Another process makes the next try."""
    shell.export(webhook_secret=SECRET, webhook_allow_private="true")
    receiver.status = 503
    source = shell.write(5)
    assert shell("enqueue", source, "--on-complete", receiver.url).code == 0
    assert shell.status()["webhook"] == "waiting"
    with shell.started("worker") as worker:
        until(lambda: "retrying after 1 tries (503)" in str(shell.status()["webhook"]))
        worker.terminate()
        finish(worker, 0)
    receiver.status = 204
    with shell.started("worker") as worker:
        until(lambda: shell.status()["webhook"] == "delivered")
        worker.terminate()
        finish(worker, 0)
    assert len({name for name, _ in receiver.got}) == 1
    assert len(receiver.got) >= 2  # a slow machine makes one try more
