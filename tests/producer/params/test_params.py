"""The request contract: what is sent, what is refused, and the text of an error."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import InvalidParamsError, PayloadTooLargeError
from nightmill.params import Defaults, check
from nightmill.params.request import _Plain
from nightmill.params.rules import require_request

DEFAULTS: Final = Defaults(model="default-model", max_tokens=64, max_payload_bytes=1 << 20)
HELLO: Final[list[object]] = [{"role": "user", "content": "Hello"}]
LONG_DATA: Final = "QUJD" * 5000


def request(**fields: object) -> dict[str, object]:
    """Return a good request with `fields` added or replaced."""
    return {"messages": HELLO, **fields}


def blocks(*items: object) -> dict[str, object]:
    """Return a request whose one message has these content blocks."""
    return {"messages": [{"role": "user", "content": list(items)}]}


def image(**source: object) -> dict[str, object]:
    """Return a request with one image of this source."""
    return blocks({"type": "image", "source": source})


def refusal(params: dict[str, object]) -> InvalidParamsError:
    """Return the error of a bad request, the same from a mapping and from JSON."""
    with pytest.raises(InvalidParamsError) as from_mapping:
        check(params, DEFAULTS)
    with pytest.raises(InvalidParamsError) as from_json:
        check(json.dumps(params).encode(), DEFAULTS)
    assert str(from_mapping.value) == str(from_json.value)
    return from_mapping.value


def test_the_defaults_follow_the_fields_that_were_given() -> None:
    """The body keeps the order of the given fields; defaults come last."""
    checked = check({"temperature": 0.5, "messages": HELLO}, DEFAULTS)
    assert checked.body == (
        b'{"temperature":0.5,"messages":[{"role":"user","content":"Hello"}],'
        b'"model":"default-model","max_tokens":64}'
    )
    assert checked.model == "default-model"
    assert checked.warnings == ()


def test_given_values_beat_the_defaults_and_the_mapping_is_not_changed() -> None:
    """A caller may send one mapping many times, so check must not write into it."""
    params = request(model="mine", max_tokens=1)
    before = dict(params)
    assert json.loads(check(MappingProxyType(params), DEFAULTS).body) == before
    assert params == before


def test_json_and_a_mapping_give_the_same_body() -> None:
    """The worker checks the JSON again, which must not change the request."""
    first = check(request(new_field={"deep": [1, 2.5, None, "ü"]}), DEFAULTS)
    assert check(first.body, DEFAULTS) == first
    assert check(msgspec.Raw(first.body), DEFAULTS) == first


@pytest.mark.parametrize(
    "params",
    [
        request(service_tier="auto", container=None, big=2**80),
        request(system="", stream=True, temperature=1, top_k=0, stop_sequences=["a", ""]),
        request(
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        ),
        request(tools=[{"name": "f", "input_schema": {}}, {"type": "web_search_20250305"}]),
        request(tool_choice={"type": "auto"}, metadata={"user_id": None}),
        request(thinking={"type": "enabled", "budget_tokens": 1024}),
        blocks({"type": "text", "text": "Hi", "citations": None}, {"type": "from_the_future"}),
        blocks({"type": "thinking", "thinking": "", "signature": "x"}),
        image(type="base64", media_type="image/webp", data="QUJD"),
        image(type="url", url="https://images.example/1.png"),
        image(type="file", file_id="file_1"),
        blocks({"type": "document", "source": {"type": "content", "content": "text"}}),
        blocks(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
            }
        ),
        blocks({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        blocks({"type": "tool_result", "tool_use_id": "t"}),
        blocks({"type": "tool_result", "tool_use_id": "t", "content": ""}),
        blocks({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}),
    ],
)
def test_a_good_request_passes_untouched(params: dict[str, object]) -> None:
    """A request that the endpoint may accept is sent as it was given."""
    sent = {**params, "model": "default-model", "max_tokens": 64}
    assert json.loads(check(params, DEFAULTS).body) == sent


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({}, "messages", "missing"),
        (request(messages=[]), "messages", "non-empty list"),
        (request(messages="Hi"), "messages", "given 'Hi' (string)"),
        (request(messages=["Hi"]), "messages.0", "an object"),
        (request(messages=[{"content": "Hi"}]), "messages.0.role", "missing"),
        (request(messages=[{"role": "tool", "content": "Hi"}]), "messages.0.role", "assistant"),
        (
            request(messages=[*HELLO, {"role": "system", "content": "Hi"}]),
            "messages.1.role",
            "move it to `system`",
        ),
        (request(messages=[{"role": "user"}]), "messages.0.content", "missing"),
        (request(messages=[{"role": "user", "content": ""}]), "messages.0.content", "non-empty"),
        (blocks(), "messages.0.content", "non-empty"),
        (blocks("Hi"), "messages.0.content.0", "an object"),
        (blocks({"text": "Hi"}), "messages.0.content.0.type", "missing"),
        (blocks({"type": "text", "text": ""}), "messages.0.content.0.text", "non-empty"),
        (blocks({"type": "image"}), "messages.0.content.0.source", "missing"),
        (
            image(type="base64", media_type="image/bmp", data="QUJD"),
            "messages.0.content.0.source.media_type",
            "image/png",
        ),
        (
            image(type="base64", media_type="image/png", data="data:image/png;base64,QUJD"),
            "messages.0.content.0.source.data",
            "cut off the prefix",
        ),
        (
            image(type="base64", media_type="image/png", data=[LONG_DATA]),
            "messages.0.content.0.source.data",
            "(list)",
        ),
        (image(type="url"), "messages.0.content.0.source.url", "missing"),
        (
            blocks({"type": "tool_use", "id": "t", "name": "f", "input": "{}"}),
            "messages.0.content.0.input",
            "an object",
        ),
        (
            blocks({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}),
            "messages.0.content.0.content.0.text",
            "missing",
        ),
        (
            blocks({"type": "tool_result", "tool_use_id": "t", "content": 1}),
            "messages.0.content.0.content",
            "a string or a list",
        ),
        (request(model=None), "model", "given null (null)"),
        (request(model=""), "model", "non-empty string"),
        (request(max_tokens=0), "max_tokens", "given 0 (integer); allowed: an integer of at least"),
        (request(max_tokens=True), "max_tokens", "given true (boolean)"),
        (request(max_tokens=1.0), "max_tokens", "given 1.0 (number)"),
        (request(max_tokens=-(2**200)), "max_tokens", "a number of 201 bits"),
        (request(system=None), "system", "null"),
        (request(system=[{"type": "image"}]), "system.0.type", "text"),
        (request(system=7), "system", "a string or a list of text blocks"),
        (request(stream="yes"), "stream", "true or false"),
        (request(temperature=1.5), "temperature", "given 1.5 (number); allowed: a number from 0"),
        (request(temperature="1"), "temperature", "(string)"),
        (request(top_p=-0.1), "top_p", "from 0 to 1"),
        (request(top_k=-1), "top_k", "at least 0"),
        (request(stop_sequences="END"), "stop_sequences", "a list of strings"),
        (request(stop_sequences=["a", 1]), "stop_sequences.1", "a string"),
        (request(tools={"name": "f"}), "tools", "a list of tools"),
        (request(tools=[{"input_schema": {}}]), "tools.0.name", "missing"),
        (request(tool_choice="auto"), "tool_choice", "an object"),
        (request(tool_choice={}), "tool_choice.type", "missing"),
        (request(metadata="me"), "metadata", "an object"),
        (request(thinking={"budget_tokens": 1}), "thinking.type", "missing"),
    ],
)
def test_a_bad_request_names_the_field(params: dict[str, object], field: str, message: str) -> None:
    """A person who reads the error must know the place and what to write instead."""
    error = refusal(params)
    assert error.field == field
    assert message in error.problem
    assert len(str(error)) < 250, "an error never shows a long value whole"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "given nan (number)"),
        (math.inf, "given inf (number)"),
        ("half \ud83d here", "lone surrogate '\\ud83d' at character 5"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_field(value: object, message: str) -> None:
    """Msgspec writes NaN as null, and a paid call would answer another request."""
    error = refusal(request(extra={"list": [1, value]}))
    assert error.field == "extra.list.1"
    assert message in error.problem


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (datetime(2025, 1, 1, tzinfo=UTC), "extra"),
        (b"bytes", "extra"),
        ({1: "one"}, "extra"),
        ({"odd\nkey": {"\udc00": 1}}, "extra.'odd\\nkey'.'\\udc00'"),
    ],
)
def test_python_values_that_are_not_json_are_refused(value: object, field: str) -> None:
    """Msgspec would turn a date and a number key into strings without an error."""
    with pytest.raises(InvalidParamsError) as caught:
        check(request(extra=value), DEFAULTS)
    assert caught.value.field == field


def test_tuples_and_string_enums_are_taken_as_lists_and_strings() -> None:
    """They mean the same in JSON, and producers in Python use them."""

    class Model(StrEnum):
        BIG = "big"

    message = {"role": "user", "content": ({"type": "text", "text": "Hi"},)}
    checked = check({"model": Model.BIG, "messages": (message,)}, DEFAULTS)
    assert checked.model == "big"
    assert b'"content":[{"type":"text","text":"Hi"}]' in checked.body


def test_a_large_request_is_refused_with_both_sizes_and_the_fix() -> None:
    """The limit is in bytes of JSON, and a body of exactly that size passes."""
    size = len(check(request(), DEFAULTS).body)
    check(request(), msgspec.structs.replace(DEFAULTS, max_payload_bytes=size))
    with pytest.raises(PayloadTooLargeError) as caught:
        check(request(), msgspec.structs.replace(DEFAULTS, max_payload_bytes=size - 1))
    for part in (f"{size} bytes", f"allowed: {size - 1}", "NIGHTMILL_MAX_PAYLOAD_BYTES", "32 MB"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"messages": "\xff"}', "not UTF-8 (byte 0xff at 14)"),
        (b"[1]", "given [1] (list); allowed: an object"),
        (b'"Hi"', "an object"),
        (b"null", "given null"),
    ],
)
def test_bytes_that_are_not_a_request_are_refused_as_a_whole(data: bytes, message: str) -> None:
    """A plain arq producer may send anything."""
    with pytest.raises(InvalidParamsError) as caught:
        check(data, DEFAULTS)
    assert caught.value.field == ""
    assert message in caught.value.problem


@pytest.mark.parametrize("content", ["", []])
def test_a_final_assistant_message_may_be_empty(content: object) -> None:
    """The endpoint accepts it there, and nowhere else: the check was stricter."""
    empty = {"role": "assistant", "content": content}
    check({"messages": [*HELLO, empty]}, DEFAULTS)
    assert "messages.1.content: given" in str(refusal({"messages": [*HELLO, empty, *HELLO]}))
    last = {"role": "user", "content": content}
    assert "messages.1.content: given" in str(refusal({"messages": [*HELLO, last]}))


def test_an_unknown_field_is_a_warning_or_refused() -> None:
    """Newer fields can be sent. A mistyped one made every answer differ from what was meant."""
    for name in ("service_tier", "mcp_servers", "cache_control"):
        assert check(request(**{name: "x"}), DEFAULTS).warnings == ()
    checked = check(request(max_token=5), DEFAULTS)
    text = "not a field of the Messages API; did you mean max_tokens?"
    assert checked.warnings == (f"max_token is {text}",)
    strict = msgspec.structs.replace(DEFAULTS, allow_unknown=False)
    with pytest.raises(InvalidParamsError) as caught:
        check(request(max_token=5), strict)
    ways_out = "--set max_token=null leaves it out, --allow-unknown sends it"
    assert str(caught.value) == f"max_token: {text} {ways_out}"
    with pytest.raises(InvalidParamsError, match=r"^label: not a field of the Messages API; --set"):
        check(request(label="x"), strict)


def test_temperature_with_top_p_is_a_warning() -> None:
    """The endpoint accepts both, but advises against it."""
    (warning,) = check(request(temperature=0.5, top_p=0.9), DEFAULTS).warnings
    assert "temperature and top_p" in warning


SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from(["", "a"])
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", None]),
            "content": SCALARS | st.just([{"type": "text", "text": "a"}]),
        }
    ),
    max_size=2,
)
PLAIN_FIELDS = st.fixed_dictionaries(
    {"model": SCALARS, "messages": MESSAGES | SCALARS, "max_tokens": SCALARS},
    optional={
        "system": SCALARS,
        "stream": SCALARS,
        "temperature": SCALARS,
        "top_p": SCALARS,
        "stop_sequences": SCALARS | st.lists(SCALARS, max_size=2),
    },
)


@given(PLAIN_FIELDS)
def test_the_short_cut_for_plain_text_is_never_looser_than_the_rules(
    params: dict[str, object],
) -> None:
    """Otherwise a request could be sent that the contract refuses."""
    body = msgspec.json.encode(params)
    try:
        msgspec.json.decode(body, type=_Plain)
    except msgspec.ValidationError:
        return
    require_request(msgspec.json.decode(body))
