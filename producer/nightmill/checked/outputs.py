"""The output of an answer: the JSON value that a batch's acceptance asks for, and its problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.checked.finding import NoOutputError, find_json, require_bounded
from nightmill.checked.schema import compiled
from nightmill.checked.shape import Shape, shape_at
from nightmill.records.bounds import without_surrogates
from nightmill.records.message import Message

if TYPE_CHECKING:
    from nightmill.records.acceptance import Acceptance


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    name: str = ""
    input: Any = None


class _Content(msgspec.Struct):
    content: list[_Block] = []


_content: Final = msgspec.json.Decoder(_Content)


def problem_of(message: Message | bytes, acceptance: Acceptance) -> tuple[Any, str | None]:
    """Return the output of an answer and None, or None and what is wrong with it.

    The problem is a few short lines with path, given and expected. Without a schema nothing is
    checked, and the output is None. Raises SchemaError for a schema that cannot be used; `run` and
    `enqueue` have refused it before.
    """
    if acceptance.schema is None:
        return None, None
    schema = compiled(bytes(acceptance.schema))
    try:
        output = _output(message, acceptance.schema_tool, schema.shape)
    except NoOutputError as error:
        return None, str(error)
    problem = schema.problem_of(output)
    return (output, None) if problem is None else (None, problem)


def parsed_of(message: Message | bytes | None, acceptance: Acceptance) -> Any:  # noqa: ANN401
    """Return the output of an answer that was accepted, None when it has none.

    It is read again from the message by the rule that the worker used, and not validated again.
    """
    if message is None or acceptance.schema is None:
        return None
    try:
        return _output(message, acceptance.schema_tool, shape_at(bytes(acceptance.schema)))
    except NoOutputError:
        return None


def _output(message: Message | bytes, tool: str | None, shape: Shape) -> Any:  # noqa: ANN401
    """Return the JSON value of the text, or the input of the last use of `tool`."""
    raw = message if isinstance(message, bytes) else message.raw
    try:
        blocks = _content.decode(raw).content
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        blocks = None
    if tool is None:
        if blocks is None:
            return find_json(Message(raw).text, shape.fits)
        text = "".join([block.text for block in blocks if block.type == "text"])
        return find_json(without_surrogates(text), shape.fits)
    uses = [each.input for each in blocks or () if each.type == "tool_use" and each.name == tool]
    if not uses:
        raise NoOutputError(f"given no use of the tool {tool}; expected one")
    require_bounded(uses[-1])
    return uses[-1]
