"""What `run` says at its end: the summary, why it stopped, what to do next. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from nightmill.queue import webhooks
from nightmill.queue.stops import RESUME
from nightmill.records.stop_reasons import shown
from nightmill.reports.failures import shortened
from nightmill.reports.progress import counted, dollars, duration, short, wasted
from nightmill_worker.machine.local_run import End

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.counts import Counts
    from nightmill.reports.failures import Failure
    from nightmill_worker.machine.local_run import Ending

AGAIN: Final = "run the same command again"
ALIKE: Final = " jobs in a row failed alike: "
"""Between the number and the error in the reason of a batch that its canary paused (finish.lua)."""
UNMEASURED_MS: Final = 30_000
"""While jobs waited for less time, milliseconds, the share of the limit says nothing."""
REASONS: Final = 5
LONGEST: Final = 300
"""Characters of a message that are shown; `nightmill errors` has all of it."""
_MINUTE_S: Final = 60
_BUDGET_FACTOR: Final = 2
"""The budget that is suggested when one is used up, as a multiple of it or of what is spent."""


def summary(
    ending: Ending, batch: str, took_s: float, refused: int, *, rehearsal: bool
) -> list[str]:
    """Return how the jobs of the batch ended and what that cost; `refused` calls were 429s."""
    counts = ending.counts
    stops = shown(counts.stop_reasons)
    parts = [f"{counts.succeeded:,} succeeded" + (f" ({stops})" if stops else "")]
    parts.append(f"{counts.failed:,} failed")
    rare = {"cancelled": counts.cancelled, "expired": counts.expired, "left": left(counts)}
    parts += [f"{number:,} {name}" for name, number in rare.items() if number]
    ends = ", ".join(parts)
    if ending.earlier:
        ends += f": {_earlier(ending)}"
    took = _took(took_s)
    tokens = f"{short(counts.input_tokens)} tokens in, {short(counts.output_tokens)} out"
    cost = "cost unknown" if counts.cost is None else dollars(counts.cost)
    refusals = f"{_refusals(refused).capitalize()}."
    if share := _share(counts):
        refusals += f" {share} of the rate limit used."
    if rehearsal:
        paid = f"these tokens would have cost {dollars(counts.cost)} at list prices."
        return [
            f"{batch}: {ends}, in {took}. {tokens}. {refusals}",
            f"REHEARSAL, nothing was paid: {paid}",
        ]
    if lost := wasted(counts):
        cost += f", {lost}"
    return [f"{batch}: {ends}, in {took}. {tokens}, {cost}. {refusals}"]


def ran(ending: Ending, took_s: float) -> str:
    """Return how the run ended and how long it took, such as "done in 31 s"."""
    words = {
        End.DONE: "done in",
        End.STOPPED: "stopped after",
        End.INTERRUPTED: "interrupted after",
    }
    earlier = f" ({_earlier(ending)})" if ending.earlier else ""
    return f"{words[ending.end]} {_took(took_s)}{earlier}"


def limit_used(counts: Counts, refused: int) -> str:
    """Return the used share of the rate limit, and how many calls it refused."""
    share = _share(counts) or "not measured: no job waited for the limit for 30 s"
    return f"{share}; {_refusals(refused)}"


def _took(took_s: float) -> str:
    return f"{took_s:.0f} s" if took_s < _MINUTE_S else duration(took_s)


def _earlier(ending: Ending) -> str:
    now = max(0, ending.counts.terminal - ending.earlier)
    return f"{ending.earlier:,} from earlier runs, {now:,} called now"


def _share(counts: Counts) -> str:
    """Return the used share of the limit, "" when the jobs hardly waited for it."""
    if counts.utilisation is None or counts.metered_ms < UNMEASURED_MS:
        return ""
    return f"{counts.utilisation:.1%}"


def _refusals(refused: int) -> str:
    if not refused:
        return "no rate-limit refusals"
    return f"{counted(refused, 'rate-limit refusal')} (429)"


def reasons(groups: Sequence[Failure]) -> list[str]:
    """Return the failures and the answers that are not whole by reason, with what fixes them."""
    lines = []
    for each in groups[:REASONS]:
        lines.append(f"  {reason(each)}")
        lines.append(f"    {each.fix}, then: {each.command}" if each.fix else f"    {each.command}")
    return lines + more(groups)


def more(groups: Sequence[Failure]) -> list[str]:
    """Return how many reasons, of how many jobs, are not among the first REASONS."""
    rest = groups[REASONS:]
    jobs = counted(sum(each.count for each in rest), "job")
    return [f"  and {counted(len(rest), 'more reason')} ({jobs})"] if rest else []


def reason(group: Failure) -> str:
    """Return how many jobs failed why."""
    return f"{group.count:,} x {group.type}: {shortened(group.message, LONGEST)}"


def advice(ending: Ending, batch: str, *, clean: bool) -> list[str]:
    """Return what to do next, if there is anything; `clean`: all workers stopped cleanly."""
    counts, lines = ending.counts, []
    if ending.lost:
        lines.append(f"Redis lost jobs: {ending.lost:,} without a row were fed again")
    if ending.end is End.STOPPED:
        lines += _stopped(ending, batch)
    if ending.end is End.INTERRUPTED:
        lost = ", nothing is lost" if clean else ""
        lines.append(f"interrupted{lost}: {AGAIN} to go on")
    if counts.webhook:
        lines.append(f"webhook: {webhooks.describe(webhooks.decode(counts.webhook))}")
    if counts.failed or shown(counts.stop_reasons):
        lines.append(f"All reasons, each with an example: nightmill errors {shlex.quote(batch)}")
    return lines


def _stopped(ending: Ending, batch: str) -> list[str]:
    """Return why the run stopped, and what to do about it."""
    counts = ending.counts
    if counts.held and ALIKE in counts.reason:
        return _alike(counts, batch)
    kept = f"All {counted(number, 'job')} are kept." if (number := left(counts)) else ""
    kept = kept.replace("All 1 job are", "The 1 job left is")
    if counts.flag == "budget":
        return [f"stopped: {_budget(counts)} {kept}".rstrip()]
    if counts.held:
        return [f"stopped: paused: {ending.reason}", f"nothing is lost: fix that and {AGAIN}"]
    if RESUME in ending.reason:  # `run` lets a stopped account try again by itself
        return [f"stopped: {ending.reason.replace(RESUME, AGAIN)}. {kept}".rstrip()]
    return [f"stopped: {ending.reason}", f"nothing is lost: fix that and {AGAIN}"]


def _alike(counts: Counts, batch: str) -> list[str]:
    """Return that the canary paused the batch, and what the queued jobs still ask."""
    number, _, error = counts.reason.partition(ALIKE)
    many = f"{number} failures in a row with the same error"
    lines = [f"stopped after {many}, before spending more: {error}"]
    lines.append(f"Look: nightmill errors {shlex.quote(batch)}")
    if counts.waiting:
        jobs = "job still has" if counts.waiting == 1 else "jobs still have"
        old = f"The {counts.waiting:,} queued {jobs} the OLD request"
        lines.append(f"{old}; --changed rerun replaces them.")
    return lines


def _budget(counts: Counts) -> str:
    """Return that the budget is used up, and the option that raises it."""
    limits, reason = counts.limits, counts.reason
    if limits.budget_usd is not None and counts.unpriced and limits.budget_tokens is None:
        return f"{reason}. {AGAIN.capitalize()} with --budget-tokens N."
    if limits.budget_usd is not None and "$" in reason:
        option = f"--budget-usd {_BUDGET_FACTOR * max(limits.budget_usd, counts.cost or 0):.3g}"
    else:
        used = counts.input_tokens + counts.output_tokens
        option = f"--budget-tokens {_BUDGET_FACTOR * max(limits.budget_tokens or 0, used)}"
    return f"the budget is used up. {reason}. Raise it: {AGAIN} with {option}."


def left(counts: Counts) -> int:
    """Return how many jobs have no result."""
    return max(counts.accepted, counts.total or 0) - counts.terminal
