"""A stored request with the changes of a retry. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nightmill.params import decode


def patched(
    params: bytes | msgspec.Raw, patch: Mapping[str, object]
) -> Mapping[str, object] | bytes | msgspec.Raw:
    """Return a request with the fields of `patch`, and without those that are None in it."""
    if not patch:
        return params
    request = decode(params)
    if not isinstance(request, dict):
        return params  # `check` raises the error
    removed = {name for name, value in patch.items() if value is None}
    return {name: value for name, value in {**request, **patch}.items() if name not in removed}
