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


def test_a_429_with_a_wait_is_an_ordinary_refusal_whatever_its_text() -> None:
    """Unless the API's own code says more: a gateway may add a wait to each 429."""
    said = "You have reached your spend limit"
    text = body("rate_limit_error", said)
    assert isinstance(answer(429, text, retry_after="20"), Snooze)
    text = body("rate_limit_error", said, details={"error_code": "enforced_spend_limit_reached"})
    assert isinstance(answer(429, text, retry_after="20"), StopAccount)


@pytest.mark.parametrize("status", [400, 402, 403, 429])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("enforced_spend_limit_reached", StopAccount),
        ("contract_spend_limit_reached", StopAccount),
        ("organization_on_hold", StopAccount),
        ("ramp_limit_exceeded", Snooze),
        ("linked_organization_spend_limit", Fail),
        ("linked_organization_spend_limit_reached", Fail),
        ("linked_organization_billing_unavailable", Fail),
    ],
)
def test_the_apis_own_code_decides_before_status_and_text(
    status: int, code: str, kind: type[Fail | Snooze | StopAccount]
) -> None:
    """A ramp limit with a text about limits held its lane; so did the 403 of a hold.

    The 402 of one user profile that cannot be billed stopped the account, for all profiles.
    """
    text = body("rate_limit_error", "usage limits: credit balance", details={"error_code": code})
    outcome = answer(status, text, x_should_retry="true")
    assert isinstance(outcome, kind)
    assert outcome.error.fix or kind is Snooze
    if kind is Fail:
        assert outcome.error.type == code.removesuffix("_reached")


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [(429, "rate_limit_error", Snooze), (400, "invalid_request_error", Fail)],
)
def test_an_unknown_code_counts_as_its_bare_type(
    status: int, name: str, kind: type[Fail | Snooze]
) -> None:
    """The error has a code, so its text is not needed, and the text may repeat the prompt."""
    more: dict[str, object] = {"details": {"error_code": "something_new"}}
    outcome = answer(status, body(name, "Your credit balance is too low", **more))
    assert isinstance(outcome, kind)
    assert outcome.error.type == name


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
