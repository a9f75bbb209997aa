"""The trials by which the settings of `configs/study_mini.py` were chosen.

Run:     python -m benchmarks.inner_splits FOLDER INNER
         python -m mtpret_jax.main --config=configs/study_mini_search.py:INNER,TRIAL \
             --workdir=runs/search/TRIAL
         INNER holds no picture of the test splits of FOLDER.
Expect:  docs/study_mini_search.md: what was tried, in order, and what came out.
Source:  ours.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

STAGE_1, VIEWS = "study.contrastive", "study.contrastive.contrastive"
# Probes and neighbours on the frozen backbone; no fine-tuning to speak of.
_PROBED = ("chest_cls", "chest_det_cls", "bone_cls")
_PROBES: dict[str, Any] = {
    "study.tasks": _PROBED,
    "study.finetune_steps": dict.fromkeys(_PROBED, 1),
    "study.learning_rates": {},
    "study.finetune.optimizer.warmup_steps": 0,
    "study.seeds": (1, 1),
    "study.arms": ("contrastive",),
    "study.claims": (),
    "report.baseline": "contrastive",
    f"{STAGE_1}.steps": 400,
    f"{VIEWS}.image_size": 64,
}
_PLAIN = dict(brightness=0.1, contrast=0.2, gamma=0.2, blur_probability=0.0, noise=0.01)
# Everything once at a tenth of the labels.
_SHORT = dict(
    chest_cls=150, chest_det_cls=150, bone_cls=150, lung_seg=150, chest_det=300
)
_WHOLE: dict[str, Any] = {
    "study.arms": ("scratch", "contrastive", "mtpret"),
    "study.claims": ("mtpret - scratch", "mtpret - contrastive"),
    "study.fractions": (0.1,),
    "study.seeds": (1,),
    "study.finetune_steps": _SHORT,
    f"{STAGE_1}.steps": 400,
    f"{STAGE_1}.optimizer.learning_rate": 0.1,
    f"{VIEWS}.image_size": 64,
}
_NARROW: dict[str, Any] = {
    **_WHOLE,
    "backbone.width": 16,
    "study.seeds": (2,),
    f"{STAGE_1}.steps": 1500,
}
# Rates of stages 2 and 3: less where few labels are soon learnt by heart.
_GENTLE: dict[str, Any] = {
    **{f"tasks.{name}.learning_rate_scale": 0.3 for name in _PROBED},
    "tasks.lung_seg.learning_rate_scale": 2.0,
    "study.learning_rates": {},
}
_ADAM = dict(name="adamw", learning_rate=0.001, warmup_steps=10)
_PASS: dict[str, Any] = {
    "study.arms": ("contrastive", "mtpret"),
    "study.claims": ("mtpret - contrastive",),
    "report.baseline": "contrastive",
    "study.seeds": (1,),
    "study.continual.optimizer": _ADAM,
    "study.continual.steps": 60,
    "study.continual.checkpoint_every": 60,
    "study.continual.continual.rounds": 5,
}
_STRONG = dict(
    crop_min_area=0.5,
    flip_probability=0.5,
    rotation_degrees=10.0,
    brightness=0.2,
    contrast=0.4,
    gamma=0.3,
    blur_probability=0.5,
    noise=0.03,
)
# Stage 2 hardly moves for classification.
_LIGHT: dict[str, Any] = {
    **_NARROW,
    **_GENTLE,
    **_PASS,
    **{f"tasks.{name}.augment": _STRONG for name in _PROBED},
    **{f"tasks.{name}.learning_rate_scale": 0.1 for name in _PROBED},
    "study.learning_rates": dict.fromkeys(_PROBED, 0.003),
}
# What a trial changes of configs/study_mini.py as it was before the search.
TRIALS: dict[str, dict[str, Any]] = {
    "probe_scratch": {
        **_PROBES,
        "study.arms": ("scratch",),
        "report.baseline": "scratch",
    },
    "probe_base": _PROBES,
    "probe_rate": {**_PROBES, f"{STAGE_1}.optimizer.learning_rate": 0.1},
    "probe_plain": {**_PROBES, f"{VIEWS}.augment": _PLAIN},
    "probe_sharp": {**_PROBES, f"{VIEWS}.temperature": 0.1},
    "probe_keys": {**_PROBES, f"{VIEWS}.momentum": 0.95},
    "probe_crop": {**_PROBES, f"{VIEWS}.augment": dict(crop_min_area=0.2)},
    "whole_first": _WHOLE,
    "narrow_first": _NARROW,
    "narrow_adam": {  # stage 2 as fine-tuning: less of classification
        **_NARROW,
        **_GENTLE,
        **_PASS,
        "study.arms": ("scratch", "contrastive", "mtpret"),
        "study.claims": ("mtpret - scratch", "mtpret - contrastive"),
        "report.baseline": "scratch",
        "study.seeds": (2,),
    },
    "narrow_light": _LIGHT,
    "narrow_light_2": {**_LIGHT, "study.seeds": (2,)},  # once more
    "narrow_teeth": {  # one more task of stage 2
        **_LIGHT,
        "study.continual.continual.tasks": (
            *("chest_cls", "chest_det_cls", "lung_seg", "chest_det"),
            "dental_teeth",
        ),
    },
    "narrow_anchor": {  # stage 2 is held nearer to where it began
        **_NARROW,
        **_GENTLE,
        **_PASS,
        **{f"tasks.{name}.augment": _STRONG for name in _PROBED},
        "study.continual.continual.anchor_pretrained": 0.1,
        "study.continual.continual.anchor_previous": 0.1,
    },
    "narrow_views": {  # other views of labelled pictures, to be learnt by heart less
        **_NARROW,
        **_GENTLE,
        "study.arms": ("scratch", "contrastive"),
        "study.claims": ("contrastive - scratch",),
        "study.tasks": _PROBED,
        "study.finetune_steps": dict.fromkeys(_PROBED, 150),
        "study.learning_rates": {},
        **{f"tasks.{name}.augment": _STRONG for name in _PROBED},
    },
    "narrow_rate": {
        **_NARROW,
        "study.arms": ("scratch", "contrastive"),
        "study.claims": ("contrastive - scratch",),
        "study.tasks": _PROBED,
        "study.finetune_steps": dict.fromkeys(_PROBED, 150),
        "study.learning_rates": {},
        "study.finetune.optimizer.learning_rate": 0.0003,
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """The config of "FOLDER,TRIAL"."""
    folder, _, trial = arg.rpartition(",")
    if not folder or trial not in TRIALS:
        raise ValueError(
            "configs/study_mini_search.py needs a folder of sets and the name of a "
            f"trial, as in FOLDER,TRIAL. The trials: {', '.join(TRIALS)}."
        )
    config = _study_mini().get_config(folder)
    config.seed = 100  # not those of the study
    if trial == "narrow_teeth":
        config.tasks.dental_teeth = schema.task(
            kind="segmentation",
            dataset="dental_teeth",
            image_size=96,
            batch_size=16,
            learning_rate_scale=2.0,
            segmentation=dict(output_stride=8, channels=64, rates=(2, 4, 6)),
        )
    for path, value in TRIALS[trial].items():
        *parents, name = path.split(".")
        row = functools.reduce(lambda each, part: each[part], parents, config)
        if isinstance(value, dict) and name in ("augment", "optimizer"):
            row[name].update(value)
        elif isinstance(value, dict):
            row[name] = ConfigDict(value)
        else:
            row[name] = value
    return config


def _study_mini() -> Any:
    path = Path(__file__).with_name("study_mini.py")
    spec = importlib.util.spec_from_file_location("study_mini", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be imported.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
