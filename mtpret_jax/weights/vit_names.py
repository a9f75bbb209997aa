"""How libraries and families name the arrays of a vision transformer, as tables.

A rule gives one of our flat names (dots and PyTorch's axes: `blocks.3.norm1.weight`),
or several that a file keeps in one array, and the name in a file. `layout_vit` goes by
the rules, both ways.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterator, Mapping

PATCHES = "patch_embed.weight"
_ARRAYS = {"class_token", "positions", "registers", "scale1", "scale2"}
# What every reader leaves out: heads, decoders, mask tokens, tables of angles.
NOT_OURS = re.compile(
    r"(heads?|fc|lm_head|dino_head|ibot_head|decoder|decoder_\w+|classifier|pooler"
    r"|pre_logits|projectors?|predictors?)(\..*)?"
    r"|(embeddings\.)?mask_token"
    r"|(.*\.)?rope(_embed|_embeddings)?\..*"
)
# Families, by the names of `models.vit_families.FAMILIES`, and what shows in the arrays
# of each; "pooled" shows in the last layer's name alone.
FAMILIES: Mapping[str, frozenset[str]] = {
    name: frozenset(marks.split())
    for name, marks in {
        "deit": "positions key_bias",
        "mae": "positions key_bias",
        "mae_finetuned": "positions key_bias pooled",
        "dinov2": "positions key_bias scale",
        "dinov2_registers": "positions key_bias scale registers",
        "eva_x": "positions gated pooled",
        "eva_x_normed": "positions gated pooled mlp_norm",
        "dinov3": "registers scale",
        "dinov3_gated": "registers scale gated",
    }.items()
}
_MARKS = {
    "positions": "positions",
    "registers": "registers",
    "scale": "blocks.0.scale1",
    "gated": "blocks.0.mlp.gate.weight",
    "mlp_norm": "blocks.0.mlp.norm.weight",
    "key_bias": "blocks.0.attn.key.bias",
}
_QKV = "attn.query+attn.key+attn.value"
_NO_KEY_BIAS = {
    "attn.query.weight+attn.key.weight+attn.value.weight": "attn.qkv.weight",
    "attn.query.bias": "attn.q_bias",
    "attn.value.bias": "attn.v_bias",
}
_APART = {
    "attn.query": "attn.q_proj",
    "attn.key.weight": "attn.k_proj.weight",
    "attn.value": "attn.v_proj",
}
_TOKENS = {
    "class_token": "cls_token",
    "positions": "pos_embed",
    "patch_embed": "patch_embed.proj",
}
_BLOCK = {"norm1": "norm1", "norm2": "norm2", "attn.proj": "attn.proj"}
_MLP = {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_GAMMA = {"scale1": "ls1.gamma", "scale2": "ls2.gamma"}
_EVA_MLP = {"mlp.norm": "mlp.ffn_ln", "mlp.fc2": "mlp.w3"}
_EVA_SPLIT_MLP = _EVA_MLP | {"mlp.gate": "mlp.w1", "mlp.up": "mlp.w2"}
_TIMM_SPLIT_MLP = {
    "mlp.gate": "mlp.fc1_g",
    "mlp.up": "mlp.fc1_x",
    "mlp.norm": "mlp.norm",
    "mlp.fc2": "mlp.fc2",
}
_HF_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "scale1": "layer_scale1.lambda1",
    "scale2": "layer_scale2.lambda1",
}
_HF_TOKENS = {
    "class_token": "embeddings.cls_token",
    "registers": "embeddings.register_tokens",
}
_HF_DINOV2 = _HF_TOKENS | {
    "positions": "embeddings.position_embeddings",
    "patch_embed": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_HF_ATTENTION = {
    "attn.query": "attention.q_proj",
    "attn.key": "attention.k_proj",
    "attn.value": "attention.v_proj",
    "attn.proj": "attention.o_proj",
}
_HF_DINOV3 = _HF_TOKENS | {
    "patch_embed": "embeddings.patch_embeddings",
    "norm": "norm",
}
_HF_DINOV3_BLOCK = (
    _HF_BLOCK
    | {key: name for key, name in _HF_ATTENTION.items() if key != "attn.key"}
    | {"attn.key.weight": "attention.k_proj.weight", "mlp.fc2": "mlp.down_proj"}
)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """How a library or a family's own code names a ViT's arrays.

    Attributes:
      families: Those of `FAMILIES` that are published or built so.
      outside: Our name to theirs, outside the blocks; a name of a module stands for
        its `weight` and `bias`, and several joined by "+" for one array of theirs, of
        which "-" is a part that we do not have: zeros in the file.
      inside: The same within a block.
      blocks: What stands before their names in a block, "{}" being its number.
      pooled: Whether it is the mean of the patches that the last layer normalises.
      mask_token: Name and axes of the array that must be there to load it strictly.
      folds_class_position: Whether the class token includes its position where there
        are registers.
    """

    families: tuple[str, ...]
    outside: dict[str, str]
    inside: dict[str, str]
    blocks: str = "blocks.{}."
    pooled: bool = False
    mask_token: tuple[str, int] | None = None
    folds_class_position: bool = False

    @functools.cached_property
    def rules(self) -> list[tuple[tuple[str, ...], str]]:
        """Our names and theirs, with "{}" for a block's number."""
        rules = []
        for table, ours, theirs in (
            (self.outside, "", ""),
            (self.inside, "blocks.{}.", self.blocks),
        ):
            for key, name in table.items():
                for parts, target in _expand(key.split("+"), name):
                    whole = tuple(part and ours + part for part in parts)
                    rules.append((whole, theirs + target))
        return rules

    @property
    def patches(self) -> str:
        """Their name of the patches' kernel."""
        return next(name for ours, name in self.rules if ours == (PATCHES,))

    @functools.cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], tuple[str, ...]]]:
        return [
            (re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + "$"), ours)
            for ours, name in self.rules
        ]

    def fits(self, names: Collection[str]) -> tuple[str, ...]:
        """Of its families, those that have just these of our names."""
        marks = {mark for mark, name in _MARKS.items() if name in names}
        marks |= {"pooled"} if self.pooled else set()
        return tuple(key for key in self.families if FAMILIES[key] == marks)

    def find(self, name: str) -> tuple[str, ...] | None:
        """Our names for one of theirs, "" for a part that we do not have; or None."""
        for pattern, ours in self._patterns:
            hit = pattern.match(name)
            if hit:
                return tuple(part.format(*hit.groups()) for part in ours)
        return None


