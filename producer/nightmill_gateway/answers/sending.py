"""Whether a request is sent again: by its headers. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from nightmill.params import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMED_MS: Final = 86_400_000
"""How long an Idempotency-Key means the same batch."""
LOST_MS: Final = 600_000
"""How long a retry takes over what was made for a client that has no answer."""
KEY: Final = "[!-~]{1,255}"
_KEY: Final = re.compile(KEY)


class Sending(NamedTuple):
    """What the headers of a request say of earlier sendings of it."""

    key: str | None
    """Its Idempotency-Key."""
    again: bool
    """Whether the client's SDK sends it again, having seen no answer."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers. Raises InvalidParamsError."""
        key = headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise refused("Idempotency-Key", key, "1 to 255 visible ASCII characters")
        count = headers.get("x-stainless-retry-count", "0")
        return cls(key, again=count.isascii() and count.isdecimal() and int(count[:9]) > 0)
