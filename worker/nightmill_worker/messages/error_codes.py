"""What the API's own error codes mean, `error.details.error_code`. They decide before all else.

The API takes them from a list, so unlike a text they repeat no prompt. A code that is not in the
table counts as nothing: the status and the type of its error decide, and its text does not.
"""

from __future__ import annotations

from typing import Final

from nightmill.records.error_types import LINKED_BILLING, LINKED_LIMIT
from nightmill_worker.messages.outcome import Fail, Snooze, StopAccount
from nightmill_worker.messages.statuses import Meaning

FIX_SPEND: Final = "raise the spend limit or wait until it is renewed, then run `nightmill resume`"
FIX_HOLD: Final = (
    "the organization is on hold: settle that with the provider, then run `nightmill resume`"
)
FIX_LINKED: Final = (
    "have the spend limit of the linked organization of this user profile raised, then run"
    f" `nightmill retry BATCH --error {LINKED_LIMIT}`"
)
FIX_BILLING: Final = (
    "the linked organization of this user profile cannot be billed: have it settle its account,"
    f" then run `nightmill retry BATCH --error {LINKED_BILLING}`"
)

_ENDINGS: Final = ("_reached", "_exceeded")
_MEANINGS: Final = {
    "enforced_spend_limit": Meaning(StopAccount, FIX_SPEND),
    "contract_spend_limit": Meaning(StopAccount, FIX_SPEND),
    "organization_on_hold": Meaning(StopAccount, FIX_HOLD),
    "ramp_limit": Meaning(Snooze, None),
    LINKED_LIMIT: Meaning(Fail, FIX_LINKED),
    LINKED_BILLING: Meaning(Fail, FIX_BILLING),
}


def stem_of(code: str) -> str:
    """Return a code without its ending: the same limit is `_reached` or `_exceeded`."""
    for ending in _ENDINGS:
        code = code.removesuffix(ending)
    return code


def meaning_of_code(code: str) -> Meaning | None:
    """Return what an error with this code means; None when the code is not known here."""
    return _MEANINGS.get(stem_of(code)) if code else None