def _expand(parts: list[str], name: str) -> Iterator[tuple[list[str], str]]:
    """Rules of arrays, from a rule of arrays or of modules."""
    parts = ["" if part == "-" else part for part in parts]
    array = {part for part in parts if part in _ARRAYS or part[-7:] == ".weight"}
    if array or parts[0].endswith(".bias"):
        yield parts, name
        return
    for leaf in ("weight", "bias"):
        yield [f"{part}.{leaf}" for part in parts], f"{name}.{leaf}"


_PLAIN = ("deit", "mae")
_DINOV2_BOTH = ("dinov2", "dinov2_registers")
_TIMM = Layout(
    (*_PLAIN, *_DINOV2_BOTH),
    _TOKENS | {"registers": "reg_token", "norm": "norm"},
    _BLOCK | _MLP | _GAMMA | {_QKV: "attn.qkv"},
    folds_class_position=True,
)
_TIMM_EVA = Layout(
    ("eva_x",),
    _TOKENS | {"norm": "fc_norm"},
    _BLOCK | _NO_KEY_BIAS | {"mlp.gate+mlp.up": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
    pooled=True,
)
_EVA = Layout(
    ("eva_x",),
    _TOKENS | {"norm": "norm"},
    _BLOCK | _NO_KEY_BIAS | _EVA_SPLIT_MLP,
    pooled=True,
)
_HF = Layout(
    _DINOV2_BOTH,
    _HF_DINOV2,
    _HF_BLOCK
    | _MLP
    | {
        "attn.query": "attention.attention.query",
        "attn.key": "attention.attention.key",
        "attn.value": "attention.attention.value",
        "attn.proj": "attention.output.dense",
    },
    "encoder.layer.{}.",
    mask_token=("embeddings.mask_token", 2),
)
_HF3 = Layout(
    ("dinov3",),
    _HF_DINOV3,
    _HF_DINOV3_BLOCK | {"mlp.fc1": "mlp.up_proj"},
    "layer.{}.",
    mask_token=("embeddings.mask_token", 3),
)
_HF3_GATED = dataclasses.replace(
    _HF3,
    families=("dinov3_gated",),
    inside=_HF_DINOV3_BLOCK | {"mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj"},
)
_DINOV3_TOKENS = {
    "class_token": "cls_token",
    "patch_embed": "patch_embed.proj",
    "norm": "norm",
}
_DINOV3 = Layout(
    ("dinov3",),
    _DINOV3_TOKENS | {"registers": "storage_tokens"},
    _BLOCK
    | _MLP
    | _GAMMA
    | {
        "attn.query.weight+attn.key.weight+attn.value.weight": "attn.qkv.weight",
        "attn.query.bias+-+attn.value.bias": "attn.qkv.bias",
    },
)
# In the order in which they are tried.
LAYOUTS: Mapping[str, Layout] = {
    "timm": _TIMM,
    "timm_pooled": dataclasses.replace(
        _TIMM,
        families=("mae_finetuned",),
        outside=_TIMM.outside | {"norm": "fc_norm"},
        pooled=True,
    ),
    "dinov2": Layout(
        _DINOV2_BOTH,
        _TOKENS | {"registers": "register_tokens", "norm": "norm"},
        _TIMM.inside,
    ),
    "dinov2_hf": _HF,
    # The same in the memory of transformers 5, which renames as it loads and saves.
    "dinov2_hf5": dataclasses.replace(_HF, inside=_HF_BLOCK | _MLP | _HF_ATTENTION),
    "eva_timm": _TIMM_EVA,
    "eva_timm_apart": dataclasses.replace(
        _TIMM_EVA,
        families=("eva_x_normed",),
        inside=_BLOCK | _APART | _TIMM_SPLIT_MLP,
    ),
    "eva": _EVA,
    "eva_packed": dataclasses.replace(
        _EVA,
        inside=_BLOCK | _NO_KEY_BIAS | _EVA_MLP | {"mlp.gate+mlp.up": "mlp.w12"},
    ),
    "eva_apart": dataclasses.replace(
        _EVA,
        families=("eva_x_normed",),
        inside=_BLOCK
        | _EVA_SPLIT_MLP
        | {
            "attn.query.weight": "attn.q_proj.weight",
            "attn.key.weight": "attn.k_proj.weight",
            "attn.value.weight": "attn.v_proj.weight",
            "attn.query.bias": "attn.q_bias",
            "attn.value.bias": "attn.v_bias",
        },
    ),
    "dinov3": _DINOV3,
    "dinov3_gated": dataclasses.replace(
        _DINOV3,
        families=("dinov3_gated",),
        inside={key: name for key, name in _DINOV3.inside.items() if "fc" not in key}
        | {"mlp.gate": "mlp.w1", "mlp.up": "mlp.w2", "mlp.fc2": "mlp.w3"},
    ),
    "dinov3_hf": _HF3,
    "dinov3_hf_gated": _HF3_GATED,
    "dinov3_hf5": dataclasses.replace(_HF3, blocks="model.layer.{}."),
    "dinov3_hf5_gated": dataclasses.replace(_HF3_GATED, blocks="model.layer.{}."),
    "dinov3_timm": Layout(
        ("dinov3", "dinov3_gated"),
        _DINOV3_TOKENS | {"registers": "reg_token"},
        _BLOCK
        | _NO_KEY_BIAS
        | {"scale1": "gamma_1", "scale2": "gamma_2"}
        | _TIMM_SPLIT_MLP
        | _MLP,
    ),
}
