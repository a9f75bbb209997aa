"""What crosses a border between rooms: batches, features, states, and four contracts.

Axis letters, used in every docstring: B batch, H and W image height and width in
pixels, C channels, D embedding, K queue, L labels, M boxes of an image, N anchors or
proposals, P landmarks, S classes of a segmentation mask (background included).

Arrays of a batch, by kind (`record` and `example_valid` are always there):

| kind           | arrays                                                            |
|----------------|-------------------------------------------------------------------|
| all            | `record` int32 [B], position in the split, -1 for padding;        |
|                | `example_valid` bool [B], false for padding                       |
| contrastive    | `query`, `positive`: pictures; `partner` int32 [B], the row of    |
|                | `positive` that shows the image of the query in this row;         |
|                | `query_owner`, `positive_owner` int32 [B]: alike for all images   |
|                | of a set that are of one group (patient); where small views are   |
|                | asked for also `local` [B, V, h, w, 1] of the query's image, with |
|                | `local_statistics` [B, V, 2] or [B, V, 2, C]; with a teacher      |
|                | `query_teacher`, `positive_teacher` float32 [B, D], its features  |
| supervised     | `image`: a picture                                                |
| a picture      | uint8 or uint16 [B, H, W, 1], 0 for padding, with                 |
|                | `<its name>_statistics` float32 [B, 2] or [B, 2, C]: see          |
|                | `ops.views.normalise`                                             |
| classification | `label` float32 [B, L] in {0, 1}; `label_known` bool [B, L];      |
|                | in training with `class_weights` also `label_weight` float32      |
|                | [B, L]; in evaluation of a set with studies also `study` int32    |
|                | [B], index of the study in the split, -1 for none                 |
| segmentation   | `segmentation` uint8 [B, H, W] class index; `pixel_known` bool    |
|                | [B, H, W]; in evaluation also `pixel_size` float32 [B, 2], height |
|                | and width of a pixel of the square in pixels as stored, and       |
|                | `outside` int32 [B, 255], pixels of each class beyond the square  |
| ordinal        | as classification, without studies                                |
| regression     | `value` float32 [B], in its unit; with a second input also        |
|                | `second` int32 [B], index of its class, -1 for not known          |
| detection      | `box` float32 [B, M, 4] as y0, x0, y1, x1, fractions of height    |
|                | and width; `box_class` int32 [B, M], 0 is the first real class;   |
|                | `box_valid` bool [B, M]; in evaluation also beyond the square     |
| landmarks      | `landmark` float32 [B, P, 2] as y, x, fractions of height and     |
|                | width; `landmark_known` bool [B, P]; in evaluation also beyond    |
|                | the square, and with `extent` float32 [B, 2], height and width of |
|                | the square, and `longer_side` float32 [B] of the stored picture,  |
|                | both in its pixels; `spacing` float32 [B], mm of one, NaN unknown |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypedDict

import flax.struct
import jax
import numpy as np
import optax

Array = jax.Array
Example = dict[str, np.ndarray]
Scalars = dict[str, Array]
Tree = Any


class Names(TypedDict, total=False):
    """What classes of a set are called, and the `regression.Scale` of its tasks."""

    label_names: Mapping[str, Sequence[str]]
    mask_names: Sequence[str]
    object_names: Sequence[str]
    landmark_names: Sequence[str]
    values: Mapping[str, str]
    scales: dict[str, Any]


class Batch(flax.struct.PyTreeNode):
    """Examples of one task.

    Attributes:
      arrays: See the module's table; the leading axis is B.
      task: Name of the task. Static, so `jit` compiles one step for each task.
    """

    arrays: dict[str, Any]
    task: str = flax.struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class Segment:
    """A task and the number of optimiser steps it gets in one go."""

    task: str
    steps: int


class Features(flax.struct.PyTreeNode):
    """What a backbone makes of a batch of images.

    Attributes:
      levels: C2 to C5, each [B, H/s, W/s, C] with the strides the task asked for; of a
        ViT only one, of which `feature_levels` makes four for the heads that need them.
      pooled: What stands for the whole image, float32 [B, D].
      stem: Before the first level, [B, H/s, W/s, C]; s is 2 for a ResNet.
      second: What is told beside the image, as in a batch; None where nothing is.
    """

    levels: tuple[Array, ...]
    pooled: Array
    stem: Array
    second: Array | None = None


class Variables(flax.struct.PyTreeNode):
    """Parameters and batch statistics of one module, each a tree of arrays."""

    params: Tree
    model_state: Tree


class TrainState(flax.struct.PyTreeNode):
    """Everything a run must keep to go on as if it had never stopped.

    Attributes:
      step: Optimiser steps done, int32 [].
      params: `{"backbone": tree, "heads": {name: tree}}`.
      model_state: Batch statistics in the same shape of tree.
      opt_state: State of the Optax transformation.
      memory: The stage's own struct, e.g. the key encoder and queue.
      key: The source of all that is random in a step, as uint32 (see
        `jax.random.key_data`); None where nothing is. Here and not in the program, so
        that runs of several seeds share one.
    """

    step: Array
    params: Tree
    model_state: Tree
    opt_state: Tree
    memory: Tree
    key: Tree = None


class Backbone(Protocol):
    """Images to features.

    Attributes:
      channels: Channels of the stem and of C2 to C5, finest first.
      output_strides: Strides that the last level can have, in pixels, the backbone's
        own first; the others need dilation. One that cannot be dilated has its own.
      sides: The smallest side of an image, pixels, and what must divide a side.
      branches: Residual blocks, and branches of each, that training may leave out;
        (0, 0): it may not.
      layers: Names of the parameters' outermost modules, by layers from the image on;
        what is not there belongs to the layer of the head.
      averages_cells: Whether `pooled` is the mean of the last level's cells as they
        are, so that a linear head can tell what each cell adds.
    """

    @property
    def channels(self) -> tuple[int, ...]: ...

    @property
    def output_strides(self) -> tuple[int, ...]: ...

    @property
    def sides(self) -> tuple[int, int]: ...

    @property
    def branches(self) -> tuple[int, int]: ...

    @property
    def layers(self) -> Sequence[Sequence[str]]: ...

    @property
    def averages_cells(self) -> bool: ...

    def init(self, key: Array, image: Array) -> Variables:
        """Draws parameters. `image` is float [B, H, W, 1]; only its shape counts."""
        ...

    def apply(
        self,
        variables: Variables,
        image: Array,
        *,
        train: bool,
        output_stride: int = 0,
        batch_norm_rows: int = 0,
        paths: Array | None = None,
    ) -> tuple[Features, Tree]:
        """Returns features and the batch statistics after this call.

        `train` uses (and updates) statistics of the batch, those of each group of
        `batch_norm_rows` examples (0: of the whole); a backbone without BatchNorm has
        none, `{}`. `output_stride` is the last level's, in pixels; 0: the backbone's
        own, which one that cannot be dilated has whatever is asked for. `paths` are
        the factors of the residual branches, float32 [blocks, branches, B], as
        `models.stochastic_depth` draws them; None keeps every branch as it is.

        Raises:
          ValueError: If the backbone can be dilated, but not to that stride, or the
            image has a size that it does not take.
        """
        ...


class Metric(Protocol):
    """Per-example records that can be joined, resampled and turned into values.

    Attributes:
      primary: Name of the value by which a model is chosen.
      sign: 1 where it is a share, and higher is better; -1 where it is an error in a
        unit, and lower is.
      class_names: What is told apart; of masks the background comes first.
    """

    sign: ClassVar[int]

    @property
    def primary(self) -> str: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Keeps of a batch what the metric needs, axis 0 being the example."""
        ...

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Does the costly work once: statistics per example, axis 0 the example."""
        ...

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Values over the given examples; NaN where there is nothing to measure."""
        ...

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The same values, float64 [R], with every example counted `weight` times.

        `weight` is float64 [N, R]: a column for each of R resamples. What it costs to
        sort and to look up is paid once for all of them.
        """
        ...

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """How wrong each example turned out, float64 [N]; NaN where none can say."""
        ...


class Task(Protocol):
    """A head, its loss, its prediction and its metric, which belong together.

    Attributes:
      output_stride: The backbone stride that the head needs, in pixels; 0: any.
      batch_norm_rows: Examples of a group that BatchNorm normalises by itself in
        training; 0: the whole batch.
      flip_at_test: Whether `predict` also wants the features of mirrored images.
    """

    @property
    def output_stride(self) -> int: ...

    @property
    def batch_norm_rows(self) -> int: ...

    @property
    def flip_at_test(self) -> bool: ...

    def init(self, key: Array, features: Features) -> Variables:
        """Draws the head's parameters for features of this shape."""
        ...

    def loss(
        self, key: Array, variables: Variables, features: Features, batch: Batch
    ) -> tuple[Array, Scalars, Tree]:
        """Returns the loss of each example, named parts of it, new batch statistics.

        The loss is float32 [B] (not reduced, padding not removed); the parts are
        float32 []. The head runs here, in training mode.
        """
        ...

    def predict(
        self, variables: Variables, features: Features, mirrored: Features | None = None
    ) -> dict[str, Array]:
        """Runs the head in evaluation mode; axis 0 of each output is the example.

        With features of the mirrored images, too, it is the mean over both.
        """
        ...

    def metric(self) -> Metric:
        """The metric that measures this task's predictions."""
        ...


