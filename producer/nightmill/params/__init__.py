"""The Messages request contract: a request is checked before it is enqueued or paid.

`request.check` is the entry. `rules` holds the contract, `refusal` writes the errors, and `files`
finds the attachments that a request refers to. Unknown fields are sent with a warning, or refused
where a user may have mistyped them.
"""

from nightmill.params.beside import BESIDE, api_in, api_of
from nightmill.params.files import IMAGE_TYPES, MARK, Reference, references
from nightmill.params.media import HEAD_BYTES, PDF, media_type_of, other_type_of
from nightmill.params.names import closest
from nightmill.params.preflight import Preflight, is_provider
from nightmill.params.refusal import MAX_DEPTH, dotted, refused
from nightmill.params.request import Checked, Defaults, check, decode, recheck
from nightmill.params.rules import FIELDS, KNOWN, unknown_field

__all__ = [
    "BESIDE",
    "FIELDS",
    "HEAD_BYTES",
    "IMAGE_TYPES",
    "KNOWN",
    "MARK",
    "MAX_DEPTH",
    "PDF",
    "Checked",
    "Defaults",
    "Preflight",
    "Reference",
    "api_in",
    "api_of",
    "check",
    "closest",
    "decode",
    "dotted",
    "is_provider",
    "media_type_of",
    "other_type_of",
    "recheck",
    "references",
    "refused",
    "unknown_field",
]
