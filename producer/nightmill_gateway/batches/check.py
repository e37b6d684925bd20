"""Checks what a create of a batch holds, and names the index and the field of a fault. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nightmill.errors import InvalidParamsError, PayloadTooLargeError
from nightmill.params import Defaults, refused
from nightmill.params.refusal import MISSING
from nightmill.records.message_batch import StoredRequest
from nightmill_gateway.answers.params import checked_params

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REQUESTS: Final = 100_000
MAX_EXPIRES_S: Final = 30 * 86_400
"""Longest life of a batch, seconds."""
CUSTOM_ID: Final = "[A-Za-z0-9_-]{1,64}"
_CUSTOM_ID: Final = re.compile(CUSTOM_ID)
_AN_ID: Final = "1 to 64 letters, digits, dashes and underscores"
_FIELDS: Final = frozenset({"custom_id", "params"})


class RequestsCheck:
    """Checks the requests of one batch, in their order."""

    def __init__(self, defaults: Defaults) -> None:
        """Take the size limit of a request."""
        self._defaults = defaults
        self._ids: set[str] = set()

    @property
    def number(self) -> int:
        """How many requests were checked."""
        return len(self._ids)

    def request(self, given: object) -> StoredRequest:
        """Return the next request. Raises InvalidParamsError, PayloadTooLargeError."""
        index = len(self._ids)
        if index == MAX_REQUESTS:
            raise PayloadTooLargeError("requests", f"over {MAX_REQUESTS:,}; make several batches")
        try:
            return self._checked(given)
        except PayloadTooLargeError as error:
            raise PayloadTooLargeError(_below(index, "params"), error.problem) from None
        except InvalidParamsError as error:
            raise InvalidParamsError(_below(index, error.field), error.problem) from None

    def _checked(self, given: object) -> StoredRequest:
        if not isinstance(given, dict):
            raise refused("", given, 'an object: {"custom_id", "params"}')
        if others := given.keys() - _FIELDS:
            raise refused(min(others), given[min(others)], "only custom_id and params")
        custom_id = given.get("custom_id", MISSING)
        if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
            raise refused("custom_id", custom_id, _AN_ID)
        if custom_id in self._ids:
            raise refused("custom_id", custom_id, "an id that no other request of the batch has")
        params = given.get("params", MISSING)
        model, body = checked_params(params, self._defaults, below="params")
        self._ids.add(custom_id)
        return StoredRequest(seq=len(self._ids), custom_id=custom_id, model=model, body=body)


class Whole(NamedTuple):
    """What a create says of the batch as a whole."""

    expires_s: float


def whole(fields: Mapping[str, Any], number: int, expires_s: float, *, begun: bool) -> Whole:
    """Return what stands beside the requests; `expires_s` holds unless it says otherwise."""
    if not begun:
        raise refused("requests", MISSING, "a list of requests")
    if not number:
        raise refused("requests", [], f"1 to {MAX_REQUESTS:,} requests")
    for name in fields:
        if name != "nightmill":
            raise refused(name[:60], fields[name], "only requests and nightmill")
    own = fields.get("nightmill", {})
    if not isinstance(own, dict):
        raise refused("nightmill", own, "an object")
    for name in own:
        if name != "expires_in":
            raise refused(f"nightmill.{name[:60]}", own[name], "only expires_in")
    given = own.get("expires_in", expires_s)
    number_given = isinstance(given, int | float) and not isinstance(given, bool)
    if not number_given or not 1 <= given <= MAX_EXPIRES_S:
        allowed = f"seconds, 1 to {MAX_EXPIRES_S:,}"
        raise refused("nightmill.expires_in", given, allowed)
    return Whole(expires_s=float(given))


def _below(index: int, field: str) -> str:
    return f"requests.{index}.{field}" if field else f"requests.{index}"
