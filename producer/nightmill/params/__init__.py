"""The Messages request contract: a request is checked before it is enqueued or paid.

`request.check` is the entry. `rules` holds the contract, `refusal` writes the errors, and `files`
finds the attachments that a request refers to. Unknown fields are sent with a warning, or refused
where a user may have mistyped them.
"""

from nightmill.params.files import MARK, Reference, references
from nightmill.params.names import closest
from nightmill.params.refusal import MAX_DEPTH, dotted, refused
from nightmill.params.request import Checked, Defaults, check, decode, recheck
from nightmill.params.rules import FIELDS, KNOWN, unknown_field

__all__ = [
    "FIELDS",
    "KNOWN",
    "MARK",
    "MAX_DEPTH",
    "Checked",
    "Defaults",
    "Reference",
    "check",
    "closest",
    "decode",
    "dotted",
    "recheck",
    "references",
    "refused",
    "unknown_field",
]
