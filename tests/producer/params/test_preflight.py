"""The preflight: what an endpoint refuses by version and model is found before anything is paid."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import msgspec
import pytest

from nightmill.enqueue.prepare import defaults_of
from nightmill.errors import InvalidParamsError
from nightmill.params import Preflight, check, is_provider
from nightmill.params.preflight import generation_of, table
from nightmill.params.preflight_checks import CHECKS
from nightmill.records.api import Api
from nightmill.settings import load_settings
from tests.producer.params.test_params import DEFAULTS

Params = dict[str, Any]
PROVIDER: Final = msgspec.structs.replace(
    DEFAULTS, preflight=Preflight(version="2023-06-01", provider=True)
)
ELSEWHERE: Final = msgspec.structs.replace(
    DEFAULTS, preflight=Preflight(version="2023-06-01", provider=False)
)
STRICT: Final = Api(anthropic_version="2026-10-21")
OLD: Final = Api()
USE: Final = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT: Final = {"type": "tool_result", "tool_use_id": "t1", "content": "1"}
PDF: Final = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
}
CITED: Final = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}


def asked(*turns: object, model: str = "claude-opus-4-5", **fields: object) -> Params:
    """Return a request; turns are of the user and the assistant, in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns or ("hi",))]
    return {"model": model, "messages": messages, **fields}


CASES: Final = [
    (asked(temperature=1.0), STRICT, "temperature", "leave it out"),
    (asked(top_p=1), STRICT, "top_p", "leave it out"),
    (asked(top_k=5), STRICT, "top_k", "leave it out"),
    (asked("a", [PDF], "b"), STRICT, "messages.1.content.0.type", "move it to a user turn"),
    (asked([CITED]), STRICT, "messages.0.content.0.citations", "leave them out"),
    (asked("a", "{", model="claude-opus-4-6"), OLD, "messages.1.role", "end with a user turn"),
    (asked("a", "{", model="claude-sonnet-5"), OLD, "messages.1.role", "end with a user turn"),
    (
        asked(model="claude-opus-4-7", thinking={"type": "enabled", "budget_tokens": 2000}),
        OLD,
        "thinking.type",
        "adaptive",
    ),
    (asked(model="claude-opus-4-8", temperature=0.2), OLD, "temperature", "leave it out"),
    (asked(model="claude-sonnet-5-5", top_p=0.5), OLD, "top_p", "leave it out"),
    (asked(model="claude-opus-4-7-20260416", top_k=5), OLD, "top_k", "leave it out"),
    (asked("a", [USE], "b"), OLD, "messages.1.content.0.id", "tool_result"),
    (asked("a", [USE]), OLD, "messages.1.content.0.id", "tool_result"),
    (asked([RESULT]), OLD, "messages.0.content.0.tool_use_id", "tool_use_id"),
    (asked([{"type": "text", "text": " \n"}]), OLD, "messages.0.content.0.text", "leave it out"),
    (asked(" "), OLD, "messages.0.content", "leave it out"),
    (asked("a", "The answer is "), OLD, "messages.1.content", "cut the white space off"),
    (asked("a", [{"type": "text", "text": "x "}]), OLD, "messages.1.content.0.text", "cut"),
    (asked(anthropic_beta=["x"]), OLD, "anthropic_beta", "--beta"),
    (asked(extra_headers={"a": "b"}), OLD, "extra_headers", "beside `params`"),
]
"""Request, version, the field that is refused, a part of the fix."""
PASSES: Final = [
    (asked(temperature=0.2, top_k=3), OLD),
    (asked(), STRICT),
    (asked([PDF]), STRICT),
    (asked([{"type": "text", "text": "x", "citations": None}]), STRICT),
    (asked("a", "{"), OLD),
    (asked("a", ""), OLD),
    (asked(model="claude-opus-4-6", thinking={"type": "enabled", "budget_tokens": 2000}), OLD),
    (asked(model="claude-opus-4-7", thinking={"type": "adaptive"}, temperature=1), OLD),
    (asked(model="claude-sonnet-5", top_p=1), OLD),
    (asked("a", "{", model="claude-opus-9"), OLD),
    (asked(model="claude-opus-9-1", temperature=0.1, thinking={"type": "enabled"}), OLD),
    (asked("a", "{", model="some-other-model", temperature=0.1), OLD),
    (asked("a", "{", model="claude-3-7-sonnet-latest"), OLD),
    (asked("a", "{", model="claude-opus-4-20250514"), OLD),
    (
        asked("a", [{"type": "text", "text": "x"}, USE], [RESULT, {"type": "text", "text": "y"}]),
        OLD,
    ),
]


@pytest.mark.parametrize(("params", "api", "field", "fix"), CASES)
def test_a_certain_refusal_is_an_error_at_the_providers_host(
    params: Params, api: Api, field: str, fix: str
) -> None:
    """Each of them passed, and 10,000 jobs were answered 400, one call each."""
    with pytest.raises(InvalidParamsError) as refused:
        check(params, PROVIDER, api)
    assert refused.value.field == field
    assert fix in refused.value.problem
    assert "--no-preflight" in refused.value.problem


@pytest.mark.parametrize(("params", "api", "field", "fix"), CASES)
def test_it_is_a_warning_at_every_other_endpoint(
    params: Params, api: Api, field: str, fix: str
) -> None:
    """A gateway may change the request, and another server may take it: nothing fails there."""
    checked = check(params, ELSEWHERE, api)
    assert any(fix in warning for warning in checked.warnings), (field, checked.warnings)
    assert checked.body == check(params, DEFAULTS, api).body


