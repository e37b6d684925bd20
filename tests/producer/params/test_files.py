"""Attachments by reference: where a request may have `$file`, and where not."""

from __future__ import annotations

import json
from typing import Final

import pytest

from nightmill.params import check
from tests.producer.params.test_params import DEFAULTS, blocks, image, refusal, request

PICTURE: Final = {"type": "base64", "media_type": "image/png", "data": {"$file": "a.png"}}


def test_a_file_may_stand_for_the_data_of_a_source() -> None:
    """Images and documents, also in a tool's result. The reference itself is enqueued."""
    paper = {"type": "base64", "media_type": "application/pdf", "data": {"$file": "s3://b/a.pdf"}}
    text = {"type": "text", "media_type": "text/plain", "data": {"$file": "/d/a.txt"}}
    inner = {"type": "content", "content": [{"type": "image", "source": PICTURE}]}
    result = [{"type": "image", "source": PICTURE}]
    params = blocks(
        *({"type": "document", "source": source} for source in (paper, text, inner)),
        {"type": "tool_result", "tool_use_id": "t", "content": result},
    )
    assert json.loads(check(params, DEFAULTS).body)["messages"] == params["messages"]


@pytest.mark.parametrize(
    "data", [{"$file": ""}, {"$file": 1}, {"$file": "a", "more": 1}, {}, {"file": "a"}, ["$file"]]
)
def test_a_reference_is_one_string_and_nothing_else(data: object) -> None:
    """A malformed reference would be sent as it is, and paid."""
    error = refusal(image(**{**PICTURE, "data": data}))
    assert error.field.startswith("messages.0.content.0.source.data")


@pytest.mark.parametrize(
    ("where", "params"),
    [
        ("messages.0.content.0.source.url", image(type="url", url={"$file": "a.png"})),
        ("messages.0.content.0.source.$file", image(type="file", **{"$file": "a.png"})),
        ("messages.0.content.0.text", blocks({"type": "text", "text": {"$file": "a.txt"}})),
        ("messages.0.content.0.source.data.$file", blocks({"type": "newer", "source": PICTURE})),
        (
            "system.0.source.data.$file",
            request(system=[{"type": "text", "text": "x", "source": PICTURE}]),
        ),
        ("metadata.$file", request(metadata={"$file": "a"})),
        (
            "messages.0.content.0.input.picture.source.data.$file",
            blocks(
                {
                    "type": "tool_use",
                    "id": "1",
                    "name": "n",
                    "input": {"picture": {"source": PICTURE}},
                }
            ),
        ),
    ],
)
def test_a_reference_elsewhere_is_refused(where: str, params: dict[str, object]) -> None:
    """Workers put no file there."""
    assert refusal(params).field == where


def test_a_reference_names_a_type_that_can_be_checked() -> None:
    """A worker compares the file with the media type before the call."""
    assert refusal(image(**{**PICTURE, "media_type": "application/pdf"})).field.endswith(
        "media_type"
    )
    paper = {"type": "base64", "media_type": "image/png", "data": {"$file": "a.png"}}
    assert refusal(blocks({"type": "document", "source": paper})).field.endswith("media_type")
    bare = {"type": "text", "data": {"$file": "a.txt"}}
    assert refusal(blocks({"type": "document", "source": bare})).field.endswith("media_type")
