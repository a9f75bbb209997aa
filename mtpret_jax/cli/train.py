"""Prepares what is missing, then runs a config into a work folder.

    python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo

Interrupted anywhere, the same command goes on where it stopped. Any option of the
config can be changed: `--config.seed=1`.
"""

from __future__ import annotations

import argparse
import os

import jax

from mtpret_jax.api import train as api
from mtpret_jax.cli import command, devices
from mtpret_jax.training import preemption, tracing


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_argument("--workdir", required=True, help="folder for all results")
    parser.add_data_dir("folder of prepared sets; missing ones are prepared there")
    parser.add_flag("--rebuild", "prepare sets whose source or options changed again")
    parser.add_flag("--report_only", "do no run; report on those that have ended")
    parser.add_argument(
        "--profile",
        type=_steps,
        default=range(0),
        metavar="FIRST:LAST",
        help="steps of every run to trace for TensorBoard, such as 100:110: those "
        "after the 100th, up to the 110th; shown by tensorboard --logdir of the run",
    )
    parser.add_argument(
        "--track",
        default="",
        metavar="NAME,...",
        help="wandb, mlflow: told what metrics.jsonl is told, of every run",
    )
    parser.add_flag("--distributed", "join the processes of a cluster that JAX detects")
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="with --distributed where JAX detects no cluster: of process 0",
    )
    parser.add_argument("--processes", type=int, help="the number of them, too")
    parser.add_argument("--process", type=int, help="the index of this one, too")
    parser.add_argument(
        "--devices",
        type=_numbers,
        metavar="0,1",
        help="use these devices of this machine alone: several processes, each with "
        "devices of its own, do the runs of one --workdir side by side",
    )


def run(options: argparse.Namespace) -> None:
    """Prepares, trains and reports as the options say."""
    cluster = (options.coordinator, options.processes, options.process)
    if not options.distributed and any(value is not None for value in cluster):
        raise command.UsageError(
            "--coordinator, --processes, --process: add --distributed."
        )
    if options.distributed and options.devices:
        raise command.UsageError("--devices is for processes without --distributed.")
    command.speak()
    preemption.listen()
    if options.devices:
        devices.keep_to(options.devices)
    if options.distributed:
        jax.distributed.initialize(*cluster)
    devices.require()
    # Runs repeat each other's programs, and a resumed one its own.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = os.path.join(os.path.expanduser(options.workdir), "compilation_cache")
        jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    api.train(
        options.config,
        options.workdir,
        options.data_dir,
        rebuild=options.rebuild,
        report_only=options.report_only,
        profile=options.profile,
        track=[name for name in options.track.split(",") if name],
    )


def _steps(text: str) -> range:
    """The steps that `--profile` names."""
    try:
        return tracing.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str) -> list[int]:
    """The devices that `--devices` names."""
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(
            f"expected different numbers from 0, got {text}"
        )
    return [int(word) for word in words]
