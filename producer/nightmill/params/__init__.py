"""The Messages request contract: what may be enqueued, checked before it costs anything.

`check` is the one entry; `refusal` says what is wrong, `rules` holds the contract itself,
`request` applies it, and `files` finds the attachments that a request refers to. Fields that the
contract does not know are passed through untouched.
"""

from nightmill.params.files import MARK, Reference, references
from nightmill.params.refusal import MAX_DEPTH, dotted, refused
from nightmill.params.request import Checked, Defaults, check, decode, recheck
from nightmill.params.rules import FIELDS

__all__ = [
    "FIELDS",
    "MARK",
    "MAX_DEPTH",
    "Checked",
    "Defaults",
    "Reference",
    "check",
    "decode",
    "dotted",
    "recheck",
    "references",
    "refused",
]
