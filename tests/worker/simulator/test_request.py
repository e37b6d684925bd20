"""The request contract: what is refused, with the endpoint's messages."""

import msgspec
import pytest

from nightmill_worker.simulator.request import ContractError, Prompt, read_prompt
from tests.worker.simulator.helpers import params

PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
IMAGE_TYPES = "Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"


def read(**fields: object) -> Prompt:
    """Read a small request with `fields` changed."""
    return read_prompt(msgspec.json.encode(params(**fields)))


def user(content: object) -> list[dict[str, object]]:
    """Return messages of one user turn."""
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": ...}, "model: Field required"),
        ({"messages": ...}, "messages: Field required"),
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 1.5}, "temperature: must be less than or equal to 1"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"system": 5}, "system: Input should be a valid string or list"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": ["hi"]}, "messages.0: Input should be a valid dictionary"),
        ({"messages": [{"content": "x"}]}, "messages.0.role: Field required"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages.0.role: Input should be 'user' or 'assistant'",
        ),
        ({"messages": user(5)}, "messages.0.content: Input should be a valid string or list"),
        ({"messages": user([{"text": "x"}])}, "messages.0.content.0.type: Field required"),
        (
            {"messages": user([{"type": "text", "text": ""}])},
            "messages.0.content.0.text: must not be empty",
        ),
        (
            {"messages": user([{"type": "image", "source": PIXEL | {"media_type": "image/bmp"}}])},
            f"messages.0.content.0.source.media_type: {IMAGE_TYPES}",
        ),
        (
            {"tools": [{"name": "a"}], "tool_choice": {"type": "tool", "name": "b"}},
            "Tool 'b' not found in provided tools",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            "thinking.enabled.budget_tokens: must be greater than or equal to 1024",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
    ],
)
def test_an_invalid_request_is_refused_with_the_endpoints_message(
    fields: dict[str, object], message: str
) -> None:
    """A rehearsal shows the messages of the real endpoint."""
    with pytest.raises(ContractError) as caught:
        read(**fields)
    assert (caught.value.status, caught.value.kind) == (400, "invalid_request_error")
    assert caught.value.message == message


def test_a_system_role_is_refused_with_the_fix() -> None:
    """It is the most frequent mistake in requests written for another API."""
    with pytest.raises(ContractError, match="top-level `system` parameter"):
        read(messages=[{"role": "system", "content": "Be brief."}])


def test_what_is_not_json_is_refused() -> None:
    """A proxy may cut a body, or send none."""
    for body in (b"", b'{"model": ', b"\xff\xfe", b"[]"):
        with pytest.raises(ContractError) as caught:
            read_prompt(body)
        assert caught.value.status == 400


def test_an_unknown_model_is_not_found() -> None:
    """Models whose name starts with `missing` do not exist."""
    with pytest.raises(ContractError, match="model: missing-model") as caught:
        read(model="missing-model")
    assert (caught.value.status, caught.value.kind) == (404, "not_found_error")


def test_everything_the_contract_knows_is_accepted() -> None:
    """Images, documents, tools and their results, thinking, system blocks, newer fields."""
    read(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            *user(
                [
                    {"type": "text", "text": "Look:"},
                    {"type": "image", "source": PIXEL},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}},
                    {"type": "document", "source": {"type": "text", "data": "A page."}},
                    {"type": "newer_than_this_file", "field": 1},
                ]
            ),
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}],
            },
            *user([{"type": "tool_result", "tool_use_id": "t", "content": "a mill"}]),
        ],
        tools=[{"name": "look", "input_schema": {"type": "object"}}, {"type": "x", "name": "web"}],
        tool_choice={"type": "auto"},
        thinking={"type": "adaptive"},
        metadata={"user_id": "u-1"},
        newer_field={"on": True},
    )


def test_the_ledger_key_is_the_user_id_or_the_prompt() -> None:
    """Requests with the same messages and system have the same key, whatever else differs."""
    assert read(metadata={"user_id": "job-7"}).key == "job-7"
    assert read(max_tokens=5).key == read(stream=True).key
    assert read().key != read(messages=user("Another?")).key
    assert read().key != read(system="Be brief.").key


def test_input_tokens_are_a_quarter_of_the_bytes_and_flat_for_images() -> None:
    """A test can compute the tokens of a request by hand."""
    assert read(messages=user("x" * 400)).input_tokens == 100
    assert read(messages=user("é" * 200)).input_tokens == 100
    image = {"type": "image", "source": PIXEL}
    text = {"type": "text", "text": "x" * 40}
    assert read(messages=user([image, text]), system="y" * 40).input_tokens == 1520
