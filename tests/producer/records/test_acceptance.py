"""The acceptance of a batch: its text in Redis and in the store, and what it refuses."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.errors import InvalidAcceptanceError
from nightmill.records.acceptance import DEFAULT, Acceptance, acceptance, from_text, to_text


def test_the_default_one_is_no_text() -> None:
    """A batch without these options stores and reads nothing."""
    assert to_text(DEFAULT) is None
    assert from_text(None) == from_text(b"") == from_text("{}") == DEFAULT


def test_text_is_read_as_it_was_written() -> None:
    """All fields survive the way through Redis and the store, the schema as its own JSON."""
    given = acceptance(
        on_truncated="grow",
        max_tokens_ceiling=4096,
        on_pause="keep",
        on_refusal="model:other",
        schema={"type": "object"},
        schema_tool="label",
        check="sums",
        check_retries=0,
        check_reask="same",
        structured=True,
    )
    assert from_text(to_text(given)) == given
    assert bytes(given.schema or b"") == b'{"type":"object"}'
    assert given.other_model == "other"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"on_truncated":"grows"}', "on_truncated: given 'grows'; allowed: keep, fail or grow"),
        ('{"on_truncated":"grow"}', "max_tokens_ceiling: missing"),
        ('{"max_tokens_ceiling":0}', "max_tokens_ceiling: given 0; allowed: an integer, 1 or more"),
        ('{"max_tokens_ceiling":true}', "max_tokens_ceiling: given True; allowed: an integer"),
        ('{"on_pause":1}', "on_pause: given 1; allowed: continue or keep"),
        (
            '{"on_refusal":"model:"}',
            "on_refusal: given 'model:'; allowed: keep, fail or model:NAME",
        ),
        ('{"on_refusal":null}', "on_refusal: given None; allowed: keep, fail or model:NAME"),
        ('{"schema_tool":"t"}', "schema_tool: needs a schema"),
        ('{"structured":true}', "structured: needs a schema"),
        ('{"check":""}', "check: given ''; allowed: a name of 1 to 512 bytes"),
        ('{"check_retries":21}', "check_retries: given 21; allowed: an integer, 0 to 20"),
        ('{"check_reask":[]}', r"check_reask: given \[\]; allowed: turn or same"),
        ('{"structured":"yes","schema":{}}', "structured: given 'yes'; allowed: true or false"),
        ('{"on_truncate":"keep"}', "'on_truncate': not known; allowed: on_truncated, "),
        ("[]", "accept: .*; allowed: a JSON object"),
        (b"\xff", "accept: "),
        ('{"a":' + "[" * 100_000, "accept: "),
    ],
)
def test_a_wrong_field_is_named(text: bytes | str, problem: str) -> None:
    """Another service may write the text by hand."""
    with pytest.raises(InvalidAcceptanceError, match=problem):
        from_text(text)


def test_a_schema_is_bounded() -> None:
    """A schema travels with its batch, and is compiled by every worker."""
    with pytest.raises(InvalidAcceptanceError, match="schema: 1,048,578 bytes; allowed: 1,048,576"):
        Acceptance(schema=msgspec.Raw(b'"' + b"a" * (1 << 20) + b'"'))
    with pytest.raises(InvalidAcceptanceError, match="schema: not JSON"):
        acceptance(schema={"a": object()})
