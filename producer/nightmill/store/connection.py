"""What the statements need of a database: a function is run over a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import sqlalchemy

T = TypeVar("T")

ANSWER_S: Final = 10.0
"""A server that takes longer for a look-up or a small commit is away, seconds."""
SCAN_S: Final = 300.0
"""The same for work that reads all rows of a batch, seconds."""

USE: Final = "use sqlite:///path or postgresql://..."
"""What STORE_URL may be."""


class Row(Protocol):
    """One row: its values by name."""

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401 - as the column has it
        """Return the value of the column `name`."""
        ...


class Connection(Protocol):
    """A connection within one transaction. A statement has its values by name, as `:name`."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which of the two databases it is, where their SQL differs."""
        ...

    def rows(self, sql: str, values: Mapping[str, object] = ...) -> Sequence[Sequence[Any]]:
        """Return the rows of a query, each with its values in order."""
        ...

    def named(self, sql: str, values: Mapping[str, object] = ...) -> Sequence[Row]:
        """Return the rows of a query, each with its values by name."""
        ...

    def change(self, sql: str, values: Mapping[str, object] = ...) -> int:
        """Run any other statement; return how many rows it changed."""
        ...

    def change_each(self, sql: str, values: Sequence[Sequence[object]]) -> int:
        """Run a statement with `?` for each of `values`; return how many rows changed. SQLite."""
        ...

    def alchemy(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """Yield SQLAlchemy's connection in the same transaction, for migrations."""
        ...


class Database(Protocol):
    """A database that runs functions over a Connection."""

    where: str
    """Its URL, without the password."""
    opened: bool
    """Set once its schema is ready: from then on, errors that are not about a row mean "away"."""

    async def run(
        self, work: Callable[[Connection], T], *, write: bool = False, within_s: float = SCAN_S
    ) -> T:
        """Return what `work` returns, in one transaction; without `write` it must only read.

        Raises StoreUnavailableError or StoreError for what the database raises, and
        StoreUnavailableError when a server has not answered within `within_s` seconds.
        """
        ...

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns: a read of a few hundred keys. Raises as `run` does."""
        ...

    async def close(self) -> None:
        """Close every connection, after the work that has started."""
        ...
