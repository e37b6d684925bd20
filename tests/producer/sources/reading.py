"""Helpers that read a whole source, for the tests of all kinds of sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from nightmill.params import Defaults
from nightmill.sources import Format, Line, Rejected, Template, read_source, source_of

DEFAULTS: Final = Defaults(model="m", max_tokens=64, max_payload_bytes=1 << 20)
SAY: Final = Template(prompt="{{ text }}")
ROWS: Final = b'{"prompt": "a"}\n{"prompt": "b"}\n'


def read(
    where: str | Path, template: Template | None = None, given: Format | None = None
) -> list[Line | Rejected]:
    """Return all lines of a source."""
    return list(read_source(source_of(where, given, template), DEFAULTS))


def jobs(where: str | Path, template: Template | None = None) -> dict[str, Any]:
    """Read a source of good rows; return the request of each id."""
    found = read(where, template)
    assert all(isinstance(line, Line) for line in found), found
    return {line.custom_id: json.loads(line.body) for line in found if isinstance(line, Line)}


def asked(where: str | Path, template: Template | None = None) -> dict[str, object]:
    """Return the content of each job's one message."""
    return {name: job["messages"][0]["content"] for name, job in jobs(where, template).items()}


def write(folder: Path, name: str, data: bytes) -> Path:
    """Write a file below `folder`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
