"""The check process: gives verdicts about answers, one at a time.

`python -m nightmill_worker.checks.process`, started by a worker (see `pool`) with CHECKS in its
variables.
Questions come on standard input, verdicts leave on standard output. What a function of the operator
prints goes to standard error. It ends when its input closes, also while a function runs.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from nightmill.records.acceptance import from_text
from nightmill.setting_values import read_checks
from nightmill_worker.checks.judge import by_function, by_schema, loaded_functions, row_of
from nightmill_worker.checks.messages import Loaded, Question, Verdict, encoded, question
from nightmill_worker.child import LENGTH, framed

if TYPE_CHECKING:
    from typing import BinaryIO

_PR_SET_PDEATHSIG: Final = 1
VARIABLE: Final = "NIGHTMILL_CHECKS"


def answer(asked: Question, functions: dict[str, Any]) -> Verdict:
    """Return the verdict about one answer."""
    accept = from_text(asked.accept)
    output, verdict = by_schema(asked.message, accept)
    if verdict != Verdict() or accept.check is None:
        return verdict
    function = functions.get(accept.check)
    if function is None:
        return Verdict(fault=f"no function {accept.check}")
    return by_function(function, asked.message, {**row_of(asked.row), "output": output})


def _read(stream: BinaryIO, questions: queue.SimpleQueue[Question]) -> None:
    """Put questions in the queue; end the process when the worker is gone."""
    while len(head := stream.read(LENGTH)) == LENGTH:
        size = int.from_bytes(head)
        data = stream.read(size)
        if len(data) < size:
            break
        questions.put(question(data))
    os._exit(0)


def _end_with_parent() -> None:
    """Let Linux end this process with its worker: a function in C may keep all threads from it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Load the functions, tell which ones there are, and answer until the input closes."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # an operator's function may print
    _end_with_parent()
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does, for the operator's module
    functions, problems = loaded_functions(read_checks(os.environ.get(VARIABLE)))
    out.write(framed(encoded(Loaded(functions=problems))))
    out.flush()
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, questions), daemon=True).start()
    while True:
        out.write(framed(encoded(answer(questions.get(), functions))))
        out.flush()


if __name__ == "__main__":
    main()
