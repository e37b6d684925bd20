"""Golden bills: what a call costs by the public pricing rules, worked out by hand.

The rates are those of https://platform.claude.com/docs/en/about-claude/pricing of November 2026,
in US dollars a million tokens; a cache write costs 1.25 times (5 min) or twice (1 h) the input.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.pricing.cost import LIST, Prices
from nightmill.records.limits import NANO
from nightmill.records.result import Bill, Usage
from nightmill_worker.messages.message import read_message

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
EARLY = datetime(2026, 2, 20, 12, tzinfo=UTC)
WRITES = {"ephemeral_5m_input_tokens": 100_000, "ephemeral_1h_input_tokens": 200_000}

# name: (model, when, the endpoint's usage, dollars)
GOLDEN: dict[str, tuple[str, datetime, dict[str, object], str]] = {
    "plain": ("claude-opus-4-6", NOW, {"input_tokens": 10**6, "output_tokens": 10**6}, "30"),
    "small": ("claude-haiku-4-5", NOW, {"input_tokens": 21, "output_tokens": 393}, "0.001986"),
    "writes of 5 min": (
        "claude-sonnet-4-6",
        NOW,
        {"input_tokens": 100, "output_tokens": 200, "cache_creation_input_tokens": 100_000},
        "0.3783",  # 100 x 3 + 200 x 15 + 100,000 x 3.75
    ),
    "writes of 5 min and 1 h": (
        "claude-sonnet-4-6",
        NOW,
        {
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_creation_input_tokens": 300_000,
            "cache_creation": WRITES,
        },
        "1.575",  # 100,000 x 3.75 + 200,000 x 6
    ),
    "reads": (
        "claude-opus-4-8",
        NOW,
        {"input_tokens": 50, "output_tokens": 100, "cache_read_input_tokens": 100_000},
        "0.05275",  # 50 x 5 + 100 x 25 + 100,000 x 0.50
    ),
    "reads at 0.05": (
        "claude-opus-5-5",
        NOW,
        {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 10**6},
        "0.2",
    ),
    "reads at 0.025": (
        "claude-fable-5-1",
        NOW,
        {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 10**6},
        "0.25",
    ),
    "US only": (
        "claude-opus-4-6",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "inference_geo": "us"},
        "0.033",  # 1.1 x (0.005 + 0.025)
    ),
    "anywhere": (
        "claude-opus-4-6",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "inference_geo": "global"},
        "0.03",
    ),
    "fast": (
        "claude-opus-4-8",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "speed": "fast"},
        "0.06",  # $10 and $50
    ),
    "fast, Opus 5.5": (
        "claude-opus-5-5",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "speed": "fast"},
        "0.048",  # $8 and $40
    ),
    "fast, Opus 4.6 of February": (
        "claude-opus-4-6",
        EARLY,
        {"input_tokens": 1000, "output_tokens": 1000, "speed": "fast"},
        "0.18",  # $30 and $150
    ),
    "fast at standard speed": (
        "claude-opus-4-6",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "speed": "standard"},
        "0.03",
    ),
    "fast, US only, cached": (
        "claude-opus-5",
        NOW,
        {
            "input_tokens": 1000,
            "output_tokens": 100,
            "cache_read_input_tokens": 10_000,
            "cache_creation_input_tokens": 2000,
            "cache_creation": {"ephemeral_1h_input_tokens": 2000},
            "speed": "fast",
            "inference_geo": "us",
        },
        "0.0715",  # 2.2 x (0.005 + 0.0025 + 0.005 + 0.02)
    ),
    "batch": (
        "claude-sonnet-4-5-20250929",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "service_tier": "batch"},
        "0.009",
    ),
    "batch, cached, US only": (
        "claude-sonnet-4-6",
        NOW,
        {
            "input_tokens": 1000,
            "output_tokens": 1000,
            "cache_read_input_tokens": 100_000,
            "service_tier": "batch",
            "inference_geo": "us",
        },
        "0.0264",  # 0.55 x (0.003 + 0.015 + 0.03)
    ),
    "priority tier": (
        "claude-sonnet-4-5",
        NOW,
        {"input_tokens": 1000, "output_tokens": 1000, "service_tier": "priority"},
        "0.018",
    ),
    "searches": (
        "claude-sonnet-4-6",
        NOW,
        {
            "input_tokens": 1000,
            "output_tokens": 1000,
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 5},
        },
        "0.048",  # 0.018 + 3 x 0.01; fetches are free
    ),
    "searches of a batch": (
        "claude-sonnet-4-6",
        NOW,
        {
            "input_tokens": 1000,
            "output_tokens": 1000,
            "service_tier": "batch",
            "server_tool_use": {"web_search_requests": 3},
        },
        "0.039",  # 0.009 + 0.03: only tokens are cheaper
    ),
    "a long prompt": (
        "claude-sonnet-4-5",
        NOW,
        {"input_tokens": 150_000, "output_tokens": 1000, "cache_read_input_tokens": 60_000},
        "0.9585",  # over 200,000: 150,000 x 6 + 1,000 x 22.5 + 60,000 x 0.6
    ),
    "not yet a long prompt": (
        "claude-sonnet-4-5",
        NOW,
        {"input_tokens": 150_000, "output_tokens": 1000, "cache_read_input_tokens": 50_000},
        "0.48",
    ),
    "a long prompt at the standard price": (
        "claude-opus-4-6",
        NOW,
        {"input_tokens": 900_000, "output_tokens": 1000},
        "4.525",
    ),
    "a long prompt of February": (
        "claude-opus-4-6",
        EARLY,
        {"input_tokens": 900_000, "output_tokens": 1000},
        "9.0375",  # $10 and $37.50
    ),
    "a long prompt of Haiku 5.5": (
        "claude-haiku-5-5",
        NOW,
        {"input_tokens": 100_001, "output_tokens": 1000},
        "0.0525005",  # $0.50 and $2.50 over 100,000
    ),
    "a compaction": (
        "claude-opus-4-6",
        NOW,
        {
            "input_tokens": 23_000,
            "output_tokens": 1000,
            "iterations": [
                {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
                {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            ],
        },
        "1.1275",  # 203,000 x 5 + 4,500 x 25
    ),
    "nothing": ("claude-opus-4-6", NOW, {"input_tokens": 0, "output_tokens": 0}, "0"),
}


def usage_of(reported: dict[str, object]) -> Usage:
    """Return what a worker reads from an answer with this `usage`."""
    message = {"type": "message", "content": [], "model": "m", "usage": reported}
    return read_message(msgspec.json.encode(message), 200, None).usage


@pytest.mark.parametrize("name", GOLDEN)
def test_a_bill_is_exact_to_the_nano_dollar(name: str) -> None:
    """1 h writes, US-only, fast and batch calls, searches were billed as if they were plain."""
    model, at, reported, dollars = GOLDEN[name]
    bill = LIST.bill(model, usage_of(reported), at)
    assert bill is not None
    assert round(bill.total * NANO) == round(float(dollars) * NANO)


def test_the_parts_say_what_the_money_went_for() -> None:
    """Only one sum was known of a row's cost."""
    _, _, reported, _ = GOLDEN["fast, US only, cached"]
    bill = LIST.bill("claude-opus-5", usage_of(reported), NOW)
    assert bill is not None
    parts = {name: round(each, 9) for name, each in msgspec.structs.asdict(bill).items()}
    assert parts == {
        "input": 0.011,
        "output": 0.0055,
        "cache_read": 0.011,
        "cache_write_5m": 0.0,
        "cache_write_1h": 0.044,
        "web_search": 0.0,
    }
    assert Bill(input=1, output=2) + Bill(input=3, web_search=4) == Bill(
        input=4, output=2, web_search=4
    )
    assert (bill + bill).total == pytest.approx(2 * bill.total)


