"""What changes the list price of a call: public pricing rules, as data.

Source: https://platform.claude.com/docs/en/about-claude/pricing and
https://platform.claude.com/docs/en/build-with-claude/fast-mode, as they were in November 2026.
The list prices of models (input, output, cache writes of 5 min and 1 h, cache reads, searches,
thresholds of long prompts, dates of changes) are those of the package genai-prices.

- US-only inference (`usage.inference_geo` is "us") costs 1.1 times the price of every token.
- The Batch API (`usage.service_tier` is "batch") costs half the price of every token.
- Fast mode (`usage.speed` is "fast") has its own price, a multiple of the price of every token.
- These stack with each other and with the cache's rates. A search costs the same under each.
- Web fetches are free. Code execution is billed by the organisation's hours in a month, which no
  answer reports: it is not part of a bill. Neither is Priority Tier, a commitment of tokens.
"""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Final

US: Final = "us"
FAST: Final = "fast"
BATCH: Final = "batch"

US_FACTOR: Final = Decimal("1.1")
BATCH_FACTOR: Final = Decimal("0.5")
FAST_FACTORS: Final = {
    "claude-opus-4-6*": Decimal(6),  # $30 and $150; later it ran at standard speed and price
    "claude-opus-4-7*": Decimal(6),  # until 2026-07-24
    "claude-opus-4-8*": Decimal(2),  # $10 and $50
    "claude-opus-5*": Decimal(2),  # Opus 5: $10 and $50; Opus 5.5: $8 and $40
    "claude-fable-5-2*": Decimal(2),  # $16 and $80
    "claude-mythos-5-2*": Decimal(2),
}
"""Model, as a pattern -> multiple of its standard price in fast mode."""
WRITE_5M: Final = Decimal("1.25")
WRITE_1H: Final = Decimal(2)
READ: Final = Decimal("0.1")
"""Rates of the cache as multiples of the input's, for models whose own rates are not listed."""
SEARCH: Final = Decimal(10)
"""US dollars for 1,000 web searches, for models whose own rate is not listed."""


def billed_as(inference_geo: object, speed: object, service_tier: object) -> str:
    """Return what `Usage.billed_as` holds for three fields of an endpoint's `usage`."""
    terms = ((inference_geo, US), (speed, FAST), (service_tier, BATCH))
    return " ".join(term for given, term in terms if given == term)


def factor(model: str, terms: str) -> Decimal | None:
    """Return the multiple of the list price under `terms`; None when it is not known."""
    found = Decimal(1)
    for term in terms.split():
        if term == US:
            found *= US_FACTOR
        elif term == BATCH:
            found *= BATCH_FACTOR
        elif (fast := fast_factor(model)) is not None:
            found *= fast
        else:
            return None
    return found


def fast_factor(model: str) -> Decimal | None:
    """Return the multiple of a model's price in fast mode; None when it is not known."""
    factors, name = FAST_FACTORS.items(), model.lower()
    return next((each for pattern, each in factors if fnmatchcase(name, pattern)), None)
