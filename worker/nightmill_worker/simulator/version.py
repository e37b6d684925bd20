"""What an API version refuses that the one before it takes, in the endpoint's own words."""

from typing import Final

from nightmill_worker.simulator.request import Prompt, Turn, invalid

STRICT: Final = "2026-10-21"
EXTRA: Final = "Extra inputs are not permitted"


def check_version(version: str, prompt: Prompt) -> None:
    """Refuse what `version` does not take any more; raises `ContractError` 400."""
    if version != STRICT:
        return
    request = prompt.request
    for name in ("temperature", "top_p", "top_k"):
        if getattr(request, name) is not None:
            raise invalid(f"{name}: {EXTRA}")
    for index, turn in enumerate(prompt.turns):
        _check_turn(f"messages.{index}.content", turn)


def _check_turn(path: str, turn: Turn) -> None:
    for index, block in enumerate(turn.content if isinstance(turn.content, list) else ()):
        kind = block.get("type")
        if turn.role == "assistant" and kind == "document":
            raise invalid(f"{path}.{index}: document blocks are not allowed in assistant messages")
        if turn.role == "user" and kind == "text" and block.get("citations"):
            raise invalid(f"{path}.{index}.text.citations: {EXTRA}")
