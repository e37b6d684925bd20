"""What each HTTP status means for a job: its outcome, its words and what to fix. One table.

The Messages API sends few of these. Gateways, proxies and load balancers before it send the others.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

from nightmill_worker.messages.outcome import Fail, Retry, Snooze, StopAccount, Suspect

Unsuccessful: TypeAlias = type[Retry | Snooze | Fail | StopAccount | Suspect]


class Meaning(NamedTuple):
    """An outcome, and what to fix; None when nothing can be done about it."""

    outcome: Unsuccessful
    fix: str | None


FIX_ADDRESS: Final = (
    "check BASE_URL: no Messages API answers there (when only some jobs end so, check `model`)"
)
FIX_MODEL: Final = (
    "check `model`, which the endpoint does not know (if every job ends so, BASE_URL)"
)
FIX_REQUEST: Final = "correct the field the message names"
FIX_SMALLER: Final = "make the request smaller: shorten the messages, or send documents by URL"
FIX_CREDENTIAL: Final = (
    "set a valid ANTHROPIC_API_KEY (or NIGHTMILL_API_KEY / _AUTH_TOKEN),"
    " then run `nightmill resume`"
)
FIX_BILLING: Final = "settle the account's billing, then run `nightmill resume`"
FIX_FORBIDDEN: Final = "allow the credential to do this or use another, then run `nightmill resume`"
FIX_PROXY: Final = (
    "the proxy wants a login: correct the user and password in HTTPS_PROXY or HTTP_PROXY, then run"
    " `nightmill resume`"
)
FIX_HEADERS: Final = "check API_KEY or AUTH_TOKEN: the headers are too long for a gateway"
FIX_REDIRECT: Final = "set BASE_URL to the endpoint itself: it answers with a redirect"
FIX_TLS: Final = "check BASE_URL (https or http?) and the certificates of the gateway"
FIX_NETWORK: Final = "sign in to the network: something in it answers before the endpoint"
FIX_AGAIN: Final = "run the job again later; when it ends so each time, ask the endpoint's operator"
FIX_BUSY: Final = "run the job again later: the endpoint was overloaded"
FIX_GATEWAY: Final = (
    "run the job again later: a gateway did not reach the endpoint; or check BASE_URL"
)
FIX_SLOW: Final = (
    "run the job again; when it ends so each time, lower `max_tokens` or set `stream` to true:"
    " something on the way did not wait for the answer"
)
FIX_STATUS: Final = "check BASE_URL and what stands before the endpoint: this is no final answer"

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Every job may get these, or only the one that a firewall stops."""
AWAY: Final = frozenset({503, 529})
"""Statuses of an endpoint that does no work now."""
FINAL: Final = range(200, 600)
"""Statuses that can be the last one of a call."""
_SUCCESS_TO_REDIRECT: Final = range(200, 400)

_OF_ALL: Final = {
    Meaning(Suspect, FIX_REDIRECT): REDIRECTS,
    Meaning(StopAccount, FIX_CREDENTIAL): {401},
    Meaning(StopAccount, FIX_BILLING): {402},
    Meaning(Suspect, FIX_FORBIDDEN): {403},
    Meaning(StopAccount, FIX_PROXY): {407},
    Meaning(Snooze, None): {429},
    Meaning(Fail, FIX_ADDRESS): {404, 405, 406, 411, 414, 415, 426, 501, 505},
    Meaning(Fail, FIX_MODEL): {410},
    Meaning(Fail, FIX_SMALLER): {413},
    Meaning(Fail, FIX_HEADERS): {431, 494},
    Meaning(Fail, FIX_TLS): {495, 496, 497},
    Meaning(Retry, FIX_TLS): {525, 526},
    Meaning(Retry, FIX_NETWORK): {511},
    Meaning(Retry, FIX_SLOW): {408, 444, 460, 499, 504, 522, 524, 598, 599},
    Meaning(Retry, FIX_BUSY): {529},
    Meaning(Retry, FIX_GATEWAY): {421, 502, 503, 520, 521, 523, 530},
    Meaning(Retry, FIX_AGAIN): {409, 423, 424, 425, 449},
}
_OF_STATUS: Final = {status: meaning for meaning, of in _OF_ALL.items() for status in of}
_REQUEST: Final = Meaning(Fail, FIX_REQUEST)
_FAILED: Final = Meaning(Retry, FIX_AGAIN)
_ODD: Final = Meaning(Retry, FIX_STATUS)

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {
    444: "No Response",
    449: "Retry With",
    460: "Client Closed Connection",
    494: "Request Header Too Large",
    495: "TLS Certificate Error",
    496: "TLS Certificate Required",
    497: "HTTP Request Sent to HTTPS Port",
    499: "Client Closed Request",
    520: "Unknown Error of the Web Server",
    521: "Web Server Is Down",
    522: "Connection Timed Out",
    523: "Origin Is Unreachable",
    524: "A Timeout Occurred",
    525: "TLS Handshake Failed",
    526: "Invalid TLS Certificate",
    529: "Overloaded",
    530: "Origin Error",
    598: "Network Read Timeout",
    599: "Network Connect Timeout",
}


def meaning_of(status: int) -> Meaning:
    """Return what an error status means, whatever its body says."""
    if is_odd(status):
        return _ODD
    if status in _OF_STATUS:
        return _OF_STATUS[status]
    return _FAILED if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _REQUEST


def is_odd(status: int) -> bool:
    """Return whether a status cannot be the last one: 101, 304, 999."""
    return status not in FINAL or (status in _SUCCESS_TO_REDIRECT and status not in REDIRECTS)


def phrase_of(status: int) -> str:
    """Return a status with its words, as in "HTTP 405 Method Not Allowed"."""
    return f"HTTP {status} {_PHRASES.get(status, '')}".rstrip()
