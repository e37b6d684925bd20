"""Shows characters that would control a terminal, or reorder what it shows, as text.

Ids, answers, errors and file names come from outside. A terminal that gets them as they are may
change its title or clipboard, or show a line that is not there.
"""

from __future__ import annotations

import re
from typing import Final

# The controls of ASCII but tab and newline, C1, line and paragraph separators, bidirectional
# embeddings, overrides and isolates, and halves of surrogate pairs, which no terminal gets encoded.
_CONTROLS: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BYTE: Final = 0x100


def visible(text: str) -> str:
    """Return `text` with every such character as text. Tabs and newlines stay."""
    return text if text.isascii() and text.isprintable() else _CONTROLS.sub(_as_text, text)


def visible_json(text: str) -> str:
    """Return a JSON text of the same value, with every such character as an escape of JSON.

    Line endings stay: JSON has them between its values only.
    """
    return _CONTROLS.sub(_as_escape, text)


def _as_text(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < _BYTE else f"\\u{code:04x}"


def _as_escape(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\r" else f"\\u{ord(found[0]):04x}"
