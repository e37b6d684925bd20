"""Whether a refused job is larger than a limit that is known: then it would be refused for ever.

A 429 says nothing about the job's size: other calls may use the limit up. So a job fails for its
size only when headers or the operator say that the limit is smaller than the job. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nightmill_worker.limiter.headers import gate_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.settings import Settings

BYTES_A_TOKEN: Final = 8
"""A token of text has fewer bytes than this."""
REPORT_S: Final = 1.0
"""Headers of answers that begin are passed on to the lane this often, seconds."""
UNUSED: Final = 0.9
"""A bucket with at least this share of its limit left would have admitted a call that fits it."""
_DATA: Final = re.compile(rb'"data":\s*"[^"]*"')
"""base64 of a file: its tokens do not follow from its size."""
_MAX_TOKENS: Final = re.compile(rb'"max_tokens":\s*(\d{1,18})')
_UNITS: Final = {"input": "input tokens", "output": "output tokens"}


class KnownLimits:
    """The limits a minute of each lane: those that headers reported last, and the operator's."""

    def __init__(self, settings: Settings) -> None:
        """Take the operator's limits."""
        caps = {"input": settings.itpm, "output": settings.otpm}
        self._caps = {name: cap for name, cap in caps.items() if cap is not None}
        self._reported: dict[str, Mapping[str, tuple[int, int]]] = {}
        self._passed_on_at: dict[str, float] = {}

    def is_news(self, lane: str, reported: Mapping[str, tuple[int, int]], now_s: float) -> bool:
        """Return whether the lane must know now what the headers of an answer that begins report.

        It must know other limits than before at once, and levels after REPORT_S; they are noted
        then.
        """
        if not reported:
            return False
        known = self._reported.get(lane, {})
        limits = {name: pair[0] for name, pair in reported.items()}
        same = limits == {name: pair[0] for name, pair in known.items()}
        if same and now_s - self._passed_on_at.get(lane, now_s - REPORT_S) < REPORT_S:
            return False
        self._passed_on_at[lane] = now_s
        self.note(lane, reported)
        return True

    def note(self, lane: str, reported: Mapping[str, tuple[int, int]]) -> None:
        """Keep what an answer's headers reported: dimension -> (limit a minute, remaining)."""
        self._reported[lane] = reported

    def excess(
        self, lane: str, body: bytes, message: str, reported: Mapping[str, tuple[int, int]]
    ) -> str:
        """Say by how much a request that was refused with 429 exceeds a limit, "" if none is known.

        `message` and `reported` are the refusal's own.
        """
        limits = {name: pair[0] for name, pair in self._reported.get(lane, {}).items()}
        for name, cap in self._caps.items():
            limits[name] = min(int(cap), limits.get(name, int(cap)))
        least = len(_DATA.sub(b"", body)) // BYTES_A_TOKEN
        allowed = limits.get("input", least)
        if least > allowed:
            return f"it has more than {least:,} input tokens, the limit is {allowed:,} a minute"
        named = gate_named(message) or ""
        limit, remaining = reported.get(named, (0, 0))
        unused = named in _UNITS and limit > 0 and remaining >= UNUSED * limit
        if unused and (named == "input" or _max_tokens(body) > limit):
            return f"it alone exceeds the limit of {limit:,} {_UNITS[named]} a minute"
        return ""


def _max_tokens(body: bytes) -> int:
    """Return the `max_tokens` of a request; the last one, since a prompt may hold another."""
    found = _MAX_TOKENS.findall(body)
    return int(found[-1]) if found else 0
