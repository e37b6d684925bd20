"""Images of a request: which ones are shown, and each as an answer of its own. Pure."""

from __future__ import annotations

import binascii
from typing import Final

import msgspec
from aiohttp import web

LARGEST: Final = 5_000_000
"""Largest image that is shown, bytes."""
_BEGINNINGS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
"""How files of the types that are shown begin: raster images, which hold no script."""
_SEALED: Final = "default-src 'none'; sandbox"
"""The policy of the answer: opened by itself it runs and loads nothing."""


class Image(msgspec.Struct, frozen=True):
    """A raster image."""

    kind: str
    """Its media type, by its content: what the request says about it is not believed."""
    body: bytes


def image_of(data: str) -> Image | str:
    """Return the image in base64, or why it is not shown."""
    if len(data) > LARGEST * 4 // 3 + 4:
        return "too large to be shown here"
    try:
        body = binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        return "it is no base64"
    for beginning, kind in _BEGINNINGS.items():
        if body.startswith(beginning):
            return Image(kind, body)
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return Image("image/webp", body)
    return "it is no PNG, JPEG, GIF or WebP image"


def answer_with(image: Image) -> web.Response:
    """Return an image as an answer that is an image only, whatever else it may look like."""
    return web.Response(
        body=image.body,
        content_type=image.kind,
        headers={"Content-Security-Policy": _SEALED, "X-Content-Type-Options": "nosniff"},
    )
