"""Checks a Messages request that came over HTTP. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidParamsError, PayloadTooLargeError
from nightmill.params import MARK, Defaults, check, references, refused
from nightmill.params.refusal import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping

BETAS: Final = ("anthropic_beta", "betas")
"""Fields that some endpoints take betas from: a key's limit is for the header alone."""

MODEL: Final = r"[^\u0000-\u001f\u007f-\u009f]{1,256}"
_MODEL: Final = re.compile(MODEL)
_A_MODEL: Final = "1 to 256 characters, none of them a control character"


def checked_params(
    given: object, defaults: Defaults, *, below: str = "", streams: bool = False
) -> tuple[str, bytes]:
    """Return the model and the body of a Messages request that came over HTTP.

    A client must name what the API asks for; files of the workers' machines are not for it. An
    error names the field, below the field `below`. Only what `streams` may ask for a stream.
    """
    if not isinstance(given, dict):
        raise refused(below, given, "an object, the Messages request")
    try:
        return _checked_params(given, defaults, streams=streams)
    except PayloadTooLargeError:
        raise
    except InvalidParamsError as error:
        field = ".".join(filter(None, (below, error.field)))
        raise InvalidParamsError(field, error.problem) from None


def _checked_params(
    given: Mapping[str, object], defaults: Defaults, *, streams: bool
) -> tuple[str, bytes]:
    for name in ("model", "max_tokens", "messages"):
        if name not in given:
            raise refused(name, MISSING, "as in the Messages API")
    for name in BETAS:
        if name in given:
            raise refused(name, given[name], "the header anthropic-beta instead")
    if given.get("stream") and not streams:
        raise refused("stream", given["stream"], "false: this result is read later, whole")
    checked = check(given, defaults)
    if not _MODEL.fullmatch(checked.model):
        raise refused("model", checked.model, _A_MODEL)
    if MARK in checked.body:
        for found in references(msgspec.json.decode(checked.body)):
            raise refused(found.path, {"$file": found.file}, "base64: files are not read over HTTP")
    return checked.model, checked.body
