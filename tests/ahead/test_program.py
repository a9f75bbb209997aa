"""What is read from compiled programs: of this machine, and of a TPU's from a file.

`v5e_2x4.txt` is a program of eight v5e chips: seven times three products of [64, 256]
by [256, 256] in nested loops, one product beside, and one exchange of each kind.
"""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mtpret_jax.ahead import program
from mtpret_jax.training import sharding

PRODUCT = 2 * 64 * 256 * 256


@pytest.fixture(scope="module")
def of_tpu():
    text = (pathlib.Path(__file__).parent / "v5e_2x4.txt").read_text()
    return program.read_text(text)


def compiled(function, *shapes, dtype=jnp.float32):
    return jax.jit(function).lower(*(jnp.zeros(s, dtype) for s in shapes)).compile()


def nested(kernel, rows):
    def outside(rows, _):
        rows = jax.lax.fori_loop(2, 5, lambda _, rows: jnp.tanh(rows @ kernel), rows)
        return rows, rows.sum()

    return jax.lax.scan(outside, rows, length=7)


def test_bodies_of_nested_loops_count_by_their_trips():
    found = program.read(compiled(nested, (256, 256), (64, 256)))

    assert sorted(loop.trips for loop in found.loops) == [3, 7]
    # Beside the products tanh and the sum.
    assert found.operations == pytest.approx(21 * PRODUCT, rel=0.005)


def test_a_tpu_tells_trips_only_in_the_condition_of_its_loops(of_tpu):
    outer, inner = of_tpu.loops

    assert (outer.trips, inner.trips) == (7, 3)
    assert of_tpu.operations == pytest.approx(22 * PRODUCT, rel=0.005)
    assert inner.operations == pytest.approx(3 * PRODUCT, rel=0.005)
    assert of_tpu.cycles > outer.cycles >= 7 * inner.cycles > 7 * 3 * 2253


def test_cycles_are_told_by_what_they_were_made_for(of_tpu):
    beside = "jit(f)/shard_map/dot_general"
    inside = "jit(f)/shard_map/while/body/closed_call/dot_general"

    assert of_tpu.sources[beside] == 4319
    assert of_tpu.sources[inside] == 7 * 3 * 2253
    assert sum(of_tpu.sources.values()) == of_tpu.cycles


def test_a_loop_of_unknown_trips_says_so():
    found = program.read(
        compiled(
            lambda kernel, rows: jax.lax.while_loop(
                lambda rows: rows.sum() < 1, lambda rows: rows @ kernel, rows
            ),
            (256, 256),
            (64, 256),
        )
    )

    assert [loop.trips for loop in found.loops] == [None]
    assert found.operations == pytest.approx(PRODUCT, rel=0.005)


@pytest.mark.parametrize(
    ("stride", "pad", "dilation"), [(1, 1, 1), (2, 3, 1), (1, 2, 2), (2, 0, 1)]
)
def test_operations_are_those_of_the_compilers_own_count(stride, pad, dilation):
    def loss(kernel, images):
        maps = jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            [(pad, pad)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return jax.nn.relu(maps).sum()

    made = compiled(jax.grad(loss, (0, 1)), (3, 3, 8, 16), (4, 20, 20, 8))

    expected = made.cost_analysis()["flops"]
    assert program.read(made).operations == pytest.approx(expected, rel=0.01)


def test_exchanges_of_eight_devices_are_counted():
    mesh = sharding.make_mesh(jax.devices()[:8])

    def exchange(rows):
        def body(total, _):
            return jax.lax.psum(total, "data"), None

        total, _ = jax.lax.scan(body, rows.sum(0), length=5)
        return total, jax.lax.all_gather(rows, "data", tiled=True)

    rows, everywhere = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(
        exchange, mesh=mesh, in_specs=rows, out_specs=everywhere, check_vma=False
    )
    shape = jax.ShapeDtypeStruct(
        (16, 10), jnp.float32, sharding=NamedSharding(mesh, rows)
    )

    found = program.read(jax.jit(mapped).lower(shape).compile())

    assert found.devices == 8
    assert found.by_kind() == {
        "all-reduce": {"count": 5, "bytes": 5 * 40, "sent": 5 * 40 * 2 * 7 / 8},
        "all-gather": {"count": 1, "bytes": 640, "sent": 640 * 7 / 8},
    }


def test_asynchronous_exchanges_are_counted_once(of_tpu):
    kilobyte = 1024
    expected = {
        "collective-permute": (32 * kilobyte, 8),
        "all-gather": (4 * kilobyte, 8),
        "all-to-all": (32 * kilobyte, 8),
        "all-reduce": (32 * kilobyte, 4),
        "reduce-scatter": (32 * kilobyte, 8),
    }

    found = {one.kind: (one.bytes, one.devices) for one in of_tpu.collectives}

    assert found == expected
    assert [one.times for one in of_tpu.collectives] == [1] * 5


def test_other_forms_of_exchanges_are_counted():
    text = """HloModule old, replica_count=1, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%wrapped (given: f32[16]) -> f32[2] {
  %given = f32[16]{0} parameter(0)
  ROOT %part = f32[2]{0} reduce-scatter(%given), replica_groups=[1,8]<=[8]
}

ENTRY %main (x: f32[16], y: bf16[4]) -> f32[2] {
  %x = f32[16]{0} parameter(0)
  %y = bf16[4]{0} parameter(1)
  %r = (f32[16]{0}, bf16[4]{0}) all-reduce-start(%x, %y), replica_groups={}
  %s = (f32[16]{0}, bf16[4]{0}) all-reduce-done(%r)
  %g = (f32[16]{0}, f32[32]{0}) all-gather-start(%x), replica_groups=[4,2]<=[2,4]T(1,0)
  %h = f32[32]{0} all-gather-done(%g)
  %m = f32[32]{0} all-reduce(%h), replica_groups=mesh['i'=4,'j'=2] {'j'}
  %t = ((f32[16]{0}), f32[2]{0}, u32[]) async-start(%x), calls=%wrapped
  ROOT %u = f32[2]{0} async-done(%t)
}
"""

    found = program.read_text(text)

    assert [(one.kind, one.bytes, one.devices) for one in found.collectives] == [
        ("all-reduce", 16 * 4 + 4 * 2, 8),
        ("all-gather", 32 * 4, 2),
        ("all-reduce", 32 * 4, 2),
        ("reduce-scatter", 16 * 4, 8),
    ]


def test_memory_is_arguments_results_and_what_a_step_needs_between():
    found = program.read(compiled(lambda rows: jnp.sort(rows, 0) @ rows.T, (512, 1024)))

    rows, product = 512 * 1024 * 4, 512 * 512 * 4
    assert found.bytes >= 2 * rows + product


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="Not the text of a compiled program"):
        program.read_text("HloModule nothing\n")
