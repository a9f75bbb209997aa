"""A side for the tests of turns: notes when it is asked, prints, fails on request."""

import time

from benchmarks import harness


class Side:
    def __init__(self, settings: dict) -> None:
        print("a library prints while it is loaded")  # noqa: T201
        self._name = settings["name"]

    def moment(self, wait: float) -> list:
        print("and while it works")  # noqa: T201
        time.sleep(wait)
        return [time.monotonic(), self._name]

    def fail(self) -> None:
        raise ValueError(f"{self._name} cannot do this")


if __name__ == "__main__":
    harness.serve(Side)
