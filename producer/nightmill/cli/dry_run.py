"""`--dry-run`: what a source would enqueue and cost, without Redis, a key or a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import typer

from nightmill.cli.checking import reject_fields
from nightmill.cli.terminal import echo_data, echo_json
from nightmill.enqueue.estimate import BYTES_PER_TOKEN, Estimate, Estimating
from nightmill.enqueue.prepare import defaults_of
from nightmill.pricing.cost import Prices
from nightmill.reports.labels import DryRunLabel
from nightmill.reports.progress import counted
from nightmill.sources import Line, Rejected, Source, Summary, UniqueIds, check_source, read_rejects

if TYPE_CHECKING:
    from nightmill.settings import Settings

FIRST: Final = 3
"""Jobs whose requests are printed."""

BAD_INPUT: Final = 2

ALL_USABLE: Final = "every row is usable"


class _Jobs:
    """The first jobs of a source, and the sums over all of them."""

    def __init__(self, ids: UniqueIds) -> None:
        self._ids = ids
        self.first: list[Line] = []
        self.estimating = Estimating()

    def add(self, line: Line) -> None:
        """Add a job, unless its id came before: that is a bad row."""
        if isinstance(self._ids.check(line), Rejected):
            return
        if len(self.first) < FIRST:
            self.first.append(line)
        self.estimating.add([line])


class _DryRun(NamedTuple):
    """What is printed."""

    summary: Summary
    first: list[Line]
    estimate: Estimate
    dollars: float | None
    """At most; of the models with a known price."""
    unpriced: dict[str, int]
    """Model without a known price -> jobs."""


def show_jobs(source: Source, settings: Settings, *, as_json: bool) -> None:
    """Print what `source` would enqueue. Exits with BAD_INPUT when there are bad rows.

    Raises SourceError for a source that cannot be read.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder, closing(UniqueIds()) as unique:
        jobs = _Jobs(unique)
        ids = Path(folder) / "ids.db"
        summary = check_source(source, defaults_of(settings), ids=ids, on_line=jobs.add)
        estimate = jobs.estimating.sums()
        found = _DryRun(summary, jobs.first, estimate, *_cost(estimate, settings))
        if as_json:
            echo_json(msgspec.json.encode(_as_dict(found)))
        else:
            for paragraph in _report(found):
                echo_data(paragraph)
    if summary.rejected:
        raise typer.Exit(BAD_INPUT)


def _cost(estimate: Estimate, settings: Settings) -> tuple[float | None, dict[str, int]]:
    try:
        return estimate.cost(Prices(settings.prices))
    except ModuleNotFoundError:  # without the store's extra
        return None, {each.model: each.jobs for each in estimate.groups}


def _as_dict(found: _DryRun) -> dict[str, object]:
    summary, estimate = found.summary, found.estimate
    return {
        "jobs": summary.jobs,
        "refused": summary.rejected,
        "input_tokens": estimate.input_tokens,
        "max_output_tokens": estimate.max_output_tokens,
        "max_cost": None if found.unpriced else found.dollars,
        "attachments": estimate.attachments,
        "first": [
            {"custom_id": line.custom_id, "params": msgspec.Raw(line.body)}
            | msgspec.to_builtins(line.api)
            for line in found.first
        ],
        "rows_refused": [reject_fields(rejected) for rejected in read_rejects(summary)],
        "warnings": [msgspec.structs.asdict(warned) for warned in summary.warnings],
    }


def _report(found: _DryRun) -> Iterator[str]:
    """Yield the report as text, one paragraph at a time."""
    summary, estimate = found.summary, found.estimate
    for line in found.first:
        body = msgspec.json.format(line.body, indent=2).decode()
        headers = "".join(f"\n{name}: {value}" for name, value in line.api.headers().items())
        yield f'line {line.number}, custom_id "{line.custom_id}":{headers}\n{body}\n'
    bad = counted(summary.rejected, DryRunLabel.BAD_ROW) if summary.rejected else ALL_USABLE
    yield f"{summary.source}: {counted(summary.jobs, 'job')}, {bad}"
    per_token = f"{BYTES_PER_TOKEN} bytes per token"
    yield f"{DryRunLabel.INPUT:7} about {estimate.input_tokens:,} tokens ({per_token})"
    if estimate.attachments:
        attachments = counted(estimate.attachments, DryRunLabel.ATTACHMENT)
        yield f"{'':7} plus {attachments}, whose tokens are not counted"
    tokens = f"{estimate.max_output_tokens:,} tokens"
    yield f"{DryRunLabel.OUTPUT:7} at most {tokens} (when every job uses its max_tokens)"
    yield f"{DryRunLabel.COST:7} {_priced(found)}"
    for warned in summary.warnings:
        yield f"{DryRunLabel.WARNING}: {warned.line()}"
    for mistake in summary.mistakes.lines(summary.jobs + summary.rejected):
        yield f"{DryRunLabel.BAD_ROW}: {mistake}"
    yield "nothing was enqueued: this is a dry run"


def _priced(found: _DryRun) -> str:
    known = f"at most ${found.dollars or 0:,.4f} for these tokens, at list prices"
    if not found.unpriced:
        return known
    models = ", ".join(sorted(found.unpriced))
    unknown = f"no price is known here for {models}"
    jobs = counted(sum(found.unpriced.values()), "job")
    return unknown if found.dollars is None else f"{known}; {unknown} ({jobs})"
