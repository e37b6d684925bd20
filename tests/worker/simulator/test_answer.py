"""The answer is deterministic, and its stop reason is right."""

import msgspec

from nightmill_worker.simulator.answer import Answer, make_answer
from nightmill_worker.simulator.request import read_prompt
from nightmill_worker.simulator.tools import example_input
from tests.worker.simulator.helpers import params

TOOL = {
    "name": "weigh",
    "input_schema": {
        "type": "object",
        "required": ["sacks", "kind"],
        "properties": {
            "sacks": {"type": "integer", "minimum": 3},
            "kind": {"enum": ["rye", "oats"]},
            "note": {"type": "string"},
        },
    },
}


def answer(seed: int = 0, mean: int = 100, **fields: object) -> Answer:
    """Answer a small request with `fields` changed."""
    return make_answer(read_prompt(msgspec.json.encode(params(**fields))), seed, mean)


def text_of(found: Answer) -> str:
    """Return the text of an answer of one text block."""
    (block,) = found.content
    assert block["type"] == "text"
    return str(block["text"])


def test_the_same_prompt_gets_the_same_answer() -> None:
    """Every run gives the same answer; another seed or another prompt gives another one."""
    assert answer().body == answer().body
    assert answer().body["id"] != answer(seed=1).body["id"]
    assert answer().body["id"] != answer(system="Be brief.").body["id"]


def test_an_answer_repeats_words_of_its_prompt() -> None:
    """A result that was swapped with another can be recognised."""
    assert text_of(answer()).startswith("Re: Why does the wheel turn?\n")
    assert answer().body["stop_reason"] == "end_turn"


def test_the_length_is_near_the_mean() -> None:
    """An answer has 50 to 150 % of the mean."""
    prompts = [[{"role": "user", "content": f"Question {n}?"}] for n in range(200)]
    lengths = [answer(messages=messages).output_tokens for messages in prompts]
    assert min(lengths) >= 49
    assert max(lengths) <= 151
    assert 90 < sum(lengths) / len(lengths) < 110


def test_max_tokens_cuts_the_answer() -> None:
    """The answer has exactly max_tokens tokens, and so does its usage."""
    cut = answer(max_tokens=7)
    assert cut.body["stop_reason"] == "max_tokens"
    assert cut.output_tokens == 7
    assert len(text_of(cut).split()) == 7


def test_a_stop_sequence_ends_the_text_before_it() -> None:
    """The first one that occurs is named, and is not part of the text."""
    stopped = answer(stop_sequences=["wheel", "turn"])
    assert text_of(stopped) == "Re: Why does the "
    assert stopped.body["stop_reason"] == "stop_sequence"
    assert stopped.body["stop_sequence"] == "wheel"


def test_a_demanded_tool_is_used_with_a_fitting_input() -> None:
    """The input has the required keys, with values that the schema allows."""
    for choice in ({"type": "any"}, {"type": "tool", "name": "weigh"}):
        used = answer(tools=[TOOL], tool_choice=choice)
        (block,) = used.content
        assert (block["type"], block["name"]) == ("tool_use", "weigh")
        assert block["input"] == {"sacks": 3, "kind": "rye"}
        assert used.body["stop_reason"] == "tool_use"


def test_tool_results_are_answered_in_text() -> None:
    """A client that loops over tool calls must come to an end."""
    for n in range(10):
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": "3"}
        found = answer(tools=[TOOL], messages=[{"role": "user", "content": [result]}])
        assert found.body["stop_reason"] == "end_turn"


def test_thinking_comes_first_and_counts() -> None:
    """A signed block comes before the text, and max_tokens covers both."""
    found = answer(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert [block["type"] for block in found.content] == ["thinking", "text"]
    assert found.content[0]["signature"]
    assert found.output_tokens > answer(max_tokens=2000).output_tokens


def test_an_example_input_follows_nested_schemas() -> None:
    """Objects in arrays in objects, lists of types, and properties without a type."""
    schema: dict[str, object] = {
        "properties": {
            "rows": {
                "type": "array",
                "items": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
            },
            "maybe": {"type": ["null", "string"]},
            "fixed": {"const": 7},
            "open": {},
        }
    }
    expected = {"rows": [{"ok": True}], "maybe": None, "fixed": 7, "open": "mill"}
    assert example_input(schema) == expected
    assert example_input({}) == {}
