"""Options of `retry` that say which ended jobs of a batch run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.errors import SettingsError
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import TRUNCATED
from nightmill.records.turn import TRUNCATED as CUT

if TYPE_CHECKING:
    from nightmill.maintenance.requeue import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichOptions:
    """Which jobs: one of these, or none for all that failed."""

    error: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Only jobs that failed with this error type.")
    ] = None
    truncated: Annotated[
        bool,
        typer.Option("--truncated", help="Jobs whose answer was cut at max_tokens; needs --set."),
    ] = False
    stop_reason: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Jobs whose answer has this stop reason: refusal ..."),
    ] = None
    cancelled: Annotated[
        bool,
        typer.Option("--cancelled", help="Cancelled jobs; a cancelled batch goes on with them."),
    ] = False
    expired: Annotated[bool, typer.Option("--expired", help="Jobs that expired.")] = False

    def require(self, patch: dict[str, object]) -> None:
        """Raise SettingsError for two selections, and for cut answers without a change.

        The same request would be cut at the same place, and paid for again.
        """
        given = {
            "--error": self.error,
            "--truncated": self.truncated,
            "--stop-reason": self.stop_reason,
            "--cancelled": self.cancelled,
            "--expired": self.expired,
        }
        names = [name for name, value in given.items() if value]
        if len(names) > 1:
            raise SettingsError(f"{' and '.join(names)}: give one of them, run the command twice")
        if (self.stopped_with == TRUNCATED or self.error == CUT) and not patch:
            name = f"--stop-reason {TRUNCATED}" if self.stop_reason else "--truncated"
            name = f"--error {CUT}" if self.error else name
            raise SettingsError(
                f"{name}: the same request would be cut again; add --set max_tokens=N, more than "
                "before"
            )

    @property
    def stopped_with(self) -> str | None:
        """The stop reason that is selected."""
        return TRUNCATED if self.truncated else self.stop_reason

    @property
    def noun(self) -> str:
        """What the selected jobs are called."""
        if self.stopped_with is not None:
            return f"{self.stopped_with} answer"
        if self.cancelled or self.expired:
            return f"{'cancelled' if self.cancelled else 'expired'} job"
        return "failed job"

    def selection(self) -> Selection:
        """Return the jobs that were selected."""
        from nightmill.maintenance.requeue import Selection  # noqa: PLC0415 - `--help` stays fast

        if self.stopped_with is not None:
            answered = frozenset({JobState.SUCCEEDED, JobState.FAILED})
            return Selection(statuses=answered, stop_reason=self.stopped_with)
        if self.cancelled:
            return Selection(statuses=frozenset({JobState.CANCELLED}))
        if self.expired:
            return Selection(statuses=frozenset({JobState.EXPIRED}))
        return Selection(error=self.error)
