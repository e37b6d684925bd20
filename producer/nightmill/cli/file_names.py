"""Names of files that commands make of a batch's name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 200
"""Longest name of such a file. Disks take 255, and an export writes to a longer name first."""
HASH_CHARS: Final = 12


def file_of(batch: str, suffix: str) -> Path:
    """Return the file `<batch><suffix>` of the working directory; it is never in another one.

    A name may be any text: a / in it becomes %2F, and a name that is too long for a file is cut.
    """
    name = batch.replace("/", "%2F").replace("\0", "%00")
    encoded = os.fsencode(name)
    room = MAX_BYTES - len(os.fsencode(suffix))
    if len(encoded) > room:
        digest = hashlib.sha256(os.fsencode(batch)).hexdigest()[:HASH_CHARS]
        name = f"{encoded[: room - HASH_CHARS - 1].decode(errors='ignore')}-{digest}"
    return Path(name + suffix)
