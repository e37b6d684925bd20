"""The verdict about one answer: first by the schema, then by the operator's function."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.checked.outputs import problem_of
from nightmill.errors import NightmillError
from nightmill.records.bounds import without_surrogates
from nightmill.records.message import Message
from nightmill_worker.checks.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.records.acceptance import Acceptance

PROBLEM_CHARS: Final = 2_000
"""Characters of a function's problem that are kept."""


def by_schema(message: bytes, accept: Acceptance) -> tuple[Any, Verdict]:
    """Return the output, and the verdict of the schema about it."""
    try:
        output, problem = problem_of(message, accept)
    except NightmillError as error:  # a schema that another program wrote
        return None, Verdict(fault=f"the schema of the batch cannot be used: {error}")
    return output, Verdict(problem=problem or "")


def by_function(function: Any, message: bytes, row: dict[str, Any]) -> Verdict:  # noqa: ANN401
    """Return the verdict of an operator's function. Whatever it raises is a fault of it."""
    try:
        found = function(Message(message), row)
        if inspect.isawaitable(found):
            found = asyncio.run(_awaited(found))
    except BaseException as error:  # noqa: BLE001 - not only SystemExit: it is not our code
        raised = f"it raised {type(error).__name__}: {error}"
        return Verdict(fault=without_surrogates(raised[:PROBLEM_CHARS]))
    if found is None or isinstance(found, str):
        return Verdict(problem=without_surrogates((found or "")[:PROBLEM_CHARS]))
    return Verdict(fault=f"it returned {type(found).__name__}; expected None or a text")


async def _awaited(found: Any) -> object:  # noqa: ANN401 - an awaitable
    return await found


def loaded_functions(targets: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Import module:function of each name; return the functions, and why others are not there."""
    functions: dict[str, Any] = {}
    problems = dict.fromkeys(targets, "")
    for name, target in targets.items():
        module, _, attribute = target.partition(":")
        try:
            found: object = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except BaseException as error:  # noqa: BLE001 - the module is not our code
            problems[name] = f"{target}: {type(error).__name__}: {error}"[:PROBLEM_CHARS]
            continue
        if callable(found):
            functions[name] = found
        else:
            problems[name] = f"{target}: it is no function"
    return functions, problems


def row_of(data: bytes) -> dict[str, Any]:
    """Return the row that a function gets."""
    return msgspec.json.decode(data, type=dict[str, Any])
