"""The check of the endpoint and the credential: one free call, which must be refused."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Final

from nightmill.safety.redaction import Secrets
from nightmill.settings import Settings
from nightmill_worker.cli.finding import Finding
from nightmill_worker.cli.worker import NO_CREDENTIAL
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.hidden import without_secrets
from nightmill_worker.messages.outcome import (
    SUCCESS,
    Broken,
    Fail,
    Outcome,
    Reply,
    Snooze,
    StopAccount,
    Succeeded,
)

# Every Messages endpoint refuses this request: it checks the credential first, then max_tokens.
_FREE_CALL: Final = b'{"model":"nightmill-doctor","max_tokens":0,"messages":[]}'
REFUSED: Final = frozenset({400, 413, 422})
"""Statuses of an endpoint that has read the request and accepted the credential."""
REFUSED_AS_MEANT: Final = "a free, deliberately bad request was refused, as it should be"
FIX_PLACE: Final = "check NIGHTMILL_BASE_URL and the network"
APART_S: Final = 5.0
"""Clocks that differ by less are the same: an answer takes a while."""


async def examine_endpoint(settings: Settings) -> list[Finding]:
    """Make one call that costs nothing. Raises SettingsError for a setting that cannot be used."""
    if not settings.has_credential:
        return [Finding(what="credential", ok=False, observed="none", fix=NO_CREDENTIAL)]
    async with MessagesClient(settings) as client:
        where = settings.base_url + (f" (by proxy {client.proxy})" if client.proxy else "")
        began = time.time()
        reply = await client.send(_FREE_CALL)
        middle = (began + time.time()) / 2
    if isinstance(reply, Broken):
        observed = f"{where}: {reply.detail}"
        return [Finding(what="endpoint", ok=False, observed=observed, fix=FIX_PLACE)]
    outcome = without_secrets(classify(reply, time.time()), Secrets.of(settings))
    found = _read(where, reply, outcome)
    if apart := clock_finding("the endpoint", _date(reply), middle):
        found.append(apart)
    return found


def clock_finding(whose: str, theirs: float | None, ours: float) -> Finding | None:
    """Return a warning when this machine's clock differs from another, in epoch seconds."""
    apart_s = 0.0 if theirs is None else ours - theirs
    if abs(apart_s) < APART_S:
        return None
    side = "ahead of" if apart_s > 0 else "behind"
    observed = f"this machine is {abs(apart_s):,.0f} s {side} {whose}"
    fix = "set its clock (NTP): times in rows and logs, and waits until a date, are wrong"
    return Finding(what="clock", ok=True, warns=True, observed=observed, fix=fix)


def _date(reply: Reply) -> float | None:
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except ValueError:
        return None


def _read(where: str, reply: Reply, outcome: Outcome) -> list[Finding]:
    """Return what the answer says about the endpoint and about the credential."""
    if isinstance(outcome, Succeeded):
        observed = f"{where} accepts any request ({reply.status}): no Messages API refuses nothing"
        return [Finding(what="endpoint", ok=True, warns=True, observed=observed, fix=FIX_PLACE)]
    message, fix = outcome.error.message, outcome.error.fix or FIX_PLACE
    answers = Finding(what="endpoint", ok=True, observed=f"{where} answers")
    if isinstance(outcome, StopAccount):
        return [answers, Finding(what="credential", ok=False, observed=message, fix=fix)]
    if isinstance(outcome, Fail) and reply.status in REFUSED:
        observed = f"{where} answers ({REFUSED_AS_MEANT})"
        return [
            Finding(what="endpoint", ok=True, observed=observed),
            Finding(what="credential", ok=True, observed="accepted"),
        ]
    if isinstance(outcome, Snooze):
        observed = f"accepted, and at its rate limit now: {message}"
        return [answers, Finding(what="credential", ok=True, warns=True, observed=observed)]
    observed = f"{where} answers {reply.status}: {message}"
    busy = reply.status not in SUCCESS and reply.status >= 500  # noqa: PLR2004 - as HTTP has it
    return [Finding(what="endpoint", ok=busy, warns=busy, observed=observed, fix=fix)]
