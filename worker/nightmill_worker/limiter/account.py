"""The account: one endpoint and one credential, named without giving the credential away."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from nightmill.settings import Settings


def host_of(settings: Settings) -> str:
    """Return the host of the endpoint, with its port unless it is the usual one, for a person."""
    url = urlsplit(settings.endpoint)
    return (url.hostname or "") + (f":{url.port}" if url.port else "")


def fingerprint(settings: Settings) -> str:
    """Return the account of `settings`: 16 hex digits for its endpoint and its credential."""
    secret = settings.api_key or settings.auth_token
    key = secret.get_secret_value() if secret else ""
    return hashlib.sha256(f"{settings.endpoint}\n{key}".encode()).hexdigest()[:16]
