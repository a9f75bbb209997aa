"""The command: `python -m mtpret_jax.main <verb> ...`; without a verb, `train`.

Each verb is a file in `cli/`, imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mtpret_jax.cli import command

NAME = "python -m mtpret_jax.main"
VERBS = {
    "train": "runs a config: prepares its sets, trains, evaluates, reports",
    "evaluate": "measures a trained model on a split of a prepared set",
    "predict": "X-ray files to probabilities, boxes or masks",
    "embed": "X-ray files to features",
    "compare": "judges encoders by their frozen features, and says what may be said",
    "export": "a run for PyTorch, Hugging Face and JAX",
    "data prepare": "makes the sets that a config names",
    "data doctor": "looks at downloads before they are prepared",
    "data audit": "finds the images that prepared sets share",
    "runs ls": "the runs of work folders, ended or not",
    "runs best": "the best run of each task, by validation",
    "runs show": "a run in full: values, options, versions",
    "runs diff": "what two runs do not share",
    "weights identify": "what backbone a file holds, and the config to start from it",
    "weights check": "compares a file's features with its library's own network",
    "config show": "every option of a config, with what it inherits",
    "config check": "what a config will cost: parameters, memory, time",
    "config anchors": "anchors that fit the training boxes of a config's detectors",
}


def run(arguments: Sequence[str] | None = None) -> None:
    """Ends the process with the exit code of the verb; see `command`."""
    if arguments is None:
        _stop_at_once()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # Names may be no text.
    try:
        try:
            sys.exit(_run(sys.argv[1:] if arguments is None else arguments))
        finally:
            if arguments is None:
                _end_undisturbed()
    except BaseException as stop:
        command.leave(stop)


def _run(given: Sequence[str]) -> int:
    """Runs the verb, which may be left out or have two words; gives its exit code."""
    first = given[0] if given else ""
    words = 2 if any(verb.startswith(f"{first} ") for verb in VERBS) else 1
    if given[words - 1 : words] in ([], ["-h"], ["--help"]):
        sys.stdout.write(overview())
        return command.DONE if len(given) == words else command.USAGE
    if first.startswith("-"):
        verb, rest = "train", given
    else:
        verb, rest = " ".join(given[:words]), given[words:]
    if verb not in VERBS:
        return command.wrong(f"no verb '{verb}'.", verb, VERBS)
    if verb == "data doctor":  # It needs nothing of this package.
        return importlib.import_module("tfds_builders.doctor").main(rest)
    module = importlib.import_module(f"mtpret_jax.cli.{verb.replace(' ', '_')}")
    return command.run(module, f"{NAME} {verb}", rest)


def _end_undisturbed() -> None:
    """Lets no signal come between the work that is done and its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _stop_at_once() -> None:
    """Lets SIGTERM and Ctrl-C end the process in one line; some verbs know better.

    What lies on disk is whole at any time, and nothing else needs to be put in order.
    Ctrl-C stays ignored where it was, as it is for what a shell does in the background.
    """

    def stop(number: int, _: Any) -> NoReturn:
        os.write(2, b"Stopped. Give the same command again.\n")
        os._exit(os.EX_TEMPFAIL)  # Schedulers start again what ends by this, 75.

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def overview() -> str:
    """What `--help` says."""
    lines = [f"  {verb:<18}{about}" for verb, about in VERBS.items()]
    return "\n".join(
        [
            f"usage: {NAME} VERB ...      ({NAME} VERB --help says more)",
            "",
            *lines,
            "",
            "Exit codes: 0 done; 1 a mistake in the input, said in one line; 2 wrong",
            "usage; 3 done, but some files were skipped; 75 stopped by SIGTERM or",
            "Ctrl-C: the same command goes on.",
            "",
        ]
    )


if __name__ == "__main__":
    run()
