"""How large an answer may be: bounds for the memory that one endpoint can use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

if TYPE_CHECKING:
    from nightmill.settings import Settings


class AnswerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one answer. An answer above one of them fails its job."""

    response_bytes: int
    """Bytes of a body, as it came and decompressed."""
    event_bytes: int
    """Bytes of one event of a stream."""
    events: int
    """Events of a stream."""
    blocks: int
    """Content blocks of a stream."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits of the settings."""
        return cls(
            response_bytes=settings.max_response_bytes,
            event_bytes=settings.max_event_bytes,
            events=settings.max_events,
            blocks=settings.max_blocks,
        )
