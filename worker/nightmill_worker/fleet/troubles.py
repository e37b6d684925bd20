"""What keeps a worker from going on as it should, on one line, for its sign of life."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.safety.redaction import Secrets
    from nightmill_worker.completion.committer import Committer
    from nightmill_worker.fleet.claims import Claims
    from nightmill_worker.jobs.defects import Defects
    from nightmill_worker.queue.scripts import Scripts


def trouble_of(
    committer: Committer, claims: Claims, scripts: Scripts, defects: Defects, secrets: Secrets
) -> str:
    """Return the problems of the parts of one worker, "" for none."""
    known = {
        "store away": committer.store_problem or claims.store_problem,
        "spool failed": committer.spool_problem,
        "Redis fails": scripts.problem,
        "claims held": defects.problem,
    }
    texts = (f"{name}: {' '.join(text.split())[:300]}" for name, text in known.items() if text)
    return secrets.hidden("; ".join(texts))
