"""The SQL that finds what creates of Message Batches left that broke off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nightmill.store.connection import Connection

# A batch may have 100,000 requests: each next batch is looked up in the index.
_REMAINS: Final = (
    "WITH RECURSIVE names(batch) AS ("
    "SELECT min(batch) FROM requests WHERE batch >= :since AND batch < :before UNION ALL "
    "SELECT (SELECT min(r.batch) FROM requests r WHERE r.batch > names.batch "
    "AND r.batch < :before) FROM names WHERE batch IS NOT NULL) "
    # A NOT EXISTS would be joined: PostgreSQL reads all batches for that.
    "SELECT batch FROM names WHERE batch IS NOT NULL AND "
    "(SELECT count(*) FROM message_batches b WHERE b.batch = names.batch) = 0 ORDER BY batch"
)


def remains(connection: Connection, before: str, since: str) -> list[str]:
    """Return the ids from `since` on and below `before` of requests without their batch."""
    found = connection.rows(_REMAINS, {"since": since, "before": before})
    return [str(name) for (name,) in found]
