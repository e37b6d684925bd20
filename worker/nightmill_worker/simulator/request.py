"""Read a Messages request as the endpoint does: one typed decode, the endpoint's error texts."""

import hashlib
import re
from typing import Annotated

import msgspec

from nightmill.checked.shape import nodes
from nightmill_worker.simulator.blocks import BYTES_PER_TOKEN, Fields, check_content, content_tokens

MAX_BODY_BYTES = 32 * 1024 * 1024
MISSING_MODEL_PREFIX = "missing"
MIN_THINKING_BUDGET = 1024
Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ContractError(Exception):
    """The request breaks the contract; it is answered with an error."""

    def __init__(self, status: int, kind: str, message: str, code: str = "") -> None:
        """Take the HTTP status, the error type, the message and `details.error_code`."""
        super().__init__(message)
        self.code = code
        self.status = status
        self.kind = kind
        self.message = message


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the answer may use; server tools have a type and no schema."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    type: str | None = None
    input_schema: Fields | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the answer must use a tool; `type` is auto, any, tool (the named one) or none."""

    type: str
    name: str | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the answer thinks first; `type` is enabled (with a budget), adaptive or disabled."""

    type: str
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The schema that the text of the answer must fit; `type` is json_schema."""

    type: str
    schema: Fields | None = None


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the answer is given."""

    format: OutputFormat | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the conversation."""

    role: str
    content: str | list[Fields]


class MessagesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that the simulator reads; it ignores other fields."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: list[object]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    system: str | list[Fields] | None = None
    stream: bool = False
    temperature: Unit | None = None
    top_p: Unit | None = None
    top_k: int | None = None
    user_profile_id: str | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    metadata: dict[str, str | None] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Fields | None = None
    speed: str | None = None
    inference_geo: str | None = None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A valid request, ready to be answered."""

    request: MessagesRequest
    turns: tuple[Turn, ...]
    key: str
    """Its name in the ledger: `metadata.user_id`, or a hash of system and messages."""
    digest: bytes
    """32 bytes that the answer is drawn from."""
    input_tokens: int
    """The estimate that is charged."""

    def has(self, text: str) -> bool:
        """Return whether `text` stands in the system prompt or the messages."""
        return text in self.text

    @property
    def text(self) -> str:
        """The system prompt and the messages as JSON."""
        return _canonical.encode((self.request.system, self.turns)).decode()


_decoder = msgspec.json.Decoder(MessagesRequest)
_canonical = msgspec.json.Encoder(order="deterministic")


