"""The identity of what a source says: the same identity means the same jobs, line by line."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nightmill.sources.opening import is_url

if TYPE_CHECKING:
    from nightmill.params import Defaults
    from nightmill.sources.source import Source

_PLACES = ("location", "name")
"""Fields of a Source that say where it is, not what it says."""


def content_of(source: Source, defaults: Defaults) -> str | None:
    """Return a hash of the file's bytes and of all that makes jobs of them, 32 hex digits.

    Reading a file takes a second for each GB or two. None for what is not one local file: a
    stream, a URL, a folder; also for a file that cannot be read.
    """
    path = Path(source.location)
    if source.once or is_url(source.location) or not path.is_file():
        return None
    how = {name: getattr(source, name) for name in source.__struct_fields__ if name not in _PLACES}
    given = msgspec.json.encode([version("nightmill"), how, defaults.unexamined()], enc_hook=repr)
    digest = hashlib.blake2b(given, digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
