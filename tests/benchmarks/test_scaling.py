"""What is read from a compiled program, and what is predicted of it."""

import pytest
from absl import flags

from benchmarks import scaling

PROGRAM = """HloModule jit_step

%body.1 (a: f32[2]) -> f32[2] {
  %gathered = f32[8,4]{1,0} all-gather(f32[1,4]{1,0} %k), metadata={op_name="keys"}
}

ENTRY %main (a: f32[10]) -> f32[10] {
  %joined = (f32[10]{0}, bf16[3,2]{1,0}) all-reduce(%a, %b), metadata={op_name="grad"}
  %loop = f32[2] while(%a), body=%body.1, backend_config={"known_trip_count":{"n":"3"}}
}
"""


@pytest.fixture(autouse=True)
def _flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def test_collectives_are_read_with_their_bytes_and_repeats():
    gathered, joined = scaling.collectives(PROGRAM)

    assert gathered == scaling.Collective("all-gather", 8 * 4 * 4, 3, "keys")
    assert joined == scaling.Collective("all-reduce", 10 * 4 + 6 * 2, 1, "grad")


def test_a_gradient_is_sent_about_twice_and_keys_grow_with_the_batch():
    each, real = scaling._EACH.value, scaling._REAL.value
    meshes = {
        count: {
            "all-reduce": {"count": 1, "bytes": 1000},
            "all-gather": {"count": 1, "bytes": 10 * count * each},
        }
        for count in (4, 8)
    }

    found = scaling.predict(meshes, 256)

    expected = 2 * 1000 * 255 / 256 + 10 * 256 * real * 255 / 256
    assert found["megabytes_sent"] == pytest.approx(expected / 1e6)
    hops = 2 * 2 * 8 * scaling._START.value
    seconds = hops + expected / scaling._LINK.value
    assert found["milliseconds"] == pytest.approx(1e3 * seconds)
    computing = real / scaling._RATE.value
    assert found["fraction_computing"] == pytest.approx(
        computing / (computing + seconds)
    )
