"""A run of 320 prompts on real text: `make run`.

The prompts come from the docstrings of Python's standard library, which every machine has. Most are
plain; some are streamed, some have a tool, some an image. `nightmill run` sends them to the
simulator at a realistic rate limit, or to the real endpoint when a credential is set.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import struct
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

PROMPTS = 320
WORTH_SUMMARISING = 80
"""Characters of a docstring; shorter ones make no prompt."""
FOLDER = Path("night")
LIMIT = ["--simulate", "--rpm", "1200", "--latency", "1"]
CREDENTIALS = [
    f"{prefix}_{name}"
    for prefix in ("NIGHTMILL", "ANTHROPIC")
    for name in ("API_KEY", "AUTH_TOKEN")
]

SUMMARY_TOOL = {
    "name": "record_summary",
    "description": "Record the summary of a function.",
    "input_schema": {
        "type": "object",
        "properties": {"summary": {"type": "string"}, "is_deprecated": {"type": "boolean"}},
        "required": ["summary", "is_deprecated"],
    },
}


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield (qualified name, docstring) of the standard library's functions and classes."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node)
                if text and len(text) > WORTH_SUMMARISING:
                    yield f"{path.stem}.{node.name}.{node.lineno}", text


def png(red: int, green: int, blue: int) -> str:
    """Return a 16 x 16 PNG of one colour, as base64."""
    row = b"\0" + bytes((red, green, blue)) * 16

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 16)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def request(number: int, name: str, text: str) -> dict[str, object]:
    """Return the params of prompt `number`: of ten, one streams, one has a tool, one an image."""
    content: object = f"Summarise what `{name}` does in one sentence.\n\n{text}"
    params: dict[str, object] = {"max_tokens": 200, "system": "You write terse documentation."}
    match number % 10:
        case 3:
            params["stream"] = True
        case 5:
            params["tools"] = [SUMMARY_TOOL]
            params["tool_choice"] = {"type": "any"}
        case 7:
            data = png(number % 256, (7 * number) % 256, (13 * number) % 256)
            source = {"type": "base64", "media_type": "image/png", "data": data}
            question = "Which colour is this?"
            content = [{"type": "image", "source": source}, {"type": "text", "text": question}]
    return {**params, "messages": [{"role": "user", "content": content}]}


def main() -> int:
    """Write the prompts to a file and run it; return the exit code of `nightmill run`."""
    FOLDER.mkdir(exist_ok=True)
    source, results = FOLDER / "prompts.jsonl", FOLDER / "results.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number, (name, text) in enumerate(islice(docstrings(), PROMPTS)):
            line = {"custom_id": f"{number}-{name}", "params": request(number, name, text)}
            file.write(json.dumps(line) + "\n")
    real = any(os.environ.get(name) for name in CREDENTIALS)
    batch = "night" if real else "night-rehearsal"
    nightmill = str(Path(sys.executable).with_name("nightmill"))
    command = [nightmill, "run", str(source), "-o", str(results), "--batch", batch]
    sys.stderr.write(f"{' '.join(['nightmill', *command[1:], *([] if real else LIMIT)])}\n")
    return subprocess.run([*command, *([] if real else LIMIT)], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
