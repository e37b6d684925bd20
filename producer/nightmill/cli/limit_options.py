"""Options that limit a batch, shared by `run`, `enqueue` and `adjust`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nightmill.records.limits import Change

Weight = Annotated[
    int | None,
    typer.Option(
        help="Priority over other waiting batches, 1 to 1000: 10 gets ten times the calls of 1.  "
        "[default: 1]"
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """The limits of a batch."""

    concurrency: Annotated[
        int | None, typer.Option(help="Most calls of this batch in flight, over all workers.")
    ] = None
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="From now, as 90m, 24h or 7d: jobs that are not called by then expire.",
        ),
    ] = None
    budget_usd: Annotated[
        float | None,
        typer.Option(help="Most dollars the batch may cost; it pauses before it costs more."),
    ] = None
    budget_tokens: Annotated[
        int | None, typer.Option(help="Most input and output tokens the batch may use.")
    ] = None

    def change(self, weight: int | None = None) -> Change:
        """Return the limits that were given. Raises InvalidLimitError that names one."""
        from nightmill.records.limits import Change, parse_seconds  # noqa: PLC0415 - `--help` stays fast

        change = Change(
            weight=weight,
            concurrency=self.concurrency,
            expires_s=None if self.expires is None else parse_seconds(self.expires),
            budget_usd=self.budget_usd,
            budget_tokens=self.budget_tokens,
        )
        change.require()
        return change
