"""What the jobs of a source may use is summed without prices, and priced as each job would be."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.enqueue.estimate import MOST_GROUPS, Estimating, from_text, to_text
from nightmill.pricing.cost import LIST
from nightmill.records.result import Usage
from nightmill.records.stored_body import reference_to
from nightmill.sources import Line


def line(model: str, size: int = 0, **fields: object) -> Line:
    """Return a job whose request has about `size` bytes."""
    body = msgspec.json.encode({"max_tokens": 100, "pad": "x" * size, **fields})
    return Line(number=1, custom_id="a", body=body, model=model)


def test_the_cost_is_that_of_each_job() -> None:
    """A sum of prompts is no long prompt, and a long prompt has rates of its own."""
    lines = [line("claude-sonnet-4-5", size) for size in (5, 100, 900_000, 1_000_000)]
    lines += [line("claude-opus-4-8", speed="fast"), line("claude-opus-4-8", inference_geo="us")]
    estimating = Estimating()
    estimating.add(lines)
    each = [
        LIST.cost(
            line.model,
            Usage(
                input_tokens=-(-len(line.body) // 4),
                output_tokens=100,
                billed_as="fast" if b"speed" in line.body else "us" if b"geo" in line.body else "",
            ),
        )
        for line in lines
    ]
    dollars, unpriced = estimating.sums().cost(LIST)
    assert not unpriced
    assert dollars == pytest.approx(sum(cost for cost in each if cost))


def test_a_request_that_stays_in_the_store_counts_with_its_own_size() -> None:
    """The queue has a reference of about 120 bytes in its place."""
    large = line("claude-opus-4-8", 900_000)
    body = msgspec.json.encode({"model": large.model, **msgspec.json.decode(large.body)})
    whole, referred = Estimating(), Estimating()
    whole.add([Line(number=1, custom_id="a", body=body, model=large.model)])
    reference = reference_to("night", 1, body)
    referred.add([Line(number=1, custom_id="a", body=reference, model=large.model)])
    assert len(reference) < 200
    assert referred.sums() == whole.sums()


def test_any_number_of_models_takes_bounded_space() -> None:
    """The estimate is one column of the store."""
    estimating = Estimating()
    estimating.add(line(f"m{n}") for n in range(3 * MOST_GROUPS))
    found = from_text(to_text(estimating.sums()))
    assert found is not None
    assert (found.jobs, len(found.groups)) == (3 * MOST_GROUPS, MOST_GROUPS + 1)
    dollars, unpriced = found.cost(LIST)
    assert (dollars, sum(unpriced.values())) == (None, 3 * MOST_GROUPS)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"groups":[{"model":"m","terms":""}]}'])
def test_an_estimate_that_cannot_be_read_is_none(text: str | None) -> None:
    """Another version, or a person, may have written the column."""
    assert from_text(text) is None
