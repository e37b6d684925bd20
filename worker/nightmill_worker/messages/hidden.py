"""Hides credentials in an outcome, before anything of it is stored, sent to Redis or logged.

An endpoint or a gateway may repeat the credential of a call in its answer. All texts of an answer
go through the outcome: to the row and its attempts, the lane's reason, the events and the exports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill_worker.messages.outcome import Fail, Succeeded

if TYPE_CHECKING:
    from nightmill.safety.redaction import Secrets
    from nightmill_worker.messages.outcome import Outcome


def without_secrets(outcome: Outcome, secrets: Secrets) -> Outcome:
    """Return `outcome` without the credentials `secrets`."""
    if not isinstance(outcome, Succeeded):
        if isinstance(outcome, Fail) and outcome.raw:
            raw = secrets.hidden_json(outcome.raw)
            outcome = msgspec.structs.replace(outcome, raw=raw)
        return secrets.hidden_in(outcome)
    message = secrets.hidden_json(outcome.message)
    if message is outcome.message and len(outcome.request_id or "") < secrets.shortest:
        return outcome
    return msgspec.structs.replace(secrets.hidden_in(outcome), message=message)
