"""The rules of a chain of calls: what is accepted, and what the next request is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill.records.acceptance import DEFAULT, Acceptance, acceptance
from nightmill.records.job import Job, request_hash
from nightmill.records.message import NULL
from nightmill.records.result import ErrorInfo
from nightmill.records.turn import Turn
from nightmill_worker.jobs.chain import ASK_AGAIN, fitting, joined, next_of, request_of

if TYPE_CHECKING:
    from nightmill.records.turn import Why

BODY = (
    b'{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}],"x-new":{"a":1.0}}'
)
GROW = Acceptance(on_truncated="grow", max_tokens_ceiling=50)


def message(*texts: str) -> msgspec.Raw:
    """Return a Message with text blocks."""
    content = [{"type": "text", "text": text} for text in texts]
    return msgspec.Raw(msgspec.json.encode({"type": "message", "content": content}))


def turns(*whys: tuple[Why, msgspec.Raw], problem: str | None = None) -> list[Turn]:
    """Return the turns of a chain."""
    return [
        Turn(
            job_id="j",
            run=0,
            n=n,
            batch="",
            request_hash=request_hash(BODY),
            why=why,
            problem=problem,
            message=answer,
            call=n,
            at=n,
        )
        for n, (why, answer) in enumerate(whys, 1)
    ]


def asked(chain: list[Turn], accept: Acceptance = DEFAULT) -> dict[str, Any]:
    """Return the next request of a chain."""
    request: dict[str, Any] = msgspec.json.decode(request_of(BODY, accept, chain))
    return request


def test_a_paused_answer_is_sent_back_as_one_turn_of_the_assistant() -> None:
    """The fields that the user sent stay, also those that are not known here."""
    request = asked(turns(("pause_turn", message("a", "b")), ("pause_turn", message("c"))))
    content = [{"type": "text", "text": text} for text in "abc"]
    assert request["messages"][1:] == [{"role": "assistant", "content": content}]
    assert (request["max_tokens"], request["x-new"]) == (10, {"a": 1.0})
    whole = joined(bytes(message("d")), turns(("pause_turn", message("a"))))
    assert [each["text"] for each in msgspec.json.decode(whole)["content"]] == ["a", "d"]


def test_a_joined_message_has_the_usage_of_all_its_parts() -> None:
    """A program that adds up `message.usage` sees what was billed."""

    def part(usage: object) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode({"content": [], "usage": usage, "id": "x"}))

    first = part({"output_tokens": 3, "server_tool_use": {"web_search_requests": 1}, "a": None})
    second = part({"output_tokens": 4, "service_tier": "standard", "b": 1})
    last = part({"output_tokens": 5, "server_tool_use": None, "service_tier": "batch", "a": 2})
    whole = joined(bytes(last), turns(("pause_turn", first), ("pause_turn", second)))
    assert msgspec.json.decode(whole)["usage"] == {
        "output_tokens": 12,
        "server_tool_use": {"web_search_requests": 1},
        "service_tier": "batch",
        "a": 2,
        "b": 1,
    }
    plain = msgspec.Raw(b'{"content":[]}')
    assert b"usage" not in joined(bytes(plain), turns(("pause_turn", first)))


def test_a_cut_answer_is_asked_for_with_more_tokens_up_to_the_ceiling() -> None:
    """The third doubling would pass the ceiling: it is the last call."""
    cut: tuple[Why, msgspec.Raw] = ("truncated", message("a"))
    assert [asked(turns(*[cut] * n), GROW)["max_tokens"] for n in (1, 2, 3)] == [20, 40, 50]
    assert len(asked(turns(cut), GROW)["messages"]) == 1
    found = [next_of("max_tokens", GROW, turns(*[cut] * n), BODY) for n in range(4)]
    assert found[:3] == ["truncated"] * 3
    assert isinstance(found[3], ErrorInfo)
    assert found[3].message == "cut at max_tokens 50"
    large = BODY.replace(b'"max_tokens":10', b'"max_tokens":60')
    assert isinstance(next_of("max_tokens", GROW, [], large), ErrorInfo)


def test_a_paused_answer_that_is_cut_keeps_its_parts() -> None:
    """Only the last part is called again."""
    chain = turns(("pause_turn", message("a")), ("truncated", message("b")))
    request = asked(chain, GROW)
    assert request["messages"][1]["content"] == [{"type": "text", "text": "a"}]
    assert request["max_tokens"] == 20


def test_a_refused_request_goes_to_the_other_model_as_it_was() -> None:
    """What the first model had begun is not the other one's answer."""
    accept = Acceptance(on_refusal="model:other")
    chain = turns(("pause_turn", message("a")), ("refused", message("no")))
    request = asked(chain, accept)
    assert (request["model"], len(request["messages"])) == ("other", 1)
    assert next_of("refusal", accept, [], BODY) == "refused"
    again = next_of("refusal", accept, chain, BODY)
    assert isinstance(again, ErrorInfo)
    assert again.message == "refused by other too"