def test_a_fast_call_without_a_known_price_has_no_cost() -> None:
    """A wrong cost is worse than none."""
    assert LIST.cost("claude-haiku-4-5", Usage(input_tokens=5, billed_as="fast"), NOW) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"cache_creation": "x", "server_tool_use": [], "inference_geo": 5, "speed": {}},
        {"cache_creation": {"ephemeral_1h_input_tokens": -5}, "iterations": "none"},
        {"service_tier": None, "cache_creation": None, "iterations": None, "speed": None},
    ],
)
def test_odd_values_beside_the_tokens_leave_the_tokens(odd: dict[str, object]) -> None:
    """An answer whose tokens were unknown would count as what was reserved."""
    assert usage_of({"input_tokens": 5, "output_tokens": 3, **odd}) == Usage(
        input_tokens=5, output_tokens=3
    )


def test_own_prices_and_discounts_come_before_the_list(tmp_path: Path) -> None:
    """Models of one's own had no cost, and a contract's discount was not in any bill."""
    file = tmp_path / "prices.toml"
    file.write_text(
        '["house-7b"]\ninput = 0.5\noutput = 2\n'
        '["claude-haiku-4-5"]\ndiscount_percent = 50\n'
        '["claude-*"]\ndiscount_percent = 20\n'
        '["search"]\ninput = 1\noutput = 1\ncache_read = 0\ncache_write_5m = 3\nweb_search = 5\n'
    )
    prices = Prices(str(file))
    call = Usage(input_tokens=10**6, output_tokens=10**6)
    assert prices.cost("house-7b", call) == pytest.approx(2.5)
    assert prices.cost("claude-opus-4-6", call) == pytest.approx(24)
    assert prices.cost("claude-haiku-4-5", call) == pytest.approx(3)  # its name beats a pattern
    assert prices.cost("gpt-4o", call) == LIST.cost("gpt-4o", call)
    cached = Usage(
        cache_read_input_tokens=10**6, cache_creation_input_tokens=10**6, web_search_requests=10
    )
    assert prices.cost("search", cached) == pytest.approx(0 + 3 + 0.05)
    assert prices.cost("house-7b", cached) == pytest.approx(0.05 + 0.625 + 0.1)
    assert prices.token_prices("house-7b") == (500, 2000)


def test_a_model_that_a_gateway_maps_is_priced_by_the_name_that_is_known(tmp_path: Path) -> None:
    """An own price of an alias was ignored, and an answer's odd name left rows without a cost."""
    file = tmp_path / "prices.toml"
    file.write_text('["team-opus"]\ninput = 1\noutput = 2\n["own-*"]\ninput = 7\noutput = 7\n')
    prices, call = Prices(str(file)), Usage(input_tokens=10**6)
    assert prices.cost("claude-opus-4-6", call, asked="team-opus") == pytest.approx(1)
    assert prices.cost("own-7b", call, asked="team-opus") == pytest.approx(7)
    assert prices.cost("upstream/id-7", call, asked="claude-opus-4-6") == pytest.approx(5)
    assert prices.cost("claude-haiku-4-5", call, asked="claude-opus-4-6") == pytest.approx(1)
    assert prices.cost(None, call, asked="claude-opus-4-6") == pytest.approx(5)
    assert prices.cost("upstream/id-7", call, asked="house-9b") is None


def test_fast_mode_of_a_name_in_capitals_has_a_price() -> None:
    """The list knows such names, but the multiples of fast mode did not."""
    fast = Usage(input_tokens=10**6, billed_as="fast")
    assert LIST.cost("CLAUDE-OPUS-4-8", fast) == LIST.cost("claude-opus-4-8", fast) is not None
