"""The cost of tokens, by the price list inside genai-prices."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price

from nightmill.pricing.cost import cost
from nightmill.records.result import Usage

NIGHT = datetime(2026, 2, 1, 3, tzinfo=UTC)
CALL = Usage(
    input_tokens=1_000,
    output_tokens=500,
    cache_read_input_tokens=2_000,
    cache_creation_input_tokens=300,
)
LONG = Usage(input_tokens=250_000, output_tokens=500, cache_read_input_tokens=2_000)


def listed(model: str, usage: Usage) -> float:
    """Return the cost as genai-prices calculates it."""
    read, write = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    tokens = Tokens(
        input_tokens=usage.input_tokens + read + write,
        output_tokens=usage.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=write,
    )
    return float(calc_price(tokens, model, genai_request_timestamp=NIGHT).total_price)


@pytest.mark.parametrize("usage", [CALL, LONG, Usage(output_tokens=1)], ids=["call", "long", "one"])
@pytest.mark.parametrize(
    "model", ["claude-opus-4-6", "claude-sonnet-4-5-20250929", "claude-3-5-haiku-latest", "gpt-4o"]
)
def test_a_call_costs_what_the_list_says(model: str, usage: Usage) -> None:
    """Our faster arithmetic gives the same, also where a price depends on the size."""
    assert cost(model, usage, NIGHT) == pytest.approx(listed(model, usage))


def test_a_providers_prefix_is_understood() -> None:
    """Many gateways name models `provider/model`."""
    assert cost("anthropic/claude-opus-4-6", CALL) == cost("claude-opus-4-6", CALL)


@pytest.mark.parametrize("model", ["my-own-model", "nobody/claude-opus-4-6", "", None])
def test_an_unknown_model_has_no_cost(model: str | None) -> None:
    """A wrong cost is worse than none."""
    assert cost(model, CALL) is None


def test_no_tokens_cost_nothing_whatever_the_model() -> None:
    """A refused request is not billed."""
    assert cost("my-own-model", Usage()) == 0.0


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-5-20250929"])
@pytest.mark.parametrize("tokens", [-1, 10**400])
def test_a_usage_that_cannot_be_priced_has_no_cost(model: str, tokens: int) -> None:
    """An endpoint may report any number: its answer was paid and must be stored."""
    assert cost(model, Usage(output_tokens=tokens)) is None
    assert cost(model, Usage(input_tokens=tokens, cache_read_input_tokens=1)) is None


def test_the_largest_usage_of_a_row_has_a_cost() -> None:
    """Sums of rows may be that large."""
    assert cost("claude-sonnet-4-5-20250929", Usage(input_tokens=2**63, output_tokens=2**63))
