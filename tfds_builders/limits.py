"""What no picture file may do: fill the memory, or fail without a reason."""

from __future__ import annotations

import contextlib
import threading
import warnings

# The largest radiographs have a third of this; a damaged header may say anything.
MOST_PIXELS = 100_000_000


class UnreadableImage(ValueError):
    """A file that holds no usable picture; the message is the reason."""


def check_size(width: int, height: int, count: int = 1) -> None:
    """Refuses what a header says before memory is asked for.

    Args:
      width: Pixels.
      height: Pixels.
      count: Channels times frames.
    """
    if width * height * count > MOST_PIXELS or min(width, height) < 1:
        raise UnreadableImage(
            f"its header says {width} x {height} pixels, times {count} channels or "
            f"frames; expected 1 to {MOST_PIXELS:,} values"
        )


class _Quiet:
    """Silences warnings while any thread is inside.

    `warnings.catch_warnings` alone would restore the filters of one thread while
    another is decoding, and leave them silent for good after that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._silence.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._silence.close()


QUIET = _Quiet()
