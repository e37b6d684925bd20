"""The page of `nightmill report`: one file that opens from disk, without script. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from nightmill import charts
from nightmill.reports import report_sections as sections
from nightmill.reports.html import Html, cards, paragraph, tag, text
from nightmill.reports.progress import counted, dollars, duration
from nightmill.reports.report_compared import compared
from nightmill.reports.report_over_time import over_time

if TYPE_CHECKING:
    from nightmill.reports.report import Report

STYLE: Final = files(__package__).joinpath("report.css").read_text(encoding="utf-8")


def page(report: Report) -> str:
    """Return the HTML of a report."""
    title = f"nightmill report: {report.batch or 'single jobs'}"
    body = [
        _heading(report),
        _figures(report),
        sections.what_ran(report),
        over_time(report),
        sections.spreads(report),
        sections.failed(report),
        sections.cut(report),
        sections.called_again(report),
        sections.costs(report),
        sections.lost(report),
        compared(report),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{text(title)}</title><style>{STYLE}{charts.STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def moment(ms: int) -> str:
    """Return epoch ms as a date in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _heading(report: Report) -> Html:
    so_far = "So far: jobs of this batch are still to run. " if report.running else ""
    unknown = "" if report.counts else "Redis did not answer: what only it knows is missing. "
    made = f"{so_far}{unknown}Made {moment(report.made_at)} by nightmill {report.version}."
    return Html(tag("h1", text(report.batch or "single jobs")) + paragraph(made, "soft"))


def _figures(report: Report) -> Html:
    sums, states = report.sums, report.sums.states
    total = report.total
    cut = sum(each.count for each in report.not_whole if each.type.endswith("max_tokens"))
    refused = sum(each.count for each in report.not_whole if each.type.endswith("refusal"))
    failed = states["failed"]
    rare = [f"{states[name]:,} {name}" for name in ("cancelled", "expired") if states[name]]
    took_s = (sums.last_ended - (sums.first_started or sums.last_ended)) / 1000
    left = "" if total is None or total <= sums.rows else f"{total - sums.rows:,} have no row"
    counts = report.counts
    used = None if counts is None else counts.utilisation
    price = f"{counted(report.unpriced, 'answer')} without a price" if report.unpriced else ""
    return cards(
        [
            ("succeeded", f"{states['succeeded']:,}", f"of {total:,}" if total else "", "good"),
            ("failed", f"{failed:,}", ", ".join(rare), "bad" if failed else ""),
            ("cut at max_tokens", f"{cut:,}", "", "warn" if cut else ""),
            ("refused by the model", f"{refused:,}", "", "warn" if refused else ""),
            ("cost", dollars(report.spent_usd), price, ""),
            ("time", duration(took_s), left, ""),
            ("of rate limit", "not known" if used is None else f"{used:.1%}", "", ""),
        ]
    )
