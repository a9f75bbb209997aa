"""What is said of a batch and of the memory of a chip."""

import types

import pytest

from mtpret_jax.ahead import fitting, program

GIB = 2**30


class Chip:
    """Compiles steps that need `base` and `each` GiB an image, up to what a v5e has.

    Attributes:
      compiled: Batches so far.
    """

    def __init__(self, base, each, curve=0.0):
        self.needs = lambda batch: base + each * batch + curve * batch**2
        self.compiled = []

    def build(self, batch):
        return types.SimpleNamespace(compile=lambda: self._compile(batch))

    def _compile(self, batch):
        self.compiled.append(batch)
        needed = self.needs(batch)
        if needed > 15.75:
            raise RuntimeError(
                "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory "
                f"required for HLO temporaries ({needed:.2f}G) exceeds available HBM "
                "(15.75G)."
            )
        return needed


@pytest.fixture(autouse=True)
def reading(monkeypatch):
    def read(needed):
        return program.Program(1, 0.0, 0, (), (), {}, {}, int(needed * GIB))

    monkeypatch.setattr(program, "read", read)


def line(chip, batch, unit=1):
    try:
        known = {batch: fitting.compile_step(chip.build(batch)).bytes}
    except MemoryError:
        known = {batch: None}
    return fitting.largest("tpu:v5e:2x4", known, unit, chip.build)


@pytest.mark.parametrize("batch", [1, 3, 8, 9, 16, 17, 24, 64, 256])
def test_whole_rows_of_images_are_not_padded(batch):
    said = fitting.padding(batch)

    assert bool(said) == bool(batch % 8)
    assert not said or f"padded to {batch + 8 - batch % 8} " in said


def test_the_largest_batch_is_reckoned_from_two_and_compiled():
    chip = Chip(base=1.0, each=0.1)

    said = line(chip, 64)

    assert chip.compiled == [64, 32, 144]
    assert "largest batch: 144, 15.4 GiB" in said
    assert "reckoned from 32 and 64" in said


def test_it_is_found_where_the_configs_own_does_not_fit():
    chip = Chip(base=1.0, each=0.05)

    said = line(chip, 1024, unit=8)

    assert "largest batch: 288, 15.4 GiB" in said


def test_what_was_reckoned_and_does_not_fit_is_said():
    said = line(Chip(base=1.0, each=0.1, curve=1e-3), 32)

    assert "largest batch: at least 32; 96, reckoned, does not fit" in said


def test_a_batch_that_this_machine_cannot_hold_does_not_fit():
    """Of a tiny network, whose step would take more images than there is memory."""
    chip = Chip(base=0.1, each=0.01)
    build = chip.build

    def limited(batch):
        if batch > 64:
            raise MemoryError("Unable to allocate 141. TiB")
        return build(batch)

    chip.build = limited
    assert "at least 64; 1560, reckoned, does not fit" in line(chip, 64)


def test_what_never_fits_is_a_problem():
    assert line(Chip(base=20.0, each=1.0), 64).startswith("problem: not even")


def test_what_a_chip_would_need_is_said():
    with pytest.raises(MemoryError, match=r"does not fit: a chip needs 21\.00GiB"):
        fitting.compile_step(Chip(base=20.0, each=1.0).build(1))


def test_other_errors_of_the_compiler_are_its_own():
    def fail():
        raise RuntimeError("INTERNAL: something else")

    with pytest.raises(RuntimeError, match="something else"):
        fitting.compile_step(types.SimpleNamespace(compile=fail))
