"""What the jobs of a source may use and cost, before any of them is called.

`--dry-run` prints it. A feeder keeps it with the batch, so that `report` can compare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.pricing.rules import billed_as
from nightmill.records.result import Usage
from nightmill.records.stored_body import request_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from nightmill.pricing.cost import Prices
    from nightmill.sources import Line

BYTES_PER_TOKEN: Final = 4
"""A rule of thumb for English; code and other scripts have fewer."""
LONG: Final = 200_000
"""Prompts with more tokens may have other rates, so they are summed apart."""
MOST_GROUPS: Final = 100
"""A source that names more models has the rest in one group without a price."""


class _Asked(msgspec.Struct):
    """The parts of a request that say what it may cost."""

    max_tokens: int
    inference_geo: object = None
    speed: object = None


_asked: Final = msgspec.json.Decoder(_Asked).decode


class Group(msgspec.Struct, kw_only=True):
    """Sums over the jobs that have the same rates."""

    model: str
    terms: str
    """See Usage.billed_as."""
    jobs: int = 0
    input_tokens: int = 0
    max_output_tokens: int = 0
    """The sum of every max_tokens."""

    def cost(self, prices: Prices, at: datetime | None) -> float | None:
        """Return US dollars at the prices of a moment, now by default; None: no known price."""
        # The bill is that of one job of average size: a sum would be billed as one long prompt.
        given = max(1, self.input_tokens // self.jobs)
        made = max(1, self.max_output_tokens // self.jobs)
        usage = Usage(input_tokens=given, output_tokens=made, billed_as=self.terms)
        bill = prices.bill(self.model, usage, at)
        if bill is None:
            return None
        return bill.input / given * self.input_tokens + bill.output / made * self.max_output_tokens


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the jobs of one source, without what retries and further turns would use."""

    groups: list[Group] = []
    attachments: int = 0
    """Files and URLs, whose tokens are not counted."""

    @property
    def jobs(self) -> int:
        """Jobs of the source."""
        return sum(each.jobs for each in self.groups)

    @property
    def input_tokens(self) -> int:
        """BYTES_PER_TOKEN bytes of a request count as one token."""
        return sum(each.input_tokens for each in self.groups)

    @property
    def max_output_tokens(self) -> int:
        """The most that can be generated, by every max_tokens."""
        return sum(each.max_output_tokens for each in self.groups)

    def cost(
        self, prices: Prices, at: datetime | None = None
    ) -> tuple[float | None, dict[str, int]]:
        """Return US dollars at most, and the models without a price with their jobs.

        The dollars are those of the other models; None: no model has a price.
        """
        found = [(each, each.cost(prices, at)) for each in self.groups]
        unpriced: dict[str, int] = {}
        for each, cost in found:
            if cost is None:
                unpriced[each.model] = unpriced.get(each.model, 0) + each.jobs
        known = [cost for _, cost in found if cost is not None]
        return (math.fsum(known) if known or not found else None), unpriced


_OTHERS: Final = ("other models", "", False)


class Estimating:
    """Adds jobs up. Prices come later: the price list takes 0.3 s to load."""

    def __init__(self) -> None:
        """Begin with no job."""
        self._groups: dict[tuple[str, str, bool], Group] = {}
        self._attachments = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Add jobs."""
        for line in lines:
            asked = _asked(line.body)
            tokens = -(-request_bytes(line.body) // BYTES_PER_TOKEN)
            group = self._group(line.model, asked, long=tokens > LONG)
            group.jobs += 1
            group.input_tokens += tokens
            group.max_output_tokens += asked.max_tokens
            self._attachments += line.body.count(b'"$file"')

    def _group(self, model: str, asked: _Asked, *, long: bool) -> Group:
        terms = billed_as(asked.inference_geo, asked.speed, "")
        key = (model, terms, long)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = _OTHERS
        if key not in self._groups:
            self._groups[key] = Group(model=key[0], terms=key[1])
        return self._groups[key]

    def sums(self) -> Estimate:
        """Return the sums so far."""
        return Estimate(groups=[*self._groups.values()], attachments=self._attachments)


def to_text(estimate: Estimate) -> str:
    """Return an estimate as the store keeps it."""
    return msgspec.json.encode(estimate).decode()


def from_text(text: str | None) -> Estimate | None:
    """Return an estimate of the store; None: there is none, or it cannot be read."""
    try:
        found = msgspec.json.decode(text, type=Estimate) if text else None
    except msgspec.MsgspecError:
        return None
    return found if found and all(each.jobs > 0 for each in found.groups) else None
