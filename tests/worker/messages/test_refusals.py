"""Refusals of the account, and those that may be: by code, by status, by text last of all."""

from __future__ import annotations

import pytest

from nightmill_worker.messages.outcome import Fail, Snooze, StopAccount, Suspect
from tests.worker.messages.test_classify import answer, body


@pytest.mark.parametrize(
    "more",
    [
        {"details": {"error_code": "enforced_spend_limit_reached"}},
        {"details": {"error_code": "contract_spend_limit_reached", "more": [1]}},
        {"code": "insufficient_quota"},
        {"code": "credit_balance_exhausted"},
    ],
)
@pytest.mark.parametrize("status", [400, 403, 429])
def test_a_code_of_the_account_stops_it(status: int, more: dict[str, object]) -> None:
    """It lasts until a person acts, and no prompt can bring it about."""
    outcome = answer(status, body("rate_limit_error", "Paused", **more))
    assert isinstance(outcome, StopAccount)
    assert outcome.error.fix


def test_a_429_with_a_wait_is_an_ordinary_refusal() -> None:
    """Whatever its code and text say."""
    more: dict[str, object] = {"details": {"error_code": "enforced_spend_limit_reached"}}
    text = body("rate_limit_error", "You have reached your spend limit", **more)
    assert isinstance(answer(429, text, retry_after="20"), Snooze)


@pytest.mark.parametrize("details", ["text", 7, [1], {"error_code": 7}, {"error_code": "x" * 9000}])
def test_details_without_a_code_are_none(details: object) -> None:
    """The details of other errors have other shapes."""
    text = body("invalid_request_error", details=details)
    assert isinstance(answer(400, text), Fail)


SPENT = (
    "This organization has reached its monthly spend limit",
    "You have reached your specified API usage limits.",
    "Your credit balance is too low",
    "You exceeded your current quota, please check your plan and billing details.",
    "Quota exceeded until 2026-11-01",
)


@pytest.mark.parametrize("message", SPENT)
def test_a_429_worded_like_a_spend_limit_is_suspect(message: str) -> None:
    """A text comes last: it never stops the account by itself."""
    outcome = answer(429, body("rate_limit_error", message))
    assert isinstance(outcome, Suspect)
    assert outcome.kind == "429 rate_limit_error"
    assert outcome.words.lower() in message.lower()


@pytest.mark.parametrize("status", [404, 405, 413, 422])
def test_other_statuses_are_about_the_request_whatever_their_text(status: int) -> None:
    """A text may repeat the prompt."""
    assert isinstance(answer(status, body("x", SPENT[2])), Fail)


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the API. Please go to Plans & Billing.",
        "You have reached your specified API usage limits. You will regain access on 2026-11-01.",
        "You have reached your specified workspace API usage limits.",
    ],
)
def test_a_400_worded_like_spent_credit_is_suspect(message: str) -> None:
    """Spent credit comes as an invalid_request_error; so does an error that repeats a prompt."""
    outcome = answer(400, body("invalid_request_error", message), x_should_retry="true")
    assert isinstance(outcome, Suspect)
    assert outcome.error.fix
    assert outcome.words


def test_suspects_are_alike_by_status_and_type_not_by_text() -> None:
    """A firewall's page has another number each time, and a gateway's error names the prompt."""
    pages = [answer(403, f"<html>Blocked. Incident {n}</html>".encode()) for n in range(2)]
    denied = answer(403, body("permission_error"))
    kinds = [outcome.kind for outcome in (*pages, denied) if isinstance(outcome, Suspect)]
    assert kinds == ["403 text", "403 text", "403 permission_error"]
