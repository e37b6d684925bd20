"""The signature of a webhook, as Standard Webhooks defines it. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the webhook-signature header of `body`; `timestamp` is the sending time, epoch s."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"
