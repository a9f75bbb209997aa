"""What no image file may do: fill the memory, garble a terminal, fail unexplained."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings

# The largest radiographs have a third of this; a damaged header may say anything.
MOST_PIXELS = 100_000_000
# Images with more values are decoded one at a time, whatever the number of threads.
LARGE = 25_000_000
_ONE_LARGE = threading.RLock()
# Characters of a reason or note.
LONGEST_TEXT = 300
# What these log names no file; what matters is raised too.
_LOGGERS = ("PIL", "openjpeg", "pydicom", "pylibjpeg", "highdicom")


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text that may come from a file, as one line that is safe to print.

    Args:
      text: Anything; white space is collapsed, unprintable characters are escaped.
      longest: Length to cut the text to, characters.
    """
    line = " ".join(text[: 4 * longest].split())
    line = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in line
    )
    return line if len(line) <= longest else line[: longest - 3] + "..."


class UnreadableImage(ValueError):
    """A file that holds no usable image; the message is the reason, printable."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason))


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


def room_for(values: int) -> contextlib.AbstractContextManager[object]:
    """Waits, to decode so many values, until no other thread decodes a large image.

    Memory is then bounded by one large image, and a small one for each thread.
    """
    return _ONE_LARGE if values > LARGE else contextlib.nullcontext()


class _Quiet:
    """Silences warnings, and what libraries log, while any thread is inside.

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
                for logger in map(logging.getLogger, _LOGGERS):
                    self._silence.callback(logger.setLevel, logger.level)
                    logger.setLevel(logging.CRITICAL + 1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._silence.close()


QUIET = _Quiet()
