"""`nightmill doctor`: check Redis, the store, the endpoint and the credential; print the fixes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from nightmill.cli.terminal import echo

PROBLEM_FOUND: Final = 2


def doctor(
    redis_url: Annotated[
        str | None, typer.Option(help="Redis URL. Default: the embedded Valkey.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint, with or without /v1.")] = None,
    accept_store: Annotated[
        bool,
        typer.Option(
            "--accept-store",
            help="Use this results store with this Redis from now on, in place of another one.",
        ),
    ] = False,
) -> None:
    """Check Redis, the store, the endpoint and the key, for free.

    One Redis is used with one results store: a worker or a command with another one is refused.
    After the store was moved or lost, stop all workers and give --accept-store.

    Exit codes: 0 all checks passed, 2 a check failed.

    For example:

    nightmill doctor

    nightmill doctor --redis-url redis://localhost:6379 --base-url http://127.0.0.1:8399
    """
    from nightmill.cli.console import VisibleConsole  # noqa: PLC0415 - `--help` stays fast
    from nightmill.safety.redaction import Secrets  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415
    from nightmill_worker.cli.examine import accept_store as accept  # noqa: PLC0415
    from nightmill_worker.cli.examine import examine  # noqa: PLC0415

    settings = load_settings(redis_url=redis_url, base_url=base_url)
    if accept_store:
        echo(f"this Redis is used with {asyncio.run(accept(settings))} from now on")
    findings = asyncio.run(examine(settings))
    out, hidden = VisibleConsole(soft_wrap=True), Secrets.of(settings).hidden
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]FAIL[/]"
        if finding.warns:
            mark = "[yellow]warn[/]"
        out.print(f"{mark} {finding.what}: ", end="", markup=True)
        out.print(hidden(finding.observed))
        if finding.fix:
            out.print(f"     fix: {hidden(finding.fix)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(PROBLEM_FOUND)
