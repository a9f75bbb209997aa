"""Does it learn: every task kind overfits 16 radiographs, momentum contrast falls."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.data import pipeline, sources
from mtpret_jax.experiment import preparation, workshop
from mtpret_jax.training import evaluation, sharding

EXAMPLES = 16
SIZE = 64  # pixels
DETECTION = schema.DetectionConfig(
    channels=32,
    anchor_sizes=(6.0, 9.0, 13.0, 18.0, 26.0),
    proposals_before_nms=64,
    proposals=32,
    anchors_sampled=32,
    regions=32,
    hidden=64,
    max_boxes=4,
    detections=8,
)
ONE_STAGE = schema.DetectionConfig(
    head="retinanet",
    channels=32,
    anchor_sizes=(9.0, 14.0, 20.0, 26.0, 32.0),
    max_boxes=4,
    detections=8,
)
SEGMENTATION = schema.SegmentationConfig(
    output_stride=8, channels=32, rates=(1, 2, 3), dropout=0.0
)
LANDMARKS = schema.LandmarksConfig(channels=32)
TASKS = {
    "classification": ("hand", 80, 0.03, 0.99, {}),
    "segmentation": ("head", 60, 0.05, 0.9, {"segmentation": SEGMENTATION}),
    "detection": ("chest", 220, 0.03, 0.9, {"detection": DETECTION}),
    "detection in one stage": ("chest", 150, 0.03, 0.9, {"detection": ONE_STAGE}),
    # Per cent of the longer side.
    "landmarks": ("head", 60, 0.03, -3.0, {"landmarks": LANDMARKS}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    rows = {
        body: schema.DatasetConfig(
            "phantom_xray",
            {
                "body": body,
                "image_size": SIZE,
                "train": EXAMPLES,
                "validation": 0,
                "test": 0,
            },
        )
        for body in ("chest", "hand", "head")
    }
    return preparation.prepare(rows, tmp_path_factory.mktemp("data"))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", TASKS)
def test_a_task_overfits_sixteen_examples(name, folders):
    body, steps, rate, least, options = TASKS[name]
    task = schema.TaskConfig(
        kind=name.partition(" ")[0],
        dataset=body,
        target="finding",
        image_size=SIZE,
        batch_size=EXAMPLES,
        **options,
    )
    run = schema.RunConfig(
        steps=steps,
        optimizer=schema.OptimizerConfig(learning_rate=rate),
        finetune=schema.FinetuneConfig(task="it"),
    )
    config = schema.ExperimentConfig(
        backbone=schema.BackboneConfig(name="resnet18", width=16, in_channels=1),
        tasks={"it": task},
        runs={"run": run},
    )
    names = dataclasses.asdict(sources.open_prepared(folders[body], "train").metadata)
    tasks = workshop.build_tasks(config, {body: names})
    stage = stages.build(config, run, tasks)
    mesh = sharding.make_mesh(jax.devices()[:1])
    shapes = stages.shape_batches(config, run)
    state = sharding.compile_init(lambda key: stage.init(key, shapes), mesh)(
        jax.random.key(0)
    )
    _, step = sharding.compile_stage(stage, mesh)
    settings = schema.InputConfig()
    with pipeline.eval_batches(
        "it", task, settings, sources.open_prepared(folders[body], "train")
    ) as found:
        host = next(found)
    batch = sharding.put(host, mesh)
    losses = []
    for _ in range(steps):
        state, scalars = step(state, batch)
        losses.append(float(scalars["loss"]))
    predict = sharding.compile_predict(stage.learner.predict, mesh)
    metric = tasks["it"].metric()

    records, _ = evaluation.evaluate(
        lambda batch: predict(state.params, state.model_state, batch),
        [host],
        metric,
        put=lambda batch: sharding.put(batch, mesh),
    )

    assert losses[-1] < 0.5 * losses[0]
    found = evaluation.values(metric, records)[metric.primary]
    assert metric.sign * found >= least


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_contrast_starts_at_chance_then_falls_and_does_not_collapse(folders):
    queue, rows = 64, 16
    settings = schema.ContrastiveConfig(
        datasets=dict.fromkeys(folders, 1.0),
        image_size=SIZE,
        batch_size=rows,
        queue_size=queue,
        momentum=0.9,
        embedding_size=32,
        batch_norm_rows=8,
        augment=schema.AUGMENT_PRESETS["gentle"],
    )
    run = schema.RunConfig(
        stage="contrastive",
        steps=120,
        optimizer=schema.OptimizerConfig(learning_rate=0.06),
        contrastive=settings,
    )
    config = schema.ExperimentConfig(
        backbone=schema.BackboneConfig(name="resnet18", width=16, in_channels=1),
        runs={"run": run},
    )
    mesh = sharding.make_mesh(jax.devices()[:1])
    shapes = stages.shape_batches(config, run)

    def losses_of(rate: float, steps: int, state: types.TrainState | None):
        row = dataclasses.replace(
            run, optimizer=dataclasses.replace(run.optimizer, learning_rate=rate)
        )
        stage = stages.build(config, row, {})
        if state is None:
            init = sharding.compile_init(lambda key: stage.init(key, shapes), mesh)
            state = init(jax.random.key(0))
        _, step = sharding.compile_stage(stage, mesh)
        found = []
        with pipeline.contrastive_stream(
            "pairs",
            settings,
            schema.InputConfig(),
            {
                name: sources.open_prepared(folder, "train")
                for name, folder in folders.items()
            },
            seed=0,
        ) as stream:
            for _ in range(steps):
                state, scalars = step(state, sharding.put(next(stream), mesh))
                found.append({name: float(value) for name, value in scalars.items()})
        return state, found

    # The queue is filled by an untrained network, to which all X-rays look alike.
    state, untrained = losses_of(0.0, queue // rows + 1, None)
    # The curve's step counts from the state, whose queue is full now.
    state, trained = losses_of(0.06, 100, state)

    chance = math.log(queue + 1)
    assert abs(untrained[-1]["loss"] - chance) < 0.15 * chance
    last = np.mean([line["loss"] for line in trained[-10:]])
    assert last < 0.9 * untrained[-1]["loss"]
    spread = trained[-1]["embedding_spread"] * math.sqrt(settings.embedding_size)
    assert spread > 0.4  # 1 on a filled sphere, 0 when all embeddings are one
