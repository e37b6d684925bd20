"""Sources on a web server: whole, or one clear error."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from nightmill.errors import SourceError
from nightmill.sources import Template
from tests.producer.sources.reading import asked, read

LINE = b'{"prompt":"hi"}\n'
LINES = LINE * 50_000
SAY = Template(prompt="{{ text }}")


def table() -> bytes:
    """Return a Parquet file."""
    out = io.BytesIO()
    parquet.write_table(pa.table({"text": ["hi", "ho"]}), out)
    return out.getvalue()


FILES = {"in.jsonl": LINES, "in.parquet": table()}


class Handler(BaseHTTPRequestHandler):
    """Serves FILES: /whole/ with their length, /none/ without, /cut/ to the middle only."""

    def do_HEAD(self) -> None:
        """Send the headers."""
        self._begin()

    def do_GET(self) -> None:
        """Send the headers and the file."""
        data = self._begin()
        self.wfile.write(data[: len(data) // 2] if "/cut/" in self.path else data)

    def _begin(self) -> bytes:
        data = FILES.get(self.path.partition("?")[0].rpartition("/")[2], b"")
        statuses = {"no": 403, "gone": 404}
        self.send_response(statuses.get(self.path.split("/")[1], 200))
        self.send_header("Accept-Ranges", "none")
        if "/none/" not in self.path:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """Run the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["whole", "none"])
def test_lines_are_read_to_the_end(site: str, way: str) -> None:
    """A read returns what has arrived, which is less than it was asked for."""
    assert len(read(f"{site}/{way}/in.jsonl")) == 50_000


def test_a_source_that_is_cut_is_one_clear_error(site: str) -> None:
    """The error of the web client was a traceback."""
    with pytest.raises(SourceError, match=r"/cut/in\.jsonl: cannot be read: .*Not enough data"):
        read(f"{site}/cut/in.jsonl")


def test_parquet_that_cannot_be_read_from_its_end_is_one_clear_error(site: str) -> None:
    """A web server without a length was a traceback: ValueError, cannot seek."""
    with pytest.raises(SourceError, match=r"Parquet is read from its end, .* download the file"):
        asked(f"{site}/none/in.parquet", SAY)


def test_an_error_that_quotes_the_url_does_not_show_its_signature(site: str) -> None:
    """A signed URL is as good as a key."""
    with pytest.raises(SourceError, match="403") as caught:
        read(f"{site}/no/in.jsonl?user=u&signature=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(SourceError, match="no such file"):
        read(f"{site}/gone/in.jsonl")
    with pytest.raises(SourceError, match="cannot be read"):
        read("http://127.0.0.1:9/in.jsonl")


def test_parquet_of_a_path_is_read(tmp_path: Path) -> None:
    """A file has an end."""
    (tmp_path / "in.parquet").write_bytes(table())
    assert list(asked(tmp_path / "in.parquet", SAY).values()) == ["hi", "ho"]
