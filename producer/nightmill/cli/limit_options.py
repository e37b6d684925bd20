"""Options that limit a batch, shared by `run`, `enqueue` and `adjust`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.errors import InvalidLimitError

if TYPE_CHECKING:
    from nightmill.records.limits import Change, Limits

Weight = Annotated[
    int | None,
    typer.Option(
        help="Priority over other waiting batches, 1 to 1000: 10 gets ten times the calls of 1.  "
        "[default: 1]"
    ),
]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


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
        from nightmill.records.limits import Change, Limits  # noqa: PLC0415 - `--help` stays fast

        # Limits checks the ranges, so that a bad value fails before anything is started.
        Limits(
            weight=1 if weight is None else weight,
            concurrency=self.concurrency,
            budget_usd=self.budget_usd,
            budget_tokens=self.budget_tokens,
        )
        return Change(
            weight=weight,
            concurrency=self.concurrency,
            expires_s=None if self.expires is None else parse_seconds(self.expires),
            budget_usd=self.budget_usd,
            budget_tokens=self.budget_tokens,
        )


def parse_seconds(text: str) -> float:
    """Read "90m", "24h", "1h30m" as seconds. Raises InvalidLimitError."""
    parts = _TIME.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidLimitError(f"expires: a time such as 90m, 24h or 7d, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def describe(limits: Limits, now: float) -> str:
    """Return `limits` as one line of text; `now` is epoch seconds."""
    from nightmill.reports.progress import dollars, duration  # noqa: PLC0415

    parts = [f"weight {limits.weight}"]
    if limits.concurrency is not None:
        parts.append(f"{limits.concurrency:,} in flight at most")
    if limits.expires_at is not None:
        parts.append(f"expires in {duration(max(0, limits.expires_at / 1000 - now))}")
    if limits.budget_usd is not None:
        parts.append(f"{dollars(limits.budget_usd)} at most")
    if limits.budget_tokens is not None:
        parts.append(f"{limits.budget_tokens:,} tokens at most")
    return ", ".join(parts)
