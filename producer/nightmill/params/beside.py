"""What a job may have beside its request: the API version and the betas, checked at the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nightmill.params.refusal import refused
from nightmill.records.api import (
    A_BETA,
    A_VERSION,
    MOST_BETAS,
    NO_API,
    Api,
    is_beta,
    is_version,
)

VERSION: Final = "anthropic_version"
BETA: Final = "anthropic_beta"
BESIDE: Final = frozenset({VERSION, BETA})
"""Fields beside a request, in a line and in a payload."""


def api_in(fields: Mapping[str, object]) -> Api:
    """Return the version and the betas among `fields`; a field without a value counts as absent.

    Raises InvalidParamsError that names the field.
    """
    if BESIDE.isdisjoint(fields):
        return NO_API
    return api_of(fields.get(VERSION), fields.get(BETA))


def api_of(version: object, betas: object, *, names: tuple[str, str] = (VERSION, BETA)) -> Api:
    """Return the version and the betas that a caller gives; None, "" and () are nothing.

    `betas` is a list of names, or a text with commas between them. Raises InvalidParamsError: a
    header must not be made of a value that would begin another one. `names` are the fields that
    the error names.
    """
    if version in (None, "") and betas in (None, "", [], ()):
        return NO_API
    if version in (None, ""):
        version = None
    elif not is_version(version):
        raise refused(names[0], version, A_VERSION)
    found = _names(betas)
    if found is None:
        raise refused(names[1], betas, "a list of names, or a text with commas between them")
    for index, name in enumerate(found):
        if not is_beta(name):
            where = names[1] if isinstance(betas, str) else f"{names[1]}.{index}"
            raise refused(where, name, A_BETA)
    if len(found) > MOST_BETAS:
        raise refused(names[1], betas, f"at most {MOST_BETAS} names")
    return Api(anthropic_version=version, anthropic_beta=tuple(dict.fromkeys(found)))  # type: ignore[arg-type]


def _names(betas: object) -> list[object] | None:
    """Return the names in a list or a text; None for another type."""
    if betas is None:
        return []
    if isinstance(betas, str):
        return [name.strip() for name in betas.split(",") if name.strip()]
    return list(betas) if isinstance(betas, list | tuple | set | frozenset) else None
