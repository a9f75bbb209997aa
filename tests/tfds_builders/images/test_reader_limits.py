"""Headers that ask for more memory than a radiograph needs; many threads at once."""

import concurrent.futures
import io
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.tfds_builders import damage
from tfds_builders.images import reader

KINDS = ("PNG", "BMP", "TIFF", "DICOM", "J2K")
REPOSITORY = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("size", [10_001, 12_000, 60_000, 100_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_says_too_much_is_refused(kind: str, size: int):
    content = damage.oversized(kind, size)
    assert len(content) < 2000

    with pytest.raises(reader.UnreadableImage, match="its header says"):
        reader.read_image(content, dtype=np.uint16)


def test_channels_count_in_what_a_header_says():
    below = damage.oversized("BMP", 9_999)  # pixels; it has three channels

    with pytest.raises(reader.UnreadableImage, match="9999 pixels, times 3 channels"):
        reader.read_image(below, dtype=np.uint8)


def test_no_memory_is_asked_for_before_the_header_is_refused():
    program = (
        "import resource\n"
        "import numpy as np\n"
        "import pydicom.pixels\n"
        "from tests.tfds_builders import damage\n"
        "from tfds_builders.images import reader\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"for kind in {KINDS}:\n"
        "    for size in (10_001, 60_000):\n"
        "        try:\n"
        "            reader.read_image(damage.oversized(kind, size), dtype=np.uint8)\n"
        "        except reader.UnreadableImage:\n"
        "            continue\n"
        "        raise SystemExit(f'{kind} was read')\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "raise SystemExit(after - before > 30_000 and f'{after - before} KiB')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_small_file_of_each_kind_is_not_refused_for_its_size():
    for kind in ("DICOM", "PNG"):
        with pytest.raises(reader.UnreadableImage) as refused:
            reader.read_image(damage.oversized(kind, 2000), dtype=np.uint8)
        assert "header says" not in str(refused.value)


def test_reading_in_many_threads_leaves_warnings_as_they_were():
    picture, file = Image.fromarray(np.zeros((300, 300), np.uint8)), io.BytesIO()
    picture.save(file, "PNG")
    before = list(warnings.filters)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = [
            pool.submit(reader.read_image, file.getvalue(), dtype=np.uint8)
            for _ in range(300)
        ]

    assert all(future.result().shape == (300, 300) for future in read)
    assert list(warnings.filters) == before
