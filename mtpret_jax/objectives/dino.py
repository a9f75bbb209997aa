"""Self-distillation without labels: a student tells what its slow copy sees elsewhere.

The teacher sees the two large views, the student these and the small ones. What the
teacher chooses among prototypes is centred and sharpened, or both would collapse.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads
from mtpret_jax.objectives import objective
from mtpret_jax.ops import self_supervision


class Memory(flax.struct.PyTreeNode):
    """What self-distillation keeps beside the student.

    Attributes:
      teacher: The slow copy.
      center: Running mean of the teacher's outputs, float32 [K].
    """

    teacher: objective.SlowCopy
    center: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Dino:
    """Self-distillation as `objective.Objective`.

    Attributes:
      encoder: Backbone and the head before the prototypes.
      config: Momentum, temperatures, prototypes.

    Source: Caron et al. 2021, "Emerging properties in self-supervised vision
    transformers". Differs: LayerNorm in the head; the prototypes learn from the first
    step on, and the teacher's temperature is the same from there on; the student is
    handed over, as by every objective.
    """

    encoder: objective.Encoder
    config: schema.DinoConfig
    draws = False
    splits = True
    rests = ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, Memory]:
        """Teacher and student alike."""
        config = self.config
        head = self.encoder.init(key, body, image)
        shape = (config.embedding_size, config.prototypes)
        prototypes = jax.random.normal(memory_key, shape, jnp.float32)
        made = {"projection": head, "prototypes": prototypes}
        pair = {"backbone": body.params, "head": made}
        teacher = objective.SlowCopy(pair, body.model_state)
        return made, Memory(teacher, jnp.zeros(config.prototypes))

    def begin(
        self, memory: Memory, pair: types.Tree, model_state: types.Tree
    ) -> Memory:
        """Makes the teacher a copy of the student."""
        return memory.replace(teacher=objective.SlowCopy(pair, model_state))

    def prepare(
        self,
        key: jax.Array,
        memory: Memory,
        pair: types.Tree,
        arrays: objective.Arrays,
        progress: jax.Array,
    ) -> objective.Prepared:
        """The teacher's embeddings for each row; its centre follows them."""
        del key
        momentum = objective.rising(self.config.momentum, progress)
        params = memory.teacher.follow(pair, momentum)
        embedding, state, dtype = self._embed(
            params, memory.teacher.state, objective.both(arrays), views=2
        )
        prototypes = _directions(params)
        # Outputs are linear in embeddings, and so is their mean.
        mean = _outputs(embedding.mean(0), prototypes)
        keep = self.config.center_momentum
        queries, positives = (
            objective.everywhere(part, dtype) for part in objective.apart(embedding)
        )
        partner = arrays["partner"]
        rows = objective.pictures(arrays) | {
            "of_positive": positives[partner],  # for the query of this row
            "of_query": queries[objective.order(partner)],  # for its positive view
        }
        if "local" in rows:
            own = queries[jnp.arange(len(partner))]
            rows["of_local"] = jnp.stack([own, rows["of_positive"]], 1)
        shared = {"prototypes": prototypes, "center": memory.center}
        after = Memory(
            teacher=objective.SlowCopy(params, state),
            center=keep * memory.center + (1 - keep) * mean,
        )
        return objective.Prepared(rows, shared, after)

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """Mean over pairs of a student's view and a teacher's other view."""
        embedding, updated, _ = self._embed(
            pair, model_state, objective.both(rows), views=2
        )
        prototypes = _directions(pair)
        query, positive = objective.apart(embedding)

        def compare(student: jax.Array, teacher: jax.Array) -> jax.Array:
            return self_supervision.distillation(
                _outputs(student, prototypes),
                jax.lax.stop_gradient(_outputs(teacher, shared["prototypes"])),
                shared["center"],
                student_temperature=self.config.student_temperature,
                teacher_temperature=self.config.teacher_temperature,
            )

        terms = [compare(query, rows["of_positive"])]
        terms.append(compare(positive, rows["of_query"]))
        small = objective.local(rows)
        if small is not None:
            count = len(small) // len(query)
            # Running statistics are those of large views, as users' images are.
            seen, _, _ = self._embed(pair, model_state, small, views=count)
            seen = seen.reshape(len(query), count, 1, seen.shape[-1])
            of_local = rows["of_local"][:, None]
            each = compare(seen, of_local)  # [B, V, 2]
            terms += list(jnp.moveaxis(each.reshape(len(query), -1), 1, 0))
        loss = sum(terms, jnp.zeros_like(terms[0])) / len(terms)
        return loss, updated, {"loss": loss, "embedding": query}

    def _embed(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        image: jax.Array,
        *,
        views: int,
    ) -> tuple[jax.Array, types.Tree, jnp.dtype]:
        """Embeddings of unit length, float32 [B, D]; the rest as of the encoder."""
        body = {"backbone": pair["backbone"], "head": pair["head"]["projection"]}
        embedding, updated, dtype = self.encoder(body, model_state, image, views=views)
        return heads.unit(embedding), updated, dtype


def _directions(pair: types.Tree) -> jax.Array:
    """Prototypes of unit length, float32 [D, K]."""
    return heads.unit(pair["head"]["prototypes"], axis=0)


def _outputs(embedding: jax.Array, prototypes: jax.Array) -> jax.Array:
    """Likeness to each prototype, float32 [..., K]; a TPU would round it."""
    return jnp.matmul(embedding, prototypes, precision="highest")


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> Dino:
    """The objective of a run's options."""
    options = config.dino
    head = heads.Mlp(options.hidden_size, options.embedding_size, layers=3)
    encoder = objective.Encoder(backbone, head, config.batch_norm_rows)
    return Dino(encoder, options)
