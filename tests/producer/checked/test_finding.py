"""find_json: the JSON value of an answer's text."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.checked.finding import MAX_DEPTH, NoOutputError, find_json

LABEL = {"label": "pos", "why": 'a } in a "string"'}
JSON = json.dumps(LABEL)


def has_label(value: object) -> bool:
    """Tell whether it has the shape that is asked for."""
    return isinstance(value, dict) and "label" in value


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"  \n{JSON}\n",
        f"\ufeff{JSON}",
        f"```json\n{JSON}\n```",
        f"```\n{JSON}\n```",
        f"Sure!\n\n```json\n{json.dumps(LABEL, indent=2)}\n```\nAnything else?",
        f"1. Item\n   ```json\n   {JSON}\n   ```",
        f"Here it is: {JSON}. I hope that {{helps}}.",
        f"{JSON}\n\nNote [1]: as asked.",
        f"```json {JSON} ```",
        f"The set {{a, b}} and [this] lead to {JSON}",
        f'My draft was {{"label": "neg"}}, but the answer is {JSON}',
        f'The form is {{"label": ...}}, so: {JSON}',
        f'```json\n{{"label": "neg"}}\n```\nOn second thought:\n```json\n{JSON}\n```',
        f'For {{"label": "neg"}} I would need more. So:\n```json\n{JSON}\n```\nSee {{"x": 1}}.',
        f"```python\nx = 1\n```\n{JSON}",
    ],
)
def test_the_value_is_found_plain_fenced_or_in_prose(text: str) -> None:
    """Answers that json.loads refused were failed although their JSON was good."""
    assert find_json(text, has_label) == LABEL


@pytest.mark.parametrize("text", ["5", '"pos"', "null", "[1, 2]", "true", "-1.5", "```\n5\n```"])
def test_any_value_is_found_when_it_is_the_whole_text(text: str) -> None:
    """A schema may ask for a number, a text or a list."""
    assert find_json(text) == json.loads(text.strip("`\n"))


def test_a_value_that_fits_wins_over_a_later_one() -> None:
    """A footnote behind the answer is no answer, though it is an array."""
    assert find_json(f'Answer: {JSON}\n[1] and {{"see": "below"}}', has_label) == LABEL


def test_a_last_value_is_taken_when_none_fits() -> None:
    """The problem that is sent to the model is about its last value."""
    assert find_json('I say {"a": 1} or {"b": 2}', has_label) == {"b": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no text"),
        ("I cannot do that.", 'given a text that begins "I cannot do that."'),
        ('{"label": "pos", "tags": [{"a": 1}, ', "not valid"),
        ('{"label": {"label": "x"} "b": 1}', "at character 26, near"),
        ("[NaN]", "not valid at character 2"),
        ('{"n": 1e999}', "out of range"),
        ('{"n": 12345678901234567890}', "an integer of 20 digits; expected 64 bits"),
        ("[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5), "nested deeper than 100 levels"),
        ('{"a": "\\ud800"}', "not valid"),
    ],
)
def test_a_text_without_a_value_says_why(text: str, problem: str) -> None:
    """A part of a broken or truncated object was taken for the output."""
    with pytest.raises(NoOutputError) as raised:
        find_json(text)
    assert problem in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 200_000,
        "x " + "[1," * 300_000,
        "x " + '{"a' * 300_000,
        "x " + '{"x\\"' * 200_000,
        "x [" + "1" * 1_000_000,
        "{" * 500_000 + " " * 500_000,
        "```\n" * 250_000,
        "```" * 300_000,
        "x " + '{"a": 1}' * 100_000,
    ],
    ids=range(10),
)
def test_hostile_texts_are_read_in_linear_time(text: str) -> None:
    """A megabyte of brackets kept a worker busy for minutes."""
    started = time.process_time()
    with suppress(NoOutputError):
        find_json(text, has_label)
    assert time.process_time() - started < 3


@given(st.text(alphabet='{}[]",:`\n\\ 1aeNtru\ufeff', max_size=80))
def test_any_text_gives_a_value_or_a_reason(text: str) -> None:
    """An answer's text is anything: no other exception may reach the worker."""
    with suppress(NoOutputError):
        json.dumps(find_json(text, has_label), allow_nan=False)
