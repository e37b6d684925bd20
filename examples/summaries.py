"""A service written for the provider's API, whose calls go through nightmill by its base URL alone.

    nightmill serve --insecure                  # and `nightmill worker` in another terminal
    export ANTHROPIC_BASE_URL=http://localhost:8480 ANTHROPIC_API_KEY=any
    python examples/summaries.py 8080           # without the export it calls the provider
    curl localhost:8080 -d 'A long text ...'

Nothing here knows of nightmill. Its calls wait their turn under the limit of the whole company, and
are stored like all others.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from anthropic import Anthropic, APIStatusError

client = Anthropic()  # ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where it calls


class Summaries(BaseHTTPRequestHandler):
    """Answers a POST of a text with its summary."""

    def do_POST(self) -> None:
        """Ask for a summary of the body."""
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            message = client.messages.create(
                model="claude-opus-4-6",
                max_tokens=200,
                messages=[{"role": "user", "content": f"Summarise in one sentence: {text}"}],
            )
        except APIStatusError as error:
            self._answer(HTTPStatus.BAD_GATEWAY, error.message)
            return
        self._answer(HTTPStatus.OK, "".join(b.text for b in message.content if b.type == "text"))

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 8080
    with ThreadingHTTPServer(("127.0.0.1", port), Summaries) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
