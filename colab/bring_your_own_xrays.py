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
# # Bring your own X-rays
#
# **What it does.** Reads a folder of radiographs with labels, masks and boxes, says
# which files it had to leave out, pre-trains on the pictures, fine-tunes on the
# labels beside the same training from scratch, shows the report and predicts one
# picture. As it is, it writes a folder of simulated chests first and uses that.
#
# **For whom.** Whoever has a folder of X-rays and wants a first result. Look up first
# whether you may put the pictures on a machine of Google's.
#
# **How long.** About 10 minutes on two CPU cores, installing (a minute) not
# counted. Nobody has timed it on a TPU yet.
#
# **When it fails.** Run the cell again: a training goes on where it stopped. After a
# change of the config, give `RUN` another name. *The TPU is already in use*: Runtime
# → Restart session, then run all cells. Anything else: the last line of the output
# says which option or file is meant. **For research only, not for clinical use.**

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
# ## 2. The folder
# ```text
# my_xrays/
#   images/       PNG, JPEG, TIFF, BMP or DICOM, 8 or 16 bits
#   labels.csv    one row for each image
#   masks/        optional: one picture for each image, of the same name
#   boxes.json    optional: COCO's JSON
# ```
# To use yours, put its path into `FOLDER`. Small ones can be dragged into the *Files*
# panel on the left as a zip and unpacked with `!unzip`. From Google Drive, only if
# you want that: `from google.colab import drive`, then
# `drive.mount("/content/drive")`.
#
# Left empty, an example is written. Two of its entries are wrong on purpose.

# %%
FOLDER = ""

RUN = f"{WORK}/own_xrays"  # Everything that comes of it.
if not FOLDER:
    FOLDER = f"{WORK}/example_xrays"
    WRITE = f"python -m tfds_builders.xray_folder.example {FOLDER}"
    images = 240 if TINY else 600
    # !test -e {FOLDER} || {WRITE} --images {images}
# !ls "{FOLDER}" && head -n 4 "{FOLDER}/labels.csv"

# %% [markdown]
# ## 3. The config
# Which columns, masks and boxes there are, what is to be learnt, and which trainings
# are done in which order. With your own folder, change the names of columns and
# classes, and delete what it has no labels for. To learn boxes as well, copy the task
# `opacity` of `configs/demo.py`. All options: `mtpret_jax/config/schema.py`.

# %%
# %%writefile {WORK}/own_xrays.py
from mtpret_jax import config as schema

SIZE = 96  # Pixels of a side. On an accelerator: 224 or more.
WIDTH = 16  # Channels of the first layer. On an accelerator: 64.


def get_config(arg):
    folder, steps = arg.rsplit(",", 1)
    config = schema.defaults()
    config.report.title = "My X-rays"
    config.backbone.update(name="resnet18", width=WIDTH, in_channels=1)
    config.datasets.mine = schema.dataset(
        "xray_folder",
        folder=folder,
        image_size=128,  # Longest side that is stored.
        labels={"finding": ["normal", "opacity"]},  # A column and its classes.
        masks="labels",
        mask_classes={"lung": [1]},  # A class and its values in the masks.
        annotations="boxes.json",
        box_classes=["opacity"],
    )
    config.tasks.finding = schema.task(
        kind="classification", dataset="mine", target="finding"
    )
    config.tasks.lungs = schema.task(
        kind="segmentation",
        dataset="mine",
        segmentation=dict(output_stride=8, channels=32, rates=(2, 4, 6)),
    )
    config.runs.contrastive = schema.run(
        stage="contrastive",
        steps=2 * int(steps),
        contrastive=dict(datasets={"mine": 1.0}, queue_size=128, momentum=0.99),
    )
    for task in config.tasks:
        for arm, start in (("scratch", ""), ("contrastive", "contrastive")):
            config.runs[f"{arm}_{task}"] = schema.run(
                stage="finetune",
                arm=arm,
                init_from=start,
                steps=int(steps),
                finetune=dict(task=task),
            )
    for row in config.tasks.values():
        row.update(image_size=SIZE, batch_size=16)
    for row in config.runs.values():
        row.log_every = 10
        row.optimizer.learning_rate = 0.02
        row.contrastive.update(image_size=SIZE, batch_size=32, batch_norm_rows=8)
    return config


# %% [markdown]
# ## 4. Prepare, and see what was left out
# Pictures become one channel, bright where rays were stopped, and patients are shared
# out so that none is in two splits. Files that cannot be used are listed with the
# reason. A column, class or folder that is not there ends it with one line that says
# what there is.

# %%
import csv

CONFIG = f"{WORK}/own_xrays.py:{FOLDER},{4 if TINY else 150}"  # Steps of a training.

# !python -m mtpret_jax.main data prepare --config="{CONFIG}" --data_dir={RUN}/data
assert _exit_code == 0, "The set was not prepared; the last line above says why."

prepared = next(pathlib.Path(RUN, "data", "xray_folder", "mine").iterdir())
for row in csv.DictReader((prepared / "quarantine.csv").open()):
    print("Left out:", row["file"], "-", row["reason"])

# %% [markdown]
# ## 5. Train
# One pre-training without labels, then each task from scratch and from there.

# %%
# !python -m mtpret_jax.main --config="{CONFIG}" --workdir={RUN} --data_dir={RUN}/data
assert _exit_code == 0, "The training stopped; the last line above says why."

# %% [markdown]
# ## 6. Read the report
# One page without scripts: what each arm reaches on the test images, with intervals.

# %%
import html

from IPython import display

page = html.escape(pathlib.Path(RUN, "report.html").read_text())
frame = f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0">'
display.HTML(f"<div>{frame}</iframe></div>")

# %% [markdown]
# ## 7. Predict
# Any file of an X-ray, DICOM too. The notebook computes on the CPU here, so that the
# TPU stays free for trainings.

# %%
import jax
import matplotlib.pyplot as plt
from PIL import Image

import mtpret_jax

jax.config.update("jax_platforms", "cpu")
picture = sorted(pathlib.Path(FOLDER, "images").glob("*.png"))[0]
finding = mtpret_jax.load(f"{RUN}/runs/contrastive_finding").predict(picture)
lungs = mtpret_jax.load(f"{RUN}/runs/contrastive_lungs").predict(picture)
print(picture, finding["probability"], *finding["warnings"])
plt.imshow(Image.open(picture), cmap="gray")
plt.contour(lungs["mask"], levels=[0.5], colors="orange")
plt.axis("off")
plt.show()
