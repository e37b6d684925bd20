"""The console's own script and style files. Each has the hash of its content in its URL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from nightmill.charts import STYLE
from nightmill_gateway.answers.errors import not_found

PATH: Final = "/static"
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """One file."""

    body: bytes
    digest: str
    kind: str


def _read() -> dict[str, Asset]:
    folder = Path(__file__).parent / "static"
    files = {path.name: path for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
    found = {}
    for name, path in files.items():
        body = path.read_bytes()
        found[name] = Asset(body, hashlib.sha256(body).hexdigest()[:16], _TYPES[path.suffix])
    styles = STYLE.encode()
    found["charts.css"] = Asset(styles, hashlib.sha256(styles).hexdigest()[:16], _TYPES[".css"])
    return found


_ASSETS: Final = _read()


def asset(name: str) -> str:
    """Return the URL of a file in `static/`."""
    return f"{PATH}/{_ASSETS[name].digest}/{name}"


async def serve(request: web.Request) -> web.Response:
    """Answer with a file. Another version of it, of a gateway that is updated, is not kept."""
    found = _ASSETS.get(request.match_info["name"])
    if found is None:
        raise not_found(f"file {request.match_info['name']!a:.80}")
    same = request.match_info["digest"] == found.digest
    return web.Response(
        body=found.body,
        content_type=found.kind,
        charset="utf-8",
        headers={"Cache-Control": _FOR_EVER if same else "no-store"},
    )


def routes() -> list[web.RouteDef]:
    """Return the route of the files."""
    return [web.get(f"{PATH}/{{digest}}/{{name}}", serve)]
