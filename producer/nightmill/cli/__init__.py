"""The `nightmill` command. The client's commands are here; others come through entry points.

Little is imported here: `run` starts a worker process first, and both import their modules then.
"""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from nightmill.safety.streams import drop_output, guard_streams

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

AHEAD: Final = {"run": "nightmill_worker.machine.ahead"}
"""Command -> the module that starts its first process. The client does not import the worker; to
find this by an entry point would take as long as what it gains."""
GC_THRESHOLDS: Final = (10_000, 50, 100)
"""Imports make many objects and no garbage: looking for it took a tenth of their time."""


def main() -> None:
    """Run the `nightmill` command. An error is printed as one line; the exit code is 2."""
    guard_streams()
    gc.set_threshold(*GC_THRESHOLDS)
    _end_at_ctrl_c()
    if sys.argv[1:2] and (module := AHEAD.get(sys.argv[1])):
        with suppress(ImportError, OSError):  # the command says it, or can do without
            import_module(module).start_ahead(sys.argv)
    from nightmill.cli.app import execute  # noqa: PLC0415 - see above

    try:
        execute()
    finally:
        gc.freeze()  # else Python looks for garbage as it ends, which took 0.06 s


def _end_at_ctrl_c() -> None:
    """Let Ctrl-C end what the command does now, also a write to a pipe that nobody reads.

    asyncio would only cancel its main task, which has no effect while the event loop is blocked.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    drop_output()
    signal.default_int_handler(number, frame)
