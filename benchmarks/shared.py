"""Flags that several scripts have. Each script is run alone, but tests import many."""

from absl import flags

NETWORK = flags.DEFINE_enum("network", "resnet18", ["resnet18", "resnet50"], "Which.")
WIDTH = flags.DEFINE_integer("width", 64, "Channels of the stem.")
SIZE = flags.DEFINE_integer("image_size", 128, "Side of the input, pixels.")
BATCH = flags.DEFINE_integer("batch_size", 32, "Images, or pairs, of a batch.")
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of the computation."
)
STEPS = flags.DEFINE_integer("steps", 6, "Steps that are timed in one turn.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each.")