class Optimizer(Protocol):
    """How gradients become updates.

    Attributes:
      direction: Way of descent; `update` gives it the learning rates.
      learning_rate: Step of the curve to rate, float32 [].
    """

    @property
    def direction(self) -> optax.GradientTransformation: ...

    @property
    def learning_rate(self) -> Callable[[Array], Array]: ...

    def clip(self, grads: Tree) -> tuple[Tree, Array]:
        """Gradients of bounded norm, and their norm before, float32 []."""
        ...

    def update(
        self, grads: Tree, opt_state: Tree, params: Tree, rate: Tree
    ) -> tuple[Tree, Tree]:
        """New parameters and optimiser state; a tree of rates begins as `params`."""
        ...


class Stage(Protocol):
    """How a step changes the state, and in which order tasks come. Frozen and pure."""

    def segments(self) -> tuple[Segment, ...]:
        """Tasks in order; a pure function of configuration and seed."""
        ...

    def is_validated(self, done: int, every: int) -> bool:
        """Whether it is validated after `done` steps, if asked to every so many."""
        ...

    def init(self, key: Array, batches: Mapping[str, Batch]) -> TrainState:
        """A fresh state. `batches` holds one batch of each task, for its shapes."""
        ...

    def begin(self, state: TrainState, task: str) -> TrainState:
        """What happens between two segments, before the first step of `task`."""
        ...

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """One optimiser step."""
        ...

    def hand_over(self, state: TrainState) -> Tree:
        """What the next run may start from, as nested dicts of arrays.

        `backbone` and `heads`, each with `params` and `model_state`, and `memory`.
        """
        ...