def read_prompt(body: bytes) -> Prompt:
    """Decode and check a request body; raises `ContractError` (400, 404)."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(in_endpoint_words(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from error
    turns = _read_turns(request.messages)
    _check_tools(request)
    _check_thinking(request)
    _check_output(request)
    if request.model.startswith(MISSING_MODEL_PREFIX):
        raise ContractError(404, "not_found_error", f"model: {request.model}")
    digest = hashlib.sha256(_canonical.encode((request.system, turns))).digest()
    user_id = (request.metadata or {}).get("user_id")
    return Prompt(
        request=request,
        turns=turns,
        key=user_id or digest.hex()[:16],
        digest=digest,
        input_tokens=_input_tokens(request, turns),
    )


def invalid(message: str) -> ContractError:
    """Make the error for an invalid request."""
    return ContractError(400, "invalid_request_error", message)


def _read_turns(messages: list[object]) -> tuple[Turn, ...]:
    if not messages:
        raise invalid("messages: at least one message is required")
    return tuple(_read_turn(index, item) for index, item in enumerate(messages))


def _read_turn(index: int, item: object) -> Turn:
    where = f"messages.{index}"
    try:
        turn = msgspec.convert(item, Turn)
    except msgspec.ValidationError as error:
        raise invalid(in_endpoint_words(str(error), where)) from error
    if turn.role == "system":
        raise invalid(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` '
            'parameter, not "system" as an input message role.'
        )
    if turn.role not in {"user", "assistant"}:
        raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
    if not turn.content and not (index and turn.role == "assistant"):
        raise invalid(
            f"{where}: all messages must have non-empty content "
            "except for the optional final assistant message"
        )
    if isinstance(turn.content, list):
        for place, block in enumerate(turn.content):
            path = f"{where}.content.{place}"
            try:
                check_content(block)
            except msgspec.ValidationError as error:
                raise invalid(in_endpoint_words(str(error), path)) from error
    return turn


def _check_tools(request: MessagesRequest) -> None:
    choice = request.tool_choice
    if choice is None:
        return
    if choice.type not in {"auto", "any", "tool", "none"}:
        raise invalid("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    names = {tool.name for tool in request.tools or ()}
    if not names and choice.type != "none":
        raise invalid("tool_choice may only be specified while providing tools.")
    if choice.type == "tool" and choice.name not in names:
        raise invalid(f"Tool '{choice.name}' not found in provided tools")


def _check_thinking(request: MessagesRequest) -> None:
    thinking = request.thinking
    if thinking is None or thinking.type != "enabled":
        return
    if thinking.budget_tokens is None:
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if thinking.budget_tokens < MIN_THINKING_BUDGET:
        raise invalid(
            "thinking.enabled.budget_tokens: must be greater than or equal to "
            f"{MIN_THINKING_BUDGET}"
        )
    if thinking.budget_tokens >= request.max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_output(request: MessagesRequest) -> None:
    form = request.output_config.format if request.output_config else None
    if form is None:
        return
    if form.type != "json_schema" or form.schema is None:
        raise invalid("output_config.format: Input should be a json_schema with a schema")
    for node in nodes(form.schema):
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            raise invalid(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                "explicitly set to false"
            )
        for name in ("minimum", "maximum", "minLength", "maxLength"):
            if isinstance(node.get(name), int):
                raise invalid(f"output_config.format.schema: property '{name}' is not supported")


def _input_tokens(request: MessagesRequest, turns: tuple[Turn, ...]) -> int:
    """Count a token for four bytes of text or tool definition; images and files are flat."""
    total = content_tokens(request.system or "") + sum(content_tokens(t.content) for t in turns)
    if request.tools:
        total += len(_canonical.encode(request.tools)) // BYTES_PER_TOKEN
    return max(1, total)


_NAMES = {
    "int": "integer",
    "str": "string",
    "bool": "boolean",
    "float": "number",
    "array": "list",
    "object": "dictionary",
    "null": "null",
}
_BOUND = re.compile(r"Expected `\w+` ([<>]=) ([\d.]+)")
_INDEX = re.compile(r"\[(\d+)\]")
_MISSING = re.compile(r"missing required field `(\w+)`")
_TYPE = re.compile(r"Expected `([^`]+)`, got")


def in_endpoint_words(text: str, prefix: str = "") -> str:
    """Turn msgspec's message into the endpoint's style, such as `max_tokens: Field required`."""
    what, _, where = text.partition(" - at ")
    inner = where.strip("`").removeprefix("$").removeprefix(".")
    inner = _INDEX.sub(r".\1", inner).replace("[...]", "")
    parts = [part for part in (prefix, inner) if part]
    if missing := _MISSING.search(what):
        return f"{'.'.join([*parts, missing[1]])}: Field required"
    path = ".".join(parts) or "body"
    if bound := _BOUND.search(what):
        side = "greater" if bound[1] == ">=" else "less"
        return f"{path}: must be {side} than or equal to {bound[2].removesuffix('.0')}"
    if "of length >= 1" in what:
        return f"{path}: must not be empty"
    if kind := _TYPE.search(what):
        names = [_NAMES.get(name, name) for name in kind[1].split(" | ") if name != "null"]
        return f"{path}: Input should be a valid {' or '.join(names)}"
    return f"{path}: {what}"
