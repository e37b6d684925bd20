"""How a batch compares with what was expected of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.enqueue.estimate import BYTES_PER_TOKEN
from nightmill.reports.html import Html, paragraph, table, tag, text
from nightmill.reports.progress import counted, dollars
from nightmill.reports.sums import FIRST

if TYPE_CHECKING:
    from nightmill.reports.report import Report

_Row = tuple[Html, Html, Html, Html]


def compared(report: Report) -> Html:
    """Return the tokens and the cost beside their estimates and the budget."""
    first, budget = report.first_estimate, report.limits.budget_usd
    spent, priced = report.spent_usd, not report.unpriced
    known = "not known: the first jobs have no known price, or there is no total"
    rows = [
        *_before(report),
        _row(
            f"cost: the mean of the first {FIRST} jobs, times all jobs",
            known if first is None else dollars(first),
            dollars(spent),
            _off(spent, first) if priced and not report.running else "",
        ),
        _row(
            "budget",
            "no budget was set" if budget is None else dollars(budget),
            dollars(spent),
            _share(spent, budget),
        ),
    ]
    actual = "so far" if report.running else "actual"
    return Html(
        tag("h2", text("Compared with the projection"))
        + table(("", "expected", actual, ""), rows, texts=2)
        + _remarks(report)
    )


def _before(report: Report) -> list[_Row]:
    """Return the estimate of the dry run."""
    estimate, used = report.estimate, report.used
    label = "before the first call"
    if estimate is None:
        why = "no source was fed to its end, or an older version fed it"
        return [_row(label, f"not known: {why}", "", "")]
    prompts = used.input_tokens + used.cache_read_input_tokens + used.cache_creation_input_tokens
    most, cost = estimate.max_output_tokens, report.estimate_usd
    return [
        _row(
            f"{label}: input tokens",
            f"about {estimate.input_tokens:,}",
            f"{prompts:,}",
            "" if report.running else _off(prompts, estimate.input_tokens),
        ),
        _row(
            f"{label}: output tokens",
            f"at most {most:,}",
            f"{used.output_tokens:,}",
            _share(used.output_tokens, most),
        ),
        _row(
            f"{label}: cost",
            "not known: a model has no known price" if cost is None else f"at most {dollars(cost)}",
            dollars(report.spent_usd),
            _share(report.spent_usd, cost),
        ),
    ]


def _remarks(report: Report) -> str:
    estimate = report.estimate
    if estimate is None:
        return ""
    about = (
        f"Before the first call, as a dry run shows it: {BYTES_PER_TOKEN} bytes of a request "
        f"count as one input token, and every job uses its max_tokens."
    )
    if estimate.attachments:
        about += f" {counted(estimate.attachments, 'attachment')} are not counted."
    if report.total is not None and estimate.jobs != report.total:
        fed = counted(estimate.jobs, "job")
        about += f" It is of the source that was fed last: {fed} of {report.total:,}."
    return paragraph(about, "soft")


def _row(*cells: str) -> _Row:
    label, expected, actual, beside = map(text, cells)
    return label, expected, actual, beside


def _off(actual: float, expected: float | None) -> str:
    return f"{actual / expected - 1:+.1%}" if expected else ""


def _share(actual: float, most: float | None) -> str:
    return f"{actual / most:.1%} of it" if most else ""
