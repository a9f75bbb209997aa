# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Load the sets alone
#
# **What it does.** Prepares X-ray sets with TensorFlow Datasets and reads them as
# arrays, without TensorFlow, JAX or the training of this package.
#
# **For whom.** Whoever trains with something else, PyTorch for example, and wants the
# sets, their labels, masks and splits.
#
# **How long.** About 30 seconds on two CPU cores, installing (a minute) not
# counted. It needs no TPU or GPU.
#
# **When it fails.** The last line of the output says which file or option is meant. A
# preparation that was stopped goes on with the same call. **For research only, not
# for clinical use.** Each set has its own licence, named in
# `tfds_builders/README.md`.

# %% [markdown]
# ## 1. Install
# The code comes from the clone that this notebook lies in, else from the address
# below. What is installed already stays as it is, JAX and NumPy by name.

# %%
import os
import pathlib
import subprocess

REPOSITORY = "https://github.com/OWNER/mtpret_jax"  # Not published yet: your copy's.
TINY = os.environ.get("MTPRET_TINY") == "1"  # Our tests: small, figures mean nothing.
WORK = "runs"  # Everything is written below this folder.

if pathlib.Path("../pyproject.toml").exists():  # This notebook lies in a clone.
    os.chdir("..")
elif not pathlib.Path("pyproject.toml").exists():
    needed = "Put the address of your copy of the repository into REPOSITORY."
    assert "OWNER" not in REPOSITORY, needed
    subprocess.run(["git", "clone", "--depth=1", REPOSITORY, "mtpret_jax"], check=True)
    os.chdir("mtpret_jax")
pathlib.Path(WORK).mkdir(parents=True, exist_ok=True)

# !pip list --format=freeze | grep -E "^(jax|jaxlib|libtpu|numpy)==" > {WORK}/keep.txt
INSTALL = f"pip install -q '.[dicom,weights]' -c {WORK}/keep.txt"
# !pip show -q mtpret_jax 2> /dev/null || {INSTALL}
# !python --version && pip list | grep -iE "^(jax|jaxlib|libtpu|flax|numpy|mtpret_jax) "

# %% [markdown]
# ## 2. Prepare a set
# `phantom_xray` is simulated and needs no download. Sets of patients are in chapter
# 4.

# %%
from absl import logging

from tfds_builders import phantom_xray

logging.set_verbosity(logging.ERROR)  # TensorFlow Datasets says much.

config = phantom_xray.Config(
    name="demo", body="chest", image_size=128, train=60 if TINY else 600
)
builder = phantom_xray.Builder(data_dir=f"{WORK}/alone", config=config)
builder.download_and_prepare()
print(builder.info.features)

# %% [markdown]
# ## 3. Read it
# A prepared folder needs no code of ours any more: TensorFlow Datasets reads it. A
# split is a sequence; each example is a dictionary of arrays.

# %%
import matplotlib.pyplot as plt
import tensorflow_datasets as tfds

again = tfds.builder_from_directory(builder.data_dir)
train = again.as_data_source("train")
classes = again.info.metadata["label_names"]["finding"]
print(len(train), "examples; findings:", classes)

figure, axes = plt.subplots(1, 4, figsize=(12, 3))
for i, axis in enumerate(axes):
    example = train[i]  # Image: uint8 [H, W, 1], bright where rays were stopped.
    axis.imshow(example["image"][..., 0], cmap="gray")
    axis.contour(example["mask"][..., 0], levels=[0.5], colors="orange")
    axis.set_title(classes[example["labels"]["finding"].argmax()])
    axis.axis("off")

# %% [markdown]
# ## 4. Released sets
# Thirteen public sets have a builder; some can be fetched by a command, the others
# want a login or consent: `tfds_builders/README.md`. Here, made-up releases stand in
# for two of them, with the same trees and tables but invented pictures. For the real
# ones, put `python -m tfds_builders.fetch montgomery_cxr --folder ...` in place of
# `dummy`, after reading the licence.
#
# The doctor says what is there, what is missing, and what to do next.

# %%
RELEASES = f"{WORK}/releases"

# !rm -rf {RELEASES}
# !python -m tfds_builders.dummy {RELEASES} --images 20 montgomery_cxr shenzhen_cxr
# !python -m tfds_builders.doctor {RELEASES} montgomery_cxr shenzhen_cxr

# %% [markdown]
# ## 5. Prepare one, and choose its splits
# Each set comes with lists of splits: `grouped` (no patient in two), `muscle` (sizes
# as in the papers) and, where the makers have one, `official`.

# %%
from tfds_builders import montgomery_cxr, prepared

config = montgomery_cxr.Config(name="mine", folder=RELEASES, image_size=256)
builder = montgomery_cxr.Builder(data_dir=f"{WORK}/alone", config=config)
builder.download_and_prepare()
for name, source in prepared.data_sources(builder.data_dir, "grouped").items():
    print(name, len(source), "first:", source[0]["image_id"], source[0]["labels"])

# %% [markdown]
# ## 6. In batches
# A data source has a length and takes an index: so does what a `DataLoader` of
# PyTorch or `grain.MapDataset.source` expects. Pictures differ in size: make them
# alike first.

# %%
import cv2
import numpy as np


def batch(source, indices, side=128):
    """Images float32 [B, side, side] from 0 to 1, and labels int8 [B, L]."""
    examples = [source[int(i)] for i in indices]
    images = [cv2.resize(e["image"][..., 0], (side, side)) for e in examples]
    labels = [e["labels"]["finding"] for e in examples]
    return np.stack(images).astype(np.float32) / 255, np.stack(labels)


order = np.random.default_rng(0).permutation(len(train))
images, labels = batch(train, order[:32])
print(images.shape, labels.mean(axis=0))

# %%
import sys

unwanted = {"tensorflow", "jax", "mtpret_jax"} & set(sys.modules)
print("Imported besides:", unwanted or "neither TensorFlow nor JAX nor mtpret_jax")
