"""The keys themselves: how they are made, and found in a request. Pure but for randomness."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY: Final = re.compile(r"(nm_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_BEARER: Final = "bearer "


def new_key() -> tuple[str, str]:
    """Return a new key: the id in it, which is no secret, and the whole key."""
    key_id = f"nm_{secrets.token_hex(6)}"
    return key_id, f"{key_id}_{secrets.token_urlsafe(32)}"


def id_of(key: str) -> str | None:
    """Return the id in a key; None when it is no key of a gateway."""
    found = _KEY.fullmatch(key)
    return found[1] if found else None


def key_in(headers: Mapping[str, str]) -> str:
    """Return the key in the headers of a request: x-api-key, else Authorization: Bearer; or ""."""
    if key := headers.get("x-api-key", "").strip():
        return key
    given = headers.get("authorization", "").strip()
    return given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
