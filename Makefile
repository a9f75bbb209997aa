# make demo   all three stages on simulated X-rays: runs/demo/report.html
# make test   the whole suite
# make lint   ruff and pyright
# make docs   the pages, built strictly and without a network: build/docs/index.html
# make smoke  a small selection of the suite, for other versions of the libraries
# make notebooks  runs those of colab/, small: three minutes on two cores
# make bench  speed with ResNet-18, 20 minutes on two cores: benchmarks/README.md
# make bench-full       the other benchmarks, two hours
# make extras-test      preparing a set with Apache Beam; trackers; all extras together
# make tensorflow-test  our sets by tfds.load, with TFDS's own test of builders
# make tpu-test         steps compiled for a slice of TPUs, on any machine
# make bench-slices     every stage for 1, 8 and 256 chips, an hour and more
# make pytorch-test     exported backbones in PyTorch and ONNX Runtime, .pth, DICOM by highdicom
#
# Each makes its own virtual environment when there is none. Only Python 3.11 to 3.13
# and make are needed. Another Python, folder or set of versions:
#   make test PYTHON=python3.13 VENV=.venv-colab CONSTRAINTS=constraints-colab.txt
# To compare with PyTorch, an interpreter that has it and torchvision:
#   make bench TORCH_PYTHON=$HOME/torch/bin/python

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10
DEMO_ARGS ?=
TORCH_PYTHON ?=
# Beam and TensorFlow want their own versions of some libraries.
EXTRAS_VENV ?= .venv-extras
TENSORFLOW_VENV ?= .venv-tensorflow
PYTORCH_VENV ?= .venv-pytorch
TPU_VENV ?= .venv-tpu
# Not the conftest.py of the suite: these tests need no JAX.
ALONE := --noconftest --override-ini filterwarnings=default

RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs smoke notebooks bench bench-full format install extras-test
.PHONY: tensorflow-test pytorch-test tpu-test bench-slices
.DELETE_ON_ERROR:

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@begin=$$(date +%s); \
	  { test -x $(RUN) || $(PYTHON) -m venv $(VENV); } && \
	  $(RUN) -m pip install --quiet --editable '.[dev,dicom,weights]' --constraint $(CONSTRAINTS) && \
	  touch $@ && \
	  echo "Installed into $(VENV) in $$(( $$(date +%s) - begin )) s."

demo: $(STAMP)
	@begin=$$(date +%s); \
	  $(RUN) -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo --data_dir=runs/data $(DEMO_ARGS) && \
	  echo "Ran in $$(( $$(date +%s) - begin )) s, installation not counted: runs/demo/report.html"

# The share that is done stands at the right of each line.
test: $(STAMP)
	@echo "The whole suite, 35 minutes on two cores. The share that is done stands at the right."
	$(RUN) -m pytest $(PYTEST_ARGS)

smoke: $(STAMP)
	$(RUN) -m pytest $(PYTEST_ARGS) -m smoke

# A kernel computes in processes of its own, so that two notebooks fill two cores.
notebooks: $(STAMP)
	$(RUN) -m pytest -n 2 --durations 0 $(ALONE) tests/notebooks

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

$(VENV)/.docs: $(STAMP)
	$(RUN) -m pip install --quiet --editable '.[docs]' --constraint $(CONSTRAINTS)
	touch $@

# Pages load nothing from a network, and every link of theirs holds.
docs: $(VENV)/.docs
	rm -rf build/docs
	$(RUN) -m sphinx --quiet --fail-on-warning --conf-dir docs --doctree-dir build/doctrees --fresh-env . build/docs
	$(RUN) docs/check_site.py build/docs
	@echo "Built: build/docs/index.html"

BENCH := $(RUN) -m benchmarks
AGAINST := --torch_python=$(TORCH_PYTHON)

bench: $(STAMP)
	$(BENCH).contrastive $(AGAINST)
	$(BENCH).segmentation $(AGAINST) --batch_size=16
	$(BENCH).detection $(AGAINST) --image_size=192 --batch_size=4 --steps=4
	$(BENCH).input_pipeline --rounds=3
	$(BENCH).hot_path --stage=contrastive --rounds=3

bench-full: $(STAMP)
	$(BENCH).contrastive $(AGAINST) --network=resnet50 --rounds=3 --steps=2 --buffer=1 --end_to_end_steps=6 --warm_up=2
	$(BENCH).segmentation $(AGAINST) --network=resnet50 --output_stride=8 --batch_size=4 --steps=4
	$(BENCH).hot_path --stage=finetune
	$(BENCH).startup
	$(BENCH).growth

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# All extras but those of accelerators.
$(EXTRAS_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(EXTRAS_VENV)
	$(EXTRAS_VENV)/bin/python -m pip install --quiet --editable '.[beam,dicom,docs,mlflow,wandb,weights]' pytest
	touch $@

extras-test: $(EXTRAS_VENV)/.installed
	JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(EXTRAS_VENV)/bin/python -m pytest $(ALONE) tests/beam tests/trackers

$(TENSORFLOW_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TENSORFLOW_VENV)
	$(TENSORFLOW_VENV)/bin/python -m pip install --quiet --editable . pytest tensorflow-cpu dill
	touch $@

# TensorFlow's base class has a test_session, which says "Not a test".
tensorflow-test: $(TENSORFLOW_VENV)/.installed
	$(TENSORFLOW_VENV)/bin/python -m pytest $(ALONE) -k 'not test_session' tests/tensorflow

# The compiler of TPUs, which needs none.
$(TPU_VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(TPU_VENV)
	$(TPU_VENV)/bin/python -m pip install --quiet --editable '.[tpu]' pytest --constraint $(CONSTRAINTS)
	touch $@

tpu-test: $(TPU_VENV)/.installed
	$(TPU_VENV)/bin/python -m pytest --durations 5 tests/ahead

bench-slices: $(TPU_VENV)/.installed
	$(TPU_VENV)/bin/python -m benchmarks.slices --network=resnet50 --image_size=224 --dtype=bfloat16

# torchvision without its compiled operators, which backbones do not need.
$(PYTORCH_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(PYTORCH_VENV)
	$(PYTORCH_VENV)/bin/python -m pip install --quiet torch==2.13.0 numpy pillow pytest safetensors onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 highdicom==0.28.2 ml_dtypes 'etils[epath]' huggingface_hub pyyaml
	$(PYTORCH_VENV)/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 timm==1.0.31
	touch $@

pytorch-test: $(PYTORCH_VENV)/.installed $(STAMP)
	rm -rf build/exported
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(RUN) tests/pytorch/write_exported.py build/exported
	$(RUN) tests/pytorch/write_dicoms.py build/exported/dicom
	PYTHONPATH=tests/pytorch EXPORTED=$(CURDIR)/build/exported $(PYTORCH_VENV)/bin/python -m pytest -s $(ALONE) tests/pytorch
