"""The counters of all processes of a command, read from their files at each scrape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProcessesCollector(MultiProcessCollector):
    """Adds up the files, but for those that have no content yet.

    A process makes a file and then gives it its first page. Between the two, prometheus_client
    cannot read it, and answers a scrape with status 500: once, or, when the process was killed
    there, until the command ends.
    """

    def __init__(self, folder: str) -> None:
        """Take the folder of the files."""
        super().__init__(None, folder)  # type: ignore[no-untyped-call]
        self._folder = Path(folder)

    def collect(self) -> Iterable[Any]:
        """Return the metrics."""
        files = [str(each) for each in self._folder.glob("*.db") if _begun(each)]
        found: Iterable[Any] = self.merge(files)  # type: ignore[no-untyped-call]
        return found


def _begun(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # a gauge of a process that has ended
        return False
