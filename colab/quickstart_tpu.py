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
# # Quickstart: three stages on simulated X-rays
#
# **What it does.** Simulates radiographs of chests, hands and jaws, pre-trains a
# small network on them without labels (stage 1), goes on with three tasks in turn
# (stage 2), fine-tunes it on each task beside the same training from scratch (stage
# 3), shows the report, and lets the result look at one more picture.
#
# **For whom.** Anybody who wants to see the whole of it once. No data are needed.
#
# **How long.** About 10 minutes on two CPU cores, installing (a minute) not
# counted. Nobody has timed it on a TPU yet.
#
# **When it fails.** Run the cell again: a training goes on where it stopped. *The TPU
# is already in use*: Runtime → Restart session, then run all cells. Anything else:
# the last line of the output says what was expected. **For research only, not for
# clinical use.**

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
# ## 2. Train
# `configs/demo.py` names the sets, tasks and runs; have a look at it. Batch sizes are
# multiples of 8, so that 1, 4 or 8 devices can share them. A first run compiles each
# step, which may look as if nothing happened for a minute.
#
# On a CPU, or to see it pass quickly, put `configs/tiny.py:demo` in its place, and give
# `RUN` another name.

# %%
RUN = f"{WORK}/quickstart"
CONFIG = "configs/tiny.py:demo" if TINY else "configs/demo.py"

# !python -m mtpret_jax.main --config={CONFIG} --workdir={RUN} --data_dir={WORK}/data
assert _exit_code == 0, "The training stopped; the last line above says why."

# %% [markdown]
# ## 3. Read the report
# One page without scripts, also in `runs/quickstart/report.html`. The phantoms are
# easy: it shows that every part works, not that pre-training helps.

# %%
import html

from IPython import display

page = html.escape(pathlib.Path(RUN, "report.html").read_text())
frame = f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0">'
display.HTML(f"<div>{frame}</iframe></div>")

# %% [markdown]
# ## 4. Predict
# A jaw that no run has seen. The notebook computes on the CPU here, so that the TPU
# stays free for trainings.

# %%
import jax
from PIL import Image

import mtpret_jax
from tfds_builders.phantom_xray import simulator

jax.config.update("jax_platforms", "cpu")
jaw = simulator.simulate("head", size=256, seed=1, split_index=2, index=0)
model = mtpret_jax.load(f"{RUN}/runs/mtpret_missing_tooth")
found = model.predict(jaw.image)
print("The truth:", ("complete", "missing_tooth")[jaw.finding])
print("Predicted:", found["probability"])
Image.fromarray(jaw.image)
