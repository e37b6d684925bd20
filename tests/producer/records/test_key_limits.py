"""Limits of a key as a person writes them."""

from __future__ import annotations

import pytest

from nightmill.errors import InvalidLimitError
from nightmill.records.key_limits import Budget, read_betas, read_budget, read_number, usd


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "1.5",
        "nan",
        "1e400",
        "1e3",
        "",
        "٣",
        "10000000000",
        "99999999999999",
        "inf",
        " 1",
    ],
)
def test_an_odd_number_is_refused(text: str) -> None:
    """The message names the limit, what was given and what is allowed."""
    with pytest.raises(
        InvalidLimitError, match=r"rpm: given .*; allowed: a whole number, 1 to 1,0"
    ):
        read_number("rpm", text)


def test_the_ends_of_a_number() -> None:
    """Both ends are allowed."""
    assert (read_number("rpm", "1"), read_number("rpm", "1000000000")) == (1, 10**9)


@pytest.mark.parametrize(
    "text",
    [
        *("50", "50/", "/day", "50/week", "50/days", "-50/day", "0/day", "0.0/hour", "nan/day"),
        *("1e400/day", "inf/day", "50/day/day", "50 / day", "", "1000000/day", "0.0000000001/day"),
        *("50/DAY", "€50/day"),
    ],
)
def test_an_odd_budget_is_refused(text: str) -> None:
    """A budget that was misread could cost thousands."""
    with pytest.raises(InvalidLimitError, match=r"budget-usd: given .*; allowed: dollars/period"):
        read_budget(text)


@pytest.mark.parametrize(
    ("text", "nanodollars", "shown"),
    [
        ("50/day", 50_000_000_000, "$50.00/day"),
        ("$0.5/hour", 500_000_000, "$0.50/hour"),
        ("0.000000001/month", 1, "$0.000000001/month"),
        ("999999.99/month", 999_999_990_000_000, "$999,999.99/month"),
    ],
)
def test_a_budget_is_exact(text: str, nanodollars: int, shown: str) -> None:
    """Whole nano-dollars, as bills are."""
    found = read_budget(text)
    assert (found.nanodollars, str(found)) == (nanodollars, shown)


@pytest.mark.parametrize(
    ("period", "starts", "ends"),
    [
        ("hour", 1709211600000, 1709215200000),  # 2024-02-29T13:00Z
        ("day", 1709164800000, 1709251200000),
        ("month", 1706745600000, 1709251200000),
    ],
)
def test_a_period_is_one_of_utc(period: str, starts: int, ends: int) -> None:
    """A person can say when it ends. 2024 has a leap day."""
    budget = Budget(nanodollars=1, period=period)  # type: ignore[arg-type]
    for now in (starts, 1709213696789, ends - 1):
        if starts <= now < ends:
            assert (budget.starts(now), budget.ends(now)) == (starts, ends)
    assert budget.starts(ends) == ends


def test_betas() -> None:
    """`none` allows none; a name that could begin another header is refused."""
    assert read_betas("a-1, b-2,a-1") == ("a-1", "b-2")
    assert read_betas("none") == ()
    for text in ("", "a,", "a b", "a\nx: y", "é", ",".join(f"b{n}" for n in range(33))):
        with pytest.raises(InvalidLimitError, match=r"betas: given .*; allowed: up to 32 names"):
            read_betas(text)


def test_dollars() -> None:
    """Two decimals at least, and no digit that is not there."""
    assert [usd(n) for n in (0, 1, 10**7, 123_456 * 10**7)] == [
        *("$0.00", "$0.000000001", "$0.01", "$1,234.56"),
    ]