@pytest.mark.parametrize(("params", "api"), PASSES)
def test_what_the_endpoint_takes_passes(params: Params, api: Api) -> None:
    """A false alarm keeps good jobs from running; newer models are not known here, so they pass."""
    assert not check(params, PROVIDER, api).warnings


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-fable-5-2", "claude-mythos-5"])
def test_a_doubtful_refusal_is_a_warning_everywhere(model: str) -> None:
    """What is not known to be refused must not keep a batch from running."""
    assert check(asked("a", "{", model=model, temperature=0.5), PROVIDER).warnings
    later = Api(anthropic_version="2027-03-01")
    assert check(asked(temperature=0.5), PROVIDER, later).warnings


@pytest.mark.parametrize("defaults", [PROVIDER, ELSEWHERE, DEFAULTS])
def test_the_contract_holds_without_the_preflight(defaults: Any) -> None:  # noqa: ANN401
    """`role: system` among the messages and an empty text are refused at every endpoint."""
    system = {"model": "m", "messages": [{"role": "system", "content": "x"}]}
    for params in (system, asked([{"type": "text", "text": ""}])):
        with pytest.raises(InvalidParamsError) as refused:
            check(params, defaults)
        assert "--no-preflight" not in refused.value.problem


def test_an_answered_call_of_two_tools_passes_in_split_turns() -> None:
    """The endpoint joins turns of one role that follow each other."""
    second = {**USE, "id": "t2"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [USE]},
        {"role": "assistant", "content": [second]},
        {"role": "user", "content": [RESULT]},
        {"role": "user", "content": [{**RESULT, "tool_use_id": "t2"}]},
    ]
    assert not check({"model": "claude-opus-4-7", "messages": messages}, PROVIDER).warnings


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("claude-opus-4-7", ("opus", (4, 7))),
        ("claude-opus-4-20250514", ("opus", (4, 0))),
        ("claude-opus-5", ("opus", (5, 0))),
        ("claude-haiku-4-5-20251001", ("haiku", (4, 5))),
        ("anthropic/claude-4.7-opus", ("opus", (4, 7))),
        ("us.anthropic.claude-sonnet-4-6-v1:0", ("sonnet", (4, 6))),
        ("claude-3-7-sonnet-20250219", ("sonnet", (3, 7))),
        ("claude-opus-latest", None),
        ("gpt-x", None),
    ],
)
def test_a_models_name_tells_its_family_and_number(
    model: str, found: tuple[str, tuple[int, int]] | None
) -> None:
    """A date behind the number is not a part of it: claude-opus-4-20250514 is 4.0."""
    assert generation_of(model) == found


def test_the_table_says_when_it_was_checked_and_names_only_checks_that_exist() -> None:
    """The rules of an API change: a reader must see how old they are."""
    assert isinstance(table().checked, dt.date)
    assert {rule.check for rule in table().rule} == CHECKS


@pytest.mark.parametrize(
    ("settings", "provider"),
    [
        ({}, True),
        ({"base_url": "https://API.anthropic.com/v1"}, True),
        ({"base_url": "http://127.0.0.1:8000"}, False),
        ({"base_url": "https://api.anthropic.com.evil.example"}, False),
        ({"redis_url": "redis://h"}, False),
        ({"redis_url": "redis://h", "base_url": "https://api.anthropic.com"}, True),
        ({"rehearsal": True}, False),
    ],
)
def test_errors_are_for_the_endpoint_that_is_known_to_be_the_providers(
    settings: dict[str, object], *, provider: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a shared Redis may have another endpoint than the program that enqueues."""
    for name in ("BASE_URL", "ANTHROPIC_BASE_URL", "NIGHTMILL_BASE_URL", "NIGHTMILL_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    found = defaults_of(load_settings(**settings)).preflight
    assert found is not None
    assert found.provider is provider
    assert defaults_of(load_settings(**settings, preflight=False)).preflight is None


def test_the_provider_is_known_by_its_whole_host() -> None:
    """A part of a name would be true of a proxy's path as well."""
    assert is_provider("https://api.anthropic.com")
    assert not is_provider("https://proxy.example/api.anthropic.com")


@pytest.mark.parametrize("name", ["betas", "extra_headers", "extra_body"])
def test_an_argument_of_an_sdk_is_refused_with_where_a_beta_goes(name: str) -> None:
    """They went into the body, where the API refuses every job: extra inputs are not permitted."""
    strict = msgspec.structs.replace(DEFAULTS, allow_unknown=False)
    with pytest.raises(InvalidParamsError) as refused:
        check({**asked(), name: ["context-1m-2025-08-07"]}, strict)
    assert refused.value.field == name
    assert "put anthropic_beta beside `params`, or use --beta" in refused.value.problem


def test_a_version_for_all_jobs_is_the_one_that_is_checked() -> None:
    """A client of the gateway names it once, in the header of its batch."""
    defaults = msgspec.structs.replace(PROVIDER, api=STRICT)
    with pytest.raises(InvalidParamsError, match="2026-10-21"):
        check(asked(temperature=1.0), defaults)
    assert not check(asked(temperature=1.0), defaults, Api(anthropic_version="2023-06-01")).warnings
