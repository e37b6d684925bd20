"""Names that clients give, and the names of nightmill behind them. Pure.

Behind every name stands its tenant: `TENANT/NAME`. A tenant's name has no slash, and neither has a
client's, so no client reaches another tenant's jobs, whatever name it gives.
"""

from __future__ import annotations

import re
from typing import Final

A_NAME: Final = "1 to 64 letters, digits, dots, dashes and underscores"
NAME: Final = "[A-Za-z0-9._-]{1,64}"
JOB: Final = f"{NAME}(?::{NAME})?"
CLIENTS: Final = "messages"
"""The name of a tenant's batch of jobs whose clients wait: `POST /v1/messages` makes them."""
_NAME: Final = re.compile(NAME)
_JOB: Final = re.compile(JOB)


def is_name(text: object) -> bool:
    """Tell whether `text` can name a tenant, a batch, or a job within its batch."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_job(text: str) -> bool:
    """Tell whether `text` can be the id of a job: NAME, or BATCH:NAME."""
    return _JOB.fullmatch(text) is not None


def inner(tenant: str, name: str) -> str:
    """Return the name of a batch, or the id of a job, that stands behind a client's."""
    return f"{tenant}/{name}"


def outer(name: str) -> str:
    """Return the client's name for a name of `inner`."""
    return name.partition("/")[2]
