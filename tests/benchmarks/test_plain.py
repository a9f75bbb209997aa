"""The plain programs that ours are compared with have the same networks."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.plain import networks

BODY = 23_508_032  # ResNet-50 without its last layer, as torchvision counts


def count(model) -> int:
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)

    def init(image):
        return model.init(jax.random.key(0), image, train=False)["params"]

    shapes = jax.tree.leaves(jax.eval_shape(init, image))
    return sum(int(np.prod(leaf.shape)) for leaf in shapes)


def test_plain_networks_have_as_many_parameters_as_ours():
    dense = 2048 * 2048 + 2048 + 2048 * 128 + 128
    branches = 2 * 2048 * 256 + 3 * 9 * 2048 * 256 + 5 * 256 * 256 + 9 * 256 * 256
    norms = 7 * 2 * 256
    deeplab = networks.DeepLabV3(4, (6, 12, 18), 16, 0.1, jnp.bfloat16)

    assert count(networks.Classifier(2, jnp.bfloat16)) == BODY + 2048 * 2 + 2
    assert count(networks.Embedding(128, jnp.bfloat16)) == BODY + dense
    assert count(deeplab) == BODY + branches + norms + 256 * 4 + 4
