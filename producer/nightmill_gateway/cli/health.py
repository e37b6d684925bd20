"""The check of a gateway's health, for a container that has no curl."""

from __future__ import annotations

import http.client
from typing import Final

TIMEOUT_S: Final = 3.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it connects, and does not listen
_OK: Final = 200


def check(host: str, port: int) -> str:
    """Return what is wrong with the gateway that listens there, "" when nothing is."""
    place = _ANY.get(host, host)
    connection = http.client.HTTPConnection(place, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no gateway answers at {place} port {port}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return "" if status == _OK else f"GET /healthz at {place} port {port}: status {status}"
