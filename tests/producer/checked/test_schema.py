"""compiled: a JSON Schema within limits, and problems that a model can act on."""

import json
import re
import time
from typing import Any

import pytest

from nightmill.checked.schema import compiled
from nightmill.checked.structured import enforceable
from nightmill.errors import SchemaError

REVIEW = {
    "type": "object",
    "properties": {
        "label": {"enum": ["pos", "neg"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["label", "stars"],
    "additionalProperties": False,
}


def problem(schema: object, value: object) -> str | None:
    """Return what is wrong with a value."""
    return compiled(json.dumps(schema).encode()).problem_of(value)


def test_a_problem_names_path_given_and_expected() -> None:
    """The model corrects what it is told: where, what it gave, and what is allowed."""
    assert problem(REVIEW, {"label": "pos", "stars": 3, "tags": ["a"], "day": "2026-01-31"}) is None
    given = {"label": "good", "stars": 9, "tags": ["abc", "abcdef"], "day": "today"}
    assert problem(REVIEW, given) == (
        '$.label: given "good", expected one of "pos", "neg"\n'
        "$.stars: given 9, expected 5 or less\n"
        '$.tags[1]: given "abcdef", expected 5 characters or fewer\n'
        '$.day: given "today", expected a text of the format "date"'
    )
    assert problem(REVIEW, {"label": "pos", "star": 1}) == (
        '$: given an object without "stars", expected the field "stars"\n'
        '$: given {"label": "pos", "star": 1}, expected no field "star"'
    )
    assert problem(REVIEW, [1]) == '$: given [1], expected type "object"'


def test_a_problem_is_a_few_short_lines_whatever_the_output_is() -> None:
    """It is sent to the model and paid for as input."""
    for value in (
        {
            "label": "x" * 100_000,
            "stars": "y" * 1_000_000,
            **{"z" * 999 + str(i): 1 for i in "abc"},
        },
        {"label": "pos", "stars": 1, "tags": [1] * 1_000},
        {"label": "pos", "stars": 1, "tags": [1] * 300_000},
        {"label": {"a": {"b": [{}] * 10_000}}, "stars": 1},
    ):
        started = time.process_time()
        text = problem(REVIEW, value)
        assert text
        assert len(text.splitlines()) <= 6
        assert max(map(len, text.splitlines())) <= 300
        assert time.process_time() - started < 1.5


def test_a_problem_of_a_large_output_names_its_place_too() -> None:
    """The model was told only that its list of thousands of items does not fit."""
    schema = {"type": "object", "properties": {"rows": {"items": {"$ref": "#/$defs/R"}}}}
    schema = {**schema, "$defs": {"R": REVIEW}}
    rows: list[Any] = [{"label": "pos", "stars": 3, "tags": ["a", "b"]} for _ in range(20_000)]
    assert problem(schema, {"rows": rows}) is None
    rows[15_000] = {"label": "pos", "stars": 9}
    started = time.process_time()
    assert problem(schema, {"rows": rows}) == "$.rows[15000].stars: given 9, expected 5 or less"
    rows[15_000] = {"label": "pos"}
    text = '$.rows[15000]: given an object without "stars", expected the field "stars"'
    assert problem(schema, {"rows": rows}) == text
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "http://10.0.0.1/s.json"}, "a place in the same schema"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "a place in the same schema"),
        ({"items": {"$ref": "other.json#/a"}}, "a place in the same schema"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"type": "strin"}, r'\$.type: "strin" is not'),
        ({"properties": {"n": {"minimum": "1"}}}, r"\$.properties.n.minimum"),
        ({"pattern": "(?=a)b"}, "without look-around"),
        ({"pattern": "(a{1000}){1000}"}, "of 1 MB compiled"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "draft/2020-12/schema"),
        ({"enum": ["x" * 300_000]}, "bytes; allowed: 262,144"),
        ([], "a JSON object"),
    ],
)
def test_a_schema_out_of_bounds_is_refused_with_the_fix(schema: object, message: str) -> None:
    """A reference was fetched from the network, or a pattern kept a worker busy."""
    with pytest.raises(SchemaError, match=message):
        compiled(json.dumps(schema).encode())


def test_a_schema_that_nests_or_unfolds_too_far_is_refused() -> None:
    """28 definitions with two references each took five seconds and would take days with 40."""
    with pytest.raises(SchemaError, match="not JSON"):
        compiled(b'{"type": "object"')
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="deeper than 64"):
        compiled(json.dumps(deep).encode())
    twice = {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
    started = time.process_time()
    with pytest.raises(SchemaError, match="alternatives"):
        compiled(json.dumps({"$ref": "#/$defs/a0", "$defs": {**twice, "a40": {}}}).encode())
    assert time.process_time() - started < 1


def test_patterns_are_matched_in_linear_time() -> None:
    """A pattern with nested repetitions takes exponential time in a backtracking engine."""
    started = time.process_time()
    assert problem({"pattern": "^(a+)+$"}, "a" * 100_000 + "b")
    assert time.process_time() - started < 1


def test_recursive_schemas_are_checked_in_bounded_time() -> None:
    """To locate the errors of 40 levels with two alternatives each would take years."""
    schema = {
        "$ref": "#/$defs/e",
        "$defs": {
            "e": {"anyOf": [{"$ref": "#/$defs/p"}, {"$ref": "#/$defs/q"}]},
            "p": {"properties": {"c": {"$ref": "#/$defs/e"}}, "required": ["p"]},
            "q": {"properties": {"c": {"$ref": "#/$defs/e"}}, "required": ["q"]},
        },
    }
    value: dict[str, Any] = {"p": 1}
    assert problem(schema, {"q": 2, "c": value}) is None
    for _ in range(40):
        value = {"c": value}
    started = time.process_time()
    text = problem(schema, value)
    assert text is not None
    assert re.match(r"\$: given .*, expected a value that fits the JSON Schema", text)
    for endless in ({"$ref": "#"}, {"anyOf": [{"$ref": "#"}]}):
        assert problem(endless, 3) is None
    assert time.process_time() - started < 1


def test_long_chains_of_references_are_read_or_refused_in_bounded_time() -> None:
    """A chain of 3,000 ended a command with a traceback; a tree of 22 levels took minutes."""

    def chain(count: int) -> bytes:
        defs = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(count)}
        return json.dumps({"$ref": "#/$defs/a0", "$defs": {**defs, f"a{count}": {}}}).encode()

    started = time.process_time()
    assert compiled(chain(400)).problem_of(1) is None
    with pytest.raises(SchemaError):
        compiled(chain(3_000))
    assert enforceable(chain(3_000)) is None
    tree = {
        f"a{i}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/a{i + 1}"} for k in "lr"}}
        for i in range(40)
    }
    text = json.dumps({"$ref": "#/$defs/a0", "$defs": {**tree, "a40": {"type": "string"}}}).encode()
    assert compiled(text).problem_of({"l": {"r": {}}}) is None
    assert enforceable(text) is not None
    anchors = [{"$ref": f"#n{i}"} for i in range(200)]
    with pytest.raises(SchemaError, match="references to anchors"):
        compiled(json.dumps({"anyOf": anchors}).encode())
    assert problem({"$ref": "#it", "$defs": {"a": {"$anchor": "it", "type": "string"}}}, 3)
    assert time.process_time() - started < 3
