"""Text that is safe to print, silence while decoding, large pictures one by one."""

import logging
import pickle
import threading
import time
from concurrent import futures

import pytest

from tfds_builders.images import limits


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r\n  and\ttabs", "two lines and tabs"),
        ("\x1b[31mred\x07\x00", r"\x1b[31mred\x07\x00"),
        ("turned \u202e around", r"turned \u202e around"),
        ("not text \udcff", r"not text \udcff"),
        ("Größe × 2", "Größe × 2"),
    ],
)
def test_text_of_a_file_becomes_one_line_without_control_characters(text, line):
    assert limits.printable(text) == line


def test_long_text_is_cut():
    assert limits.printable("x" * 60_000) == "x" * 297 + "..."
    assert limits.printable("\0" * 60_000, 10) == r"\x00\x0..."


def test_text_that_has_been_made_printable_stays_as_it_is():
    line = limits.printable("\x1b\n" * 1000)

    assert limits.printable(line) == line


def test_every_reason_is_printable_and_stays_so_between_processes():
    error = limits.UnreadableImage("a\nb\x1b" + "c" * 1000)

    assert str(error) == limits.printable("a\nb\x1b" + "c" * 1000)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("name", ["pydicom", "PIL.TiffImagePlugin"])
def test_what_libraries_log_is_silent_inside_and_heard_again_outside(name, caplog):
    logger = logging.getLogger(name)

    with limits.QUIET, limits.QUIET:
        logger.error("inside")
    logger.error("outside")

    assert caplog.messages == ["outside"]


def _most_at_once(values: int) -> int:
    """How many of three threads are inside together."""
    inside, most, lock = 0, 0, threading.Lock()

    def decode() -> None:
        nonlocal inside, most
        with limits.room_for(values):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.2)
            with lock:
                inside -= 1

    with futures.ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(decode) for _ in range(3)]:
            done.result()
    return most


def test_large_pictures_are_decoded_one_at_a_time_and_small_ones_together():
    assert _most_at_once(limits.LARGE + 1) == 1
    assert _most_at_once(limits.LARGE) > 1


def test_a_thread_that_has_room_may_ask_for_it_again():
    with limits.room_for(limits.MOST_PIXELS), limits.room_for(limits.MOST_PIXELS):
        pass
