"""The sections of a report, below its figures. Pure."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from nightmill.charts import Bin, Mark, histogram
from nightmill.reports.failures import shortened
from nightmill.reports.html import Html, code, paragraph, table, tag, text
from nightmill.reports.progress import counted, dollars

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.records.result import Bill
    from nightmill.reports.failures import Failure
    from nightmill.reports.report import Report
    from nightmill.reports.sums import ModelSum, Spread


class Shown(NamedTuple):
    """How a distribution is shown."""

    column: str
    title: str
    unit: str = ""
    by: int = 1
    """What each value is divided by."""


SPREADS: Final = (
    Shown("call_ms", "Time in calls, of a job", " s", 1000),
    Shown("queue_ms", "Time in the queue before the first call", " s", 1000),
    Shown("input_tokens", "Input tokens, of a job"),
    Shown("output_tokens", "Output tokens, of a job"),
)
GROUPS: Final = 50
"""Groups of failures on the page; `nightmill errors` has all."""
LONGEST: Final = 500
"""Characters of a message on the page; `nightmill show` has all of it."""
KINDS: Final = ("input", "output", "cache_read", "cache_write", "web_search")


def section(title: str, *parts: str) -> Html:
    """Return a section with its heading."""
    return Html("".join([tag("h2", text(title)), *parts]))


def what_ran(report: Report) -> Html:
    """Return the models, the dates and the settings that matter."""
    sums = report.sums
    models = ", ".join(f"{name or 'unknown'} ({each.jobs:,})" for name, each in _models(report))
    rows = [
        ("batch", report.batch or "single jobs"),
        ("models (jobs)", models),
        ("first job enqueued", _moment(sums.first_enqueued)),
        ("first call", _moment(sums.first_started)),
        ("last job ended", _moment(sums.last_ended)),
        ("rows stored", f"{sums.rows:,}"),
        ("jobs of its source", "not known" if report.total is None else f"{report.total:,}"),
        ("calls made", f"{sums.calls:,}"),
        *((f"limit: {name}", str(value)) for name, value in _set(report.limits)),
        *((f"accepts: {name}", str(value)) for name, value in _set(report.accept)),
    ]
    return section(
        "What ran", table(("", ""), [(text(name), text(value)) for name, value in rows], texts=2)
    )


def _set(record: msgspec.Struct) -> Iterable[tuple[str, object]]:
    """Yield the fields of a record that are not at their default."""
    default = type(record)()
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if value != getattr(default, name) and not name.startswith("price_"):
            shown = _moment(value) if name == "expires_at" else value
            yield name, msgspec.json.encode(value).decode() if name == "schema" else shown


def spreads(report: Report) -> Html:
    """Return the distributions with their percentiles."""
    found = [(report.sums.spread(each.column), each) for each in SPREADS]
    rows = [
        (
            text(shown.title),
            *(_figure(value, shown.by) for value in (spread.p50, spread.p90, spread.p99)),
            _figure(spread.largest, shown.by),
            _figure(spread.mean, shown.by),
            f"{spread.number:,}",
        )
        for spread, shown in found
    ]
    headings = ("", "p50", "p90", "p99", "largest", "mean", "jobs")
    parts = [
        part
        for spread, shown in found
        for part in (tag("h3", text(shown.title)), _bars(spread, shown))
    ]
    about = "Of jobs that were called. The last bar holds all that is larger."
    return section(
        "Latency and tokens",
        paragraph(f"Times in seconds. {about}", "soft"),
        table(headings, rows),
        *parts,
    )


def _bars(spread: Spread, shown: Shown) -> str:
    by = shown.by
    bins = [Bin(low=b.low / by, high=b.high / by, count=b.count) for b in spread.bins]
    marks = [Mark(name=name, value=getattr(spread, name) / by) for name in ("p50", "p90", "p99")]
    return histogram(bins, title=shown.title, unit=shown.unit, marks=marks)


def _figure(value: float, by: int) -> Html:
    return text(f"{value / by:,.3f}" if by > 1 else f"{value:,.0f}")


def failed(report: Report) -> Html:
    """Return the failures by reason, with an example and the fix."""
    if not report.failures:
        return section("Failures by reason", paragraph("No job failed."))
    return section("Failures by reason", *_groups(report, report.failures))


def cut(report: Report) -> Html:
    """Return the answers that were cut, or refused by the model."""
    title = "Answers that are not whole"
    if not report.not_whole:
        return section(title, paragraph("No answer was cut, and the model refused none."))
    return section(title, *_groups(report, report.not_whole))


def _groups(report: Report, groups: list[Failure]) -> list[Html]:
    rows = [
        (
            Html(
                tag("strong", text(each.type))
                + paragraph(shortened(each.message, LONGEST))
                + tag("p", code(f"nightmill show {shlex.quote(each.example)}"), kind="soft")
            ),
            Html((paragraph(each.fix) if each.fix else "") + tag("p", code(each.command))),
            text(f"{each.count:,}"),
        )
        for each in groups[:GROUPS]
    ]
    headings = ("reason and example", "to fix it, and run again", "jobs")
    parts = [table(headings, rows, texts=2, kind="reasons")]
    if (more := len(groups) - GROUPS) > 0:
        command = code(f"nightmill errors {shlex.quote(report.batch)}")
        parts.append(tag("p", text(f"{counted(more, 'more group')}: "), command))
    return parts


def called_again(report: Report) -> Html:
    """Return how many calls were made again, and why."""
    sums = report.sums
    called = sums.called
    again = max(0, sums.calls - called)
    rows = [(text(name), f"{number:,}") for name, number in sums.again.most_common(GROUPS)]
    about = f"{sums.calls:,} calls for {counted(called, 'job')}: {again:,} were made again."
    why = (
        "Of a job with more than 25 calls, reasons of counted calls are of the first 5 and last 20."
    )
    parts = [paragraph(about)]
    if rows:
        parts += [table(("why a call was made again", "calls"), rows), paragraph(why, "soft")]
    return section("Retries", *parts)


def costs(report: Report) -> Html:
    """Return the cost by model and by kind of tokens."""
    headings = (
        *("model", "jobs", "input", "output", "cache read", "cache write"),
        *("searches", "not split", "cost"),
    )
    rows = [
        (
            text(name or "unknown"),
            f"{each.jobs:,}",
            *(dollars(_kind(each.bill, kind)) for kind in KINDS),
            dollars(max(0.0, each.cost - each.parts_of)),
            f"{dollars(each.cost)}{'*' if each.unpriced else ''}",
        )
        for name, each in _models(report)
    ]
    tokens = [
        (
            text(name or "unknown"),
            *(f"{getattr(each, kind):,}" for kind in _TOKENS),
        )
        for name, each in _models(report)
    ]
    unpriced = sum(each.unpriced for _, each in _models(report))
    star = f"* {counted(unpriced, 'job')} of models without a known price."
    return section(
        "Cost by model and kind",
        table(headings, rows, foot=("all rows", f"{report.sums.rows:,}", *[""] * 6,
                                    dollars(report.sums.cost))),
        paragraph(star, "warn") if unpriced else "",
        table(("tokens of rows", "input", "output", "cache read", "cache write"), tokens),
    )  # fmt: skip


_TOKENS: Final = ("input_tokens", "output_tokens", "cache_read", "cache_write")


def _kind(bill: Bill, kind: str) -> float:
    return float(getattr(bill, kind))


def lost(report: Report) -> Html:
    """Return what was paid for nothing."""
    sums = report.sums
    rows = [
        (text("jobs that did not succeed"), dollars(sums.failed_usd)),
        (text("answers cut at max_tokens, which are kept"), dollars(sums.cut_usd)),
        (text("calls that were repeated, broke off, or whose row was replaced by a retry"),
         dollars(report.gone_usd)),
        (text(f"{counted(sums.lost_calls, 'call')} whose worker died (estimated, not in the bill)"),
         dollars(sums.lost_usd)),
    ]  # fmt: skip
    return section("Lost to failures, crashes and retries", table(("", "US dollars"), rows))


def _models(report: Report) -> list[tuple[str, ModelSum]]:
    return sorted(report.sums.models.items(), key=lambda each: (-each[1].jobs, each[0]))


def _moment(ms: int) -> str:
    if not ms:
        return "not known"
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
