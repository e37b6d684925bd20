"""`nightmill wait`: wait until every job of a batch has its stored result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo, echo_json
from nightmill.errors import BatchStoppedError, BatchTimeoutError

if TYPE_CHECKING:
    from nightmill.reports.view import View
    from nightmill.settings import Settings

SOME_FAILED: Final = 1
STOPPED: Final = 3
TIMED_OUT: Final = 124


def wait(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to wait for.")],
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Longest wait, seconds.  [default: no limit]")
    ] = None,
    keep_waiting: Annotated[
        bool,
        typer.Option(
            "--keep-waiting", help="Wait on when the batch is paused or its account is stopped."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Wait until every job of a batch has its stored result.

    A batch is done when the results store has a row of every job; where this machine has no store,
    when Redis has counted them.

    Exit codes: 0 all succeeded, 1 some failed, were cancelled or expired, 2 bad usage or no such
    batch, 3 the batch is paused, its account is stopped, jobs were lost or its source was not fed
    to its end, 124 timeout, 130 Ctrl-C.

    For example:

    nightmill wait prompts && nightmill results prompts -o results.jsonl

    nightmill wait prompts --timeout 3600 --json
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        code, view = asyncio.run(_wait(settings, batch, timeout, keep_waiting=keep_waiting))
    if json:
        echo_json(view.to_json())
    else:
        echo(_summary(view, batch))
    raise typer.Exit(code)


async def _wait(
    settings: Settings,
    name: str,
    timeout: float | None,  # noqa: ASYNC109 - Batch.wait keeps it
    *,
    keep_waiting: bool,
) -> tuple[int, View]:
    from nightmill.cli.live import showing  # noqa: PLC0415
    from nightmill.cli.session import open_batches  # noqa: PLC0415
    from nightmill.client.batch import Batch  # noqa: PLC0415
    from nightmill.client.corrected import Corrections  # noqa: PLC0415
    from nightmill.reports.view import look  # noqa: PLC0415

    async with open_batches(settings) as batches:
        corrections = Corrections(batches, settings)
        await corrections.one(name)  # a name that nobody knows is an error at once
        try:
            async with showing(batches, name, settings):
                counts = await Batch(batches, name, settings).wait(
                    timeout, keep_waiting=keep_waiting
                )
        except (BatchStoppedError, BatchTimeoutError) as error:
            echo(f"error: {error}", err=True)
            code = STOPPED if isinstance(error, BatchStoppedError) else TIMED_OUT
        else:
            code = SOME_FAILED if counts.terminal > counts.succeeded else 0
        return code, await look(batches, name, corrections)


def _summary(view: View, batch: str) -> str:
    """Return how the jobs of the batch ended, and why those that are left may not end."""
    from nightmill.records.stop_reasons import shown  # noqa: PLC0415 - `--help` stays fast
    from nightmill.reports.labels import NO_WORKER  # noqa: PLC0415
    from nightmill.reports.progress import counted  # noqa: PLC0415

    counts = view.counts[batch]
    ends = {name: getattr(counts, name) for name in ("failed", "cancelled", "expired")}
    left = max(counts.accepted, counts.total or 0) - counts.terminal
    stops = shown(counts.stop_reasons)
    parts = [f"{counts.succeeded:,} succeeded" + (f" ({stops})" if stops else "")]
    parts += [f"{number:,} {name}" for name, number in {**ends, "left": left}.items() if number]
    running = view.workers(batch)
    about = f"; {counted(running, 'worker')} running" if left and running else ""
    return f"{batch}: {', '.join(parts)}" + (f"; {NO_WORKER}" if view.idle(batch) else about)