def test_an_output_that_does_not_pass_is_asked_for_with_what_is_wrong() -> None:
    """The model sees its answer and the error, or with `same` the first request again."""
    chain = turns(("invalid_output", message("{}")), problem="$.a: required")
    accept = acceptance(schema={"type": "object"})
    _, answer, objection = asked(chain, accept)["messages"]
    assert answer == {"role": "assistant", "content": [{"type": "text", "text": "{}"}]}
    assert objection == {"role": "user", "content": ASK_AGAIN.format(problem="$.a: required")}
    same = acceptance(schema={"type": "object"}, check_reask="same")
    assert len(asked(chain, same)["messages"]) == 1


def test_the_error_about_a_tools_input_is_the_tools_result() -> None:
    """A tool_use without its tool_result is refused by the endpoint."""
    content = [{"type": "tool_use", "id": "toolu_1", "name": "label", "input": {}}]
    answer = msgspec.Raw(msgspec.json.encode({"content": content}))
    chain = turns(("invalid_output", answer), problem="$.a: required")
    accept = acceptance(schema={"type": "object"}, schema_tool="label")
    (result,) = asked(chain, accept)["messages"][2]["content"]
    assert (result["type"], result["tool_use_id"]) == ("tool_result", "toolu_1")
    assert result["is_error"] is True


def test_checks_have_a_budget_of_their_own() -> None:
    """Two further calls by default, none with 0."""
    accept = acceptance(schema={"type": "object"})
    wrong: tuple[Why, msgspec.Raw] = ("invalid_output", message("{}"))
    found = [next_of("end_turn", accept, turns(*[wrong] * n), BODY, "bad") for n in range(3)]
    assert found[:2] == ["invalid_output"] * 2
    assert isinstance(found[2], ErrorInfo)
    assert (found[2].type, found[2].message) == ("invalid_output", "bad (asked 3 times)")
    never = acceptance(schema={"type": "object"}, check_retries=0)
    assert isinstance(next_of("end_turn", never, [], BODY, "bad"), ErrorInfo)


@pytest.mark.parametrize("reason", ["end_turn", "tool_use", "refusal", "max_tokens", "new", None])
def test_by_default_every_whole_answer_is_accepted(reason: str | None) -> None:
    """Batches that say nothing are as before, except for paused answers and a full context."""
    assert next_of(reason, DEFAULT, [], BODY) is None


def test_answers_of_odd_shapes_are_continued_too() -> None:
    """Content may be a text or null, and a turn may have no message at all."""
    text = msgspec.Raw(b'{"content":"a"}')
    null = msgspec.Raw(b'{"content":null}')
    request = asked(turns(("pause_turn", text), ("pause_turn", null), ("truncated", NULL)), GROW)
    assert request["messages"][1]["content"] == [{"type": "text", "text": "a"}]
    assert len(asked(turns(("pause_turn", null)))["messages"]) == 1


def test_turns_of_another_run_or_request_are_of_no_use() -> None:
    """A job may get another request while it waits between two turns."""
    job = Job(params=msgspec.Raw(BODY), run=1)
    chain = turns(("pause_turn", message("a")), ("pause_turn", message("b")))
    mine = msgspec.structs.replace(chain[0], run=1)
    other = msgspec.structs.replace(chain[1], run=1, request_hash="0" * 16)
    later = msgspec.structs.replace(chain[0], run=2)
    assert fitting([chain[0], mine, other, later], job, BODY) == ([mine], [chain[0], other])


def test_a_paused_answer_is_sent_back_without_what_endpoints_refuse() -> None:
    """White space at the end, and a text without a word, had the next call refused.

    The paid answers of the chain were lost by it. The joined answer has all of them as they came.
    """
    paused = turns(("pause_turn", message("", "a ")), ("pause_turn", message("b \n", " ")))
    request = asked(paused)
    assert [each["text"] for each in request["messages"][1]["content"]] == ["a ", "b"]
    whole = msgspec.json.decode(joined(bytes(message("c")), paused))
    assert [each["text"] for each in whole["content"]] == ["", "a ", "b \n", " ", "c"]
    assert len(asked(turns(("pause_turn", message(" "))))["messages"]) == 1
    empty = turns(("invalid_output", message("")), problem="no text")
    assert len(asked(empty)["messages"]) == 1, "there is no turn to object to"


@pytest.mark.parametrize(
    "block", ["1", "null", "[[]]", '{"type":7}', '{"type":"text","text":3}', "{}"]
)
@pytest.mark.parametrize("why", ["pause_turn", "invalid_output"])
def test_blocks_that_are_none_are_not_sent_back(why: Why, block: str) -> None:
    """The next request could not be built: the worker held all its claims, for ever."""
    content = f'[{block},{{"type":"tool_use","id":5}},{{"type":"tool_use"}},{{"type":"new"}}]'
    answer = msgspec.Raw(f'{{"content":{content}}}'.encode())
    request = asked(turns((why, answer), problem="no"))
    assert request["messages"][1]["content"] == [{"type": "new"}]


@pytest.mark.parametrize("usage", ["1e400", "[1]", '{"a":' * 900 + "1" + "}" * 900])
def test_odd_usage_keeps_no_answers_apart(usage: str) -> None:
    """A number that msgspec does not read ended the decision about a paid answer."""
    answer = msgspec.Raw(f'{{"content":["a"],"usage":{usage}}}'.encode())
    whole = joined(bytes(answer), turns(("pause_turn", answer)))
    assert b'"content":["a","a"]' in whole
