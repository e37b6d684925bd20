"""What a template writes: a row's values, and never Python's own objects."""

from __future__ import annotations

import json

import pytest

from nightmill.sources import Rejected, Row, Template, line_of
from tests.producer.sources.reading import DEFAULTS

COLUMNS: dict[str, object] = {
    "keys": "k",
    "order": {"items": ["pen", "ink"], "n": 1},
    "text": "t",
}


def rendered(text: str) -> str:
    """Return the prompt of the row, or its error."""
    line = line_of(Row(number=1, columns=COLUMNS), DEFAULTS, Template(prompt=text))
    if isinstance(line, Rejected):
        return str(line.error)
    content: str = json.loads(line.body)["messages"][0]["content"]
    return content


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("{{ order.items }}", "['pen', 'ink']"),
        ("{{ order['items'] }}", "['pen', 'ink']"),
        ("{{ order.items | join(', ') }}", "pen, ink"),
        ("{{ row.keys }}", "k"),
        ("{{ row.order.items[0] }}", "pen"),
        ("{{ order.values() | list | length }}", "2"),
        ("{{ text.upper() }}", "T"),
    ],
)
def test_a_column_comes_before_a_method_of_its_name(text: str, prompt: str) -> None:
    """{{ order.items }} wrote "<built-in method items of dict object at 0x7f...>"."""
    assert rendered(text) == prompt


@pytest.mark.parametrize(
    "text",
    [
        "{{ order.keys }}",
        "{{ order.keys() }}",
        "{{ text.upper }}",
        "{{ range }}",
        "{{ text | map('upper') }}",
        "{{ cycler('a') }}",
        "{{ joiner() }}",
    ],
)
def test_python_objects_are_not_written(text: str) -> None:
    """Nobody means to write one, and its address is another one at every run."""
    problem = rendered(text)
    assert "prompt: cannot be filled in: " in problem
    assert "Python" in problem
    assert " at 0x" not in problem


def test_a_mistyped_column_names_the_one_that_is_meant() -> None:
    """The list of columns alone may have a hundred names."""
    assert rendered("{{ txet }}").endswith('there are: keys, order, text; did you mean "text"?')
    assert rendered("{{ Text }}").endswith('did you mean "text"?')
    assert "did you mean" not in rendered("{{ summary }}")
