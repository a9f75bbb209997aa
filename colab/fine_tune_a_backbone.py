# ---
# jupyter:
#   accelerator: TPU
#   colab:
#     gpuType: V5E1
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Fine-tune a given backbone
#
# **What it does.** Takes a pre-trained ResNet, fine-tunes it on few labelled X-rays,
# compares it with the same training from scratch, and writes the result in
# torchvision's layout for PyTorch. As it is, the backbone is pre-trained here for a
# minute or two on simulated hands, and 60 of them have labels.
#
# **For whom.** Whoever has a backbone, from this package or as `.safetensors` or
# `.pth` of torchvision or timm, and a task.
#
# **How long.** About 10 minutes on two CPU cores, installing (a minute) not
# counted. Nobody has timed it on a TPU yet.
#
# **When it fails.** Run the cell again: a training goes on where it stopped. After a
# change of the config, give `RUN` another name. *The TPU is already in use*: Runtime
# → Restart session, then run all cells. Anything else: the last line of the output
# says what was expected. **For research only, not for clinical use.**

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

# %%
# !python -c "import jax; print(jax.device_count(), 'x', jax.devices()[0].device_kind)"

# %% [markdown]
# ## 2. The config
# Put the path of a `.safetensors`, `.pth` or `.pt`, or of a run's folder `backbone`,
# into `BACKBONE`. Left empty, a ResNet-18 is pre-trained by momentum contrast on the
# pictures without their labels. For your own pictures, take the set and the task of
# the notebook `bring_your_own_xrays` in place of `hands`. All options:
# `mtpret_jax/config/schema.py`.

# %%
import logging

import mtpret_jax
from mtpret_jax import config as schema

logging.basicConfig(format="%(message)s")
logging.getLogger("mtpret_jax").setLevel(logging.INFO)  # Says how far it is.

BACKBONE = ""  # A file of weights, or the folder `backbone` of a run.
NAME, WIDTH = "resnet18", 64  # Must fit it. Others: "resnet50", 64.
SIZE = 96  # Pixels of a side. On an accelerator: 224 or more.


def make_config(steps):
    config = schema.defaults()
    config.report.title = "A given backbone against none"
    config.backbone.update(name=NAME, width=WIDTH, in_channels=1)
    config.datasets.hands = schema.dataset(
        "phantom_xray", body="hand", image_size=SIZE, train=600, test=400
    )
    config.tasks.fracture = schema.task(
        dataset="hands", target="finding", image_size=SIZE, batch_size=16
    )
    if not BACKBONE:
        config.runs.contrastive = schema.run(
            stage="contrastive",
            steps=steps,
            log_every=10,
            optimizer=dict(learning_rate=0.03),
            contrastive=dict(
                datasets={"hands": 1.0},
                image_size=SIZE,
                batch_size=32,
                queue_size=512,
                momentum=0.99,
                batch_norm_rows=8,
            ),
        )
    starts = {"scratch": "", "pretrained": BACKBONE or "contrastive"}
    for arm, start in starts.items():
        config.runs[arm] = schema.run(
            stage="finetune",
            arm=arm,
            init_from=start,
            label_fraction=0.1,  # 60 of the 600 pictures.
            steps=steps,
            log_every=10,
            optimizer=dict(learning_rate=0.01),
            finetune=dict(task="fracture"),
        )
    return config


# %% [markdown]
# ## 3. Train
# After a change of the config, give `RUN` another name: a work folder belongs to one.

# %%
RUN = f"{WORK}/fine_tuned"
report = mtpret_jax.train(
    make_config(steps=4 if TINY else 150), workdir=RUN, data_dir=f"{WORK}/data"
)

# %% [markdown]
# ## 4. Read the report
# One page without scripts: what each arm reaches on the test images, with intervals.

# %%
import html

from IPython import display

page = html.escape(pathlib.Path(RUN, "report.html").read_text())
frame = f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0">'
display.HTML(f"<div>{frame}</iframe></div>")

# %% [markdown]
# ## 5. Take it to PyTorch
# Backbone and head in torchvision's layout, with a `config.json` that says what the
# network expects of pixels. `docs/load_exported.py` needs PyTorch, torchvision and
# safetensors alone: copy it into your project.

# %%
EXPORTED = f"{WORK}/exported"

# !rm -rf {EXPORTED}
mtpret_jax.export(RUN, "pretrained", EXPORTED)  # Differences of what is read again.

# %%
import importlib.util
import sys

if importlib.util.find_spec("torchvision"):
    sys.path.append("docs")
    import load_exported

    network = load_exported.load(EXPORTED)
    print(sum(p.numel() for p in network.parameters()), "parameters in PyTorch")
else:
    print("PyTorch is not installed here: take the folder", EXPORTED, "to where it is.")
