"""The simulator plays structured outputs, and by a share answers that do not fit."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.checked.outputs import problem_of
from nightmill.checked.structured import structured
from nightmill.records.acceptance import acceptance
from nightmill_worker.simulator.answer import Answer, make_answer
from nightmill_worker.simulator.config import SimulatorConfig
from nightmill_worker.simulator.outputs import Outputs
from nightmill_worker.simulator.request import ContractError, read_prompt

REVIEW: dict[str, object] = {
    "type": "object",
    "properties": {
        "label": {"$ref": "#/$defs/Label"},
        "stars": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
    },
    "required": ["label", "stars", "day", "tags"],
    "$defs": {"Label": {"enum": ["pos", "neg", "mixed"]}},
}
ACCEPT = acceptance(schema=REVIEW, structured=True)


def body_of(text: str, **more: object) -> bytes:
    """Return a request."""
    turns = [{"role": "user", "content": text}]
    fields = {"model": "claude-opus-4-6", "max_tokens": 500, "messages": turns, **more}
    return msgspec.json.encode(fields)


def answered(outputs: Outputs, body: bytes, config: SimulatorConfig) -> Answer:
    """Return the answer to a request."""
    prompt = read_prompt(body)
    return outputs.applied(make_answer(prompt, config.seed, config.output_tokens), prompt, config)


def test_an_answer_fits_the_schema_that_its_request_carries() -> None:
    """A rehearsal with --structured failed every row."""
    outputs, labels = Outputs(), set()
    fields = {name: REVIEW[name] for name in ("type", "properties", "$defs")}
    accept = acceptance(schema={**fields, "required": ["label", "stars", "day"]}, structured=True)
    for number in range(50):
        body = structured(body_of(f"review {number}"), accept)
        assert b"output_config" in body
        answer = answered(outputs, body, SimulatorConfig())
        output, problem = problem_of(msgspec.json.encode(answer.body), accept)
        assert problem is None
        labels.add(output["label"])
    assert labels == {"pos", "neg", "mixed"}


def test_a_rehearsal_gives_the_schema_to_the_simulator() -> None:
    """Without --structured no request carries the schema."""
    config = SimulatorConfig(schema=msgspec.json.encode(REVIEW).decode())
    answer = answered(Outputs(), body_of("a review"), config)
    assert problem_of(msgspec.json.encode(answer.body), ACCEPT)[1] is None
    prose = answered(Outputs(), body_of("a review"), SimulatorConfig())
    assert problem_of(msgspec.json.encode(prose.body), ACCEPT)[1] is not None


def test_a_share_of_the_answers_does_not_fit() -> None:
    """Asking again must be rehearsed too; the same request may get a good answer the next time."""
    config = SimulatorConfig(schema=msgspec.json.encode(REVIEW).decode(), invalid=0.3)
    outputs = Outputs()
    fitting = []
    for number in range(300):
        answer = answered(outputs, body_of(f"review {number % 100}"), config)
        fitting.append(problem_of(msgspec.json.encode(answer.body), ACCEPT)[1] is None)
        usage = answer.body["usage"]
        assert isinstance(usage, dict)
        assert usage["output_tokens"] == answer.output_tokens > 0
    assert 0.6 < sum(fitting) / 300 < 0.8
    assert fitting[:100] != fitting[100:200]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"type": "json_schema", "schema": REVIEW}, "'additionalProperties' must be"),
        ({"type": "json"}, "Input should be a json_schema"),
        ({"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}, "'minimum' is not"),
    ],
)
def test_a_schema_that_the_endpoint_does_not_take_is_refused(form: object, text: str) -> None:
    """What is sent must be what the endpoint takes."""
    with pytest.raises(ContractError, match=text):
        read_prompt(body_of("x", output_config={"format": form}))
