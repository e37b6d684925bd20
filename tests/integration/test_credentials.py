"""A whole run against an endpoint that repeats the credential: no file and no output has it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.integration.shell import Shell

KEY = "sk-ant-api03-Zm9v-bar+Qx7_w-9AA"
EVIL = "\x1b]0;owned\x07"


class Echo(BaseHTTPRequestHandler):
    """Answers with an error that repeats the credential, in a form that the prompt names."""

    protocol_version = "HTTP/1.1"
    exposed: ClassVar[list[str]] = []
    """Command lines that had the credential during a call."""

    def do_POST(self) -> None:
        """Answer one call."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # its process has ended
                if KEY.encode() in path.read_bytes():
                    self.exposed.append(str(path))
        prompt = self.rfile.read(int(self.headers["content-length"])).decode()
        key = self.headers["x-api-key"] or self.headers["authorization"]
        encoded = base64.b64encode(f"key={key}".encode()).decode()
        text = encoded if "base64" in prompt else key
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
        body, status, kind = json.dumps(error).encode(), 400, "application/json"
        if "escaped" in prompt:
            body = body.replace(key.encode(), "".join(f"\\u{ord(c):04x}" for c in key).encode())
        if "stream" in prompt:
            body, status, kind = b"event: error\ndata: " + body + b"\n\n", 200, "text/event-stream"
        if "fine" in prompt:
            status = 200
        if "page" in prompt:
            body, status, kind = f"<p>{EVIL}{key}".encode(), 400, "text/html"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    """Run the endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def revealing(data: bytes) -> bool:
    """Return whether data reveals the credential, as it is or in base64."""
    forms = [KEY.encode(), KEY[4:20].encode()]
    forms += [base64.b64encode(before + KEY.encode())[4:24] for before in (b"", b"a", b"ab")]
    return any(form in data for form in forms)


@pytest.mark.parametrize("name", ["api_key", "auth_token"])
def test_no_file_and_no_output_has_the_credential(tmp_path: Path, echo: str, name: str) -> None:
    """An SSE error, an error in a 200 and base64 brought it to rows and exports."""
    shell = Shell(
        tmp_path, base_url=echo, max_attempts="1", outage_s="0", log_level="debug", **{name: KEY}
    )
    kinds = ["plain", "base64", "escaped", "stream", "stream base64", "fine", "fine base64", "page"]
    rows = [{"custom_id": kind, "prompt": kind} for kind in kinds]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = shell("run", "in.jsonl", "--no-canary")
    assert ran.code == 1, ran.err
    assert Echo.exposed == []
    shown = [ran]
    shown += [shell(*command) for command in (("errors", "in"), ("show", "in:page"))]
    shown += [shell("results", "in"), shell("status"), shell("doctor")]
    for done in shown:
        assert "\x1b" not in done.out + done.err
    for done in (*shown, shell("results", "in", "--format", "csv")):
        assert not revealing((done.out + done.err).encode()), done
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"results.db", "worker.log", "in.results.jsonl"} <= {path.name for path in files}
    for path in files:
        assert not revealing(path.read_bytes()), path
    assert (tmp_path / "in.results.jsonl").read_text().count("[credential]") >= len(kinds)
