"""The Messages request contract: a request is checked before it is enqueued or paid.

`request.check` is the entry. `rules` holds the contract, `refusal` writes the errors, and `files`
finds the attachments that a request refers to. Fields that the contract does not name pass
unchanged.
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
