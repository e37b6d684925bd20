"""The media type of a file, by its first bytes. No I/O."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 1024
"""Bytes of a file that show its type. PDF readers look for `%PDF-` in as many."""

PDF: Final = "application/pdf"

_STARTS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_OTHER_STARTS: Final = {
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\1\0": "ICO",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"PK\3\4": "ZIP (Office files are ZIP too)",
    b"\xd0\xcf\x11\xe0": "an old Office format",
    b"{\\rtf": "RTF",
}
_BRANDS: Final = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF"}


def media_type_of(head: bytes) -> str | None:
    """Return the type of an image or a PDF that begins with `head`; None for any other file."""
    for start, media_type in _STARTS.items():
        if head.startswith(start):
            return media_type
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return PDF if b"%PDF-" in head[:HEAD_BYTES] else None


def other_type_of(head: bytes) -> str | None:
    """Return the name of a type that no endpoint takes, when it is known by its first bytes."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video or MP4")
    return next((name for start, name in _OTHER_STARTS.items() if head.startswith(start)), None)
