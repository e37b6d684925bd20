"""Errors that Redis would give again and again, with what to do about each."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

from redis import exceptions

from nightmill.queue.rights import LIMITS
from nightmill.queue.server import CLUSTER_FIX, OWN_CERTIFICATE, WrongServerError

_DEPTH: Final = 5
"""Causes of an error that are looked at."""

ALLOW = (
    f"give this user the line ACL SETUSER NAME {' '.join(LIMITS)} +... of docs/operations.md "
    "(Rights in Redis); `nightmill doctor` names the commands that are missing"
)
_CREDENTIAL = "check the user and the password of NIGHTMILL_REDIS_URL"
_CERTIFICATE: Final = (
    "add ?ssl_ca_certs=FILE to NIGHTMILL_REDIS_URL, with the certificate of the authority that "
    "signed that of Redis, and name the host as its certificate does"
)
_FIXES: Final = {
    ssl.SSLCertVerificationError: _CERTIFICATE,
    exceptions.NoPermissionError: ALLOW,
    exceptions.AuthenticationError: _CREDENTIAL,
}
# redis-py leaves the code word of these in their texts; errors of scripts have it as well.
_FIX_OF_WORD: Final = {
    "NOPERM": ALLOW,
    "can't run this command": ALLOW,
    "can't access": ALLOW,
    "No permissions": ALLOW,
    "ACL failure": ALLOW,
    "has no permissions": ALLOW,
    "username-password": _CREDENTIAL,
    "WRONGPASS": _CREDENTIAL,
    "NOAUTH": _CREDENTIAL,
    "WRONGTYPE": "a key of nightmill holds another program's data: give a database of its own",
    "CROSSSLOT": CLUSTER_FIX,
    "MOVED": CLUSTER_FIX,
    "do not hash to the same slot": CLUSTER_FIX,
    # OpenSSL's words; those about a certificate of the server have a class.
    "CERTIFICATE_REQUIRED": OWN_CERTIFICATE,
    "certificate required": OWN_CERTIFICATE,
    "unknown command": "use Redis 7 or newer, or Valkey, without renamed commands",
}


def hint(error: Exception) -> str:
    """Return what may help, of an error that may pass: a replica can become the primary."""
    replica = isinstance(error, exceptions.ReadOnlyError) or "read only replica" in str(error)
    return " Give the URL of its primary in NIGHTMILL_REDIS_URL" if replica else ""


def refusal(error: Exception) -> str:
    """Return the fix of an error that Redis would give again and again; "" for any other."""
    for each in _with_causes(error):
        if isinstance(each, WrongServerError):
            return each.fix
        for kind, fix in _FIXES.items():
            if isinstance(each, kind):
                return fix
        if isinstance(each, exceptions.RedisError):
            text = str(each)[:300]
            if found := next((fix for word, fix in _FIX_OF_WORD.items() if word in text), ""):
                return found
    return ""


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it was made of: redis-py keeps only the text of an error of TLS."""
    for _ in range(_DEPTH):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
