"""The account: one endpoint and one credential, named without giving the credential away."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.settings import Settings


def fingerprint(settings: Settings) -> str:
    """Return the account of `settings`: 16 hex digits for its endpoint and its credential."""
    secret = settings.api_key or settings.auth_token
    key = secret.get_secret_value() if secret else ""
    return hashlib.sha256(f"{settings.endpoint}\n{key}".encode()).hexdigest()[:16]
