"""Momentum contrast without a queue, version 3: the batch's own keys are contrasted.

Each view predicts the key of the other view among the keys of the whole global batch. A
key of the query's own image or patient is no negative of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads, vit
from mtpret_jax.objectives import objective
from mtpret_jax.ops import placement, self_supervision


@dataclasses.dataclass(frozen=True, eq=False)
class MocoV3:
    """Momentum contrast in a batch as `objective.Objective`.

    Attributes:
      encoder: Backbone and projection of both encoders.
      predictor: Flax module, embeddings of the query encoder to what are contrasted.
      config: Momentum and temperature.

    Source: Chen, Xie and He 2021, "An empirical study of training self-supervised
    vision transformers". Differs: LayerNorm in place of BatchNorm in the heads, so that
    none tells which examples lie together; keys of the same patient are left out; a
    ViT's positions are learnt.
    """

    encoder: objective.Encoder
    predictor: heads.Mlp
    config: schema.MocoV3Config
    draws = False
    splits = True

    @property
    def rests(self) -> tuple[str, ...]:
        """The embedding of a ViT's patches: steadier, the paper found."""
        is_vit = isinstance(self.encoder.backbone, vit.ViTBackbone)
        return ("patch_embed",) if is_vit else ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, objective.SlowCopy]:
        """Both encoders alike."""
        head = self.encoder.init(key, body, image)
        embedding = jnp.zeros((1, self.config.embedding_size))
        predictor = self.predictor.init(memory_key, embedding)["params"]
        pair = {"backbone": body.params, "head": {"projection": head}}
        memory = objective.SlowCopy(pair, body.model_state)
        return {"projection": head, "predictor": predictor}, memory

    def begin(
        self, memory: objective.SlowCopy, pair: types.Tree, model_state: types.Tree
    ) -> objective.SlowCopy:
        """Makes the key encoder a copy of the query encoder."""
        return memory.replace(params=_followed(pair), state=model_state)

    def prepare(
        self,
        key: jax.Array,
        memory: objective.SlowCopy,
        pair: types.Tree,
        arrays: objective.Arrays,
        progress: jax.Array,
    ) -> objective.Prepared:
        """Momentum update and keys of both views."""
        del key
        momentum = objective.rising(self.config.momentum, progress)
        params = memory.follow(_followed(pair), momentum)
        keys, state, dtype = self.encoder(
            _encoding(params), memory.state, objective.both(arrays), views=2
        )
        queries, positives = (
            objective.everywhere(heads.unit(part), dtype)
            for part in objective.apart(keys)
        )
        owners = {
            name: placement.replicate(arrays[name])
            for name in ("query_owner", "positive_owner")
        }
        rows = objective.pictures(arrays) | {
            "query_own": arrays["partner"],
            "positive_own": objective.order(arrays["partner"]),
            "query_owner": arrays["query_owner"],
            "positive_owner": arrays["positive_owner"],
        }
        shared = {"query": queries, "positive": positives, **owners}
        return objective.Prepared(rows, shared, objective.SlowCopy(params, state))

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """Sum over both views; also how often the own key came first."""
        embedding, updated, _ = self.encoder(
            _encoding(pair), model_state, objective.both(rows), views=2
        )
        trees = {"params": pair["head"]["predictor"]}
        told = self.predictor.apply(trees, embedding)
        found = [
            self_supervision.batch_contrast(
                heads.unit(part),
                shared[other],
                rows[f"{name}_own"],
                temperature=self.config.temperature,
                excluded=rows[f"{name}_owner"][:, None]
                == shared[f"{other}_owner"][None],
            )
            for part, name, other in zip(
                objective.apart(jnp.asarray(told)),
                ("query", "positive"),
                ("positive", "query"),
                strict=True,
            )
        ]
        (loss, first), (other_loss, other_first) = found
        loss = loss + other_loss
        query, _ = objective.apart(heads.unit(embedding))
        accuracy = jnp.stack([first, other_first]).mean(0)
        return loss, updated, {"loss": loss, "accuracy": accuracy, "embedding": query}


def _followed(pair: types.Tree) -> types.Tree:
    """What of the query encoder has a slow copy: all but the predictor."""
    head = {"projection": pair["head"]["projection"]}
    return {"backbone": pair["backbone"], "head": head}


def _encoding(pair: types.Tree) -> types.Tree:
    """Backbone and projection, as the encoder takes them."""
    return {"backbone": pair["backbone"], "head": pair["head"]["projection"]}


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> MocoV3:
    """The objective of a run's options."""
    options = config.moco_v3
    width, hidden = options.embedding_size, options.hidden_size
    projection = heads.Mlp(hidden, width, layers=3)
    encoder = objective.Encoder(backbone, projection, config.batch_norm_rows)
    return MocoV3(encoder, heads.Mlp(hidden, width, layers=2), options)
