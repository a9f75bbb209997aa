"""Two sides of a comparison, each in a process of its own, that take turns.

A machine that drifts slows both, so the ratio of two neighbouring turns is steady where
the rates are not. A side is an object whose methods take and return what JSON holds;
it may run in another interpreter, so this file needs Python alone.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_LAST_LINES = 30  # of a failed side's messages that are shown


class Side:
    """A side's process; `ask` calls a method of its object and waits for the answer."""

    def __init__(
        self, python: str, module: str, settings: Mapping[str, Any], **environment: str
    ) -> None:
        """Starts the process.

        Args:
          python: Interpreter.
          module: Of this repository, ends in `serve(...)` when run.
          settings: What the side's object is made from.
          **environment: Variables that are set unless the user has set them.
        """
        self._module = module
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            cwd=_REPOSITORY,
            env={**environment, **os.environ},
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """Calls `method` over there.

        Raises:
          RuntimeError: If the side failed; holds the end of what it wrote.
        """
        process = self._process
        answer = ""
        try:
            process.stdin.write(json.dumps([method, arguments]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            process.wait()
        if not answer:
            process.wait()
            self._messages.seek(0)
            lines = self._messages.read().splitlines()[-_LAST_LINES:]
            raise RuntimeError(
                f"{self._module} ended with {process.returncode} when asked for "
                f"'{method}':\n" + "\n".join(lines)
            )
        return json.loads(answer)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._messages.close()


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Answers questions from standard input until it is closed.

    Args:
      make: Settings to the object whose methods are called.
    """
    # Whatever libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        method, arguments = json.loads(line)
        answers.write(json.dumps(getattr(side, method)(**arguments)) + "\n")
        answers.flush()


def take_turns(
    sides: Mapping[str, Side], rounds: int, method: str, **arguments: Any
) -> dict[str, list[Any]]:
    """Asks all sides the same, round for round; who is first alternates.

    Returns:
      The answers of each side, one a round.
    """
    answers: dict[str, list[Any]] = {name: [] for name in sides}
    for index in range(rounds):
        for name in list(sides)[:: 1 if index % 2 == 0 else -1]:
            answers[name].append(sides[name].ask(method, **arguments))
    return answers
