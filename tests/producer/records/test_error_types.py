"""Every error type of a row has a type of the API's closed list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_args

import pytest

from nightmill.records.error_types import STANDARD, standard_type
from nightmill_worker.messages.outcome import BreakKind

SDK: Final = {
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
}
"""The types of `anthropic.types.ErrorObject` (anthropic 2.14.0), which accepts no other."""

OWN: Final = {
    kind
    for path in Path("worker/nightmill_worker").rglob("*.py")
    for kind in re.findall(r'(?:type=|FileRefusedError\()"(\w+)"', path.read_text())
} | {*get_args(BreakKind), "unknown", "exceeds_limit", "process_died"}


def test_the_standard_types_are_those_of_the_sdk() -> None:
    """One more type would be an error in every program that reads results with the SDK."""
    assert set(STANDARD) == SDK


@pytest.mark.parametrize("kind", sorted(OWN | {"conflict_error", "request_too_large", "", "400"}))
@pytest.mark.parametrize("status", [None, 200, 404, 503])
def test_each_own_type_has_a_standard_one(kind: str, status: int | None) -> None:
    """Rows with types such as attachment_refused were no MessageBatchIndividualResponse."""
    assert standard_type(kind, status) in SDK


@pytest.mark.parametrize(
    ("kind", "status", "standard"),
    [
        ("overloaded_error", 500, "overloaded_error"),
        ("attachment_missing", None, "invalid_request_error"),
        ("poison", None, "api_error"),
        ("timeout", None, "timeout_error"),
        ("exceeds_limit", 429, "rate_limit_error"),
        ("http_405", None, "invalid_request_error"),
        ("http_502", None, "api_error"),
        ("BadRequestError", 400, "invalid_request_error"),
        ("model_not_found", 404, "not_found_error"),
        ("insufficient_quota", 429, "rate_limit_error"),
        ("server_error", 503, "overloaded_error"),
        ("brand_new_error", 418, "invalid_request_error"),
    ],
)
def test_the_type_of_a_gateway_goes_by_its_status(
    kind: str, status: int | None, standard: str
) -> None:
    """A gateway's own words say little to a program; the status says what kind of error it is."""
    assert standard_type(kind, status) == standard
