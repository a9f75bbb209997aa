"""What pages show is there: sections, commands, files; their Python can be parsed."""

import ast
import pathlib
import re
import shlex
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.study import plan

REPOSITORY = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    [
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "tfds_builders").rglob("*.md"),
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
    ]
)
VERBS = REPOSITORY / "mtpret_jax" / "cli"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
_INCLUDE = re.compile(r"^```\{include\} (\S+)\n(.*?)^```", re.M | re.S)


def _name(page: pathlib.Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def _blocks(page: pathlib.Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [block for kind, block in found if kind == language]


def _commands(page: pathlib.Path) -> list[list[str]]:
    """Words of each command that the page tells to type."""
    lines = "".join(_blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(x, comments=True) for x in lines) if words]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_can_be_parsed(page):
    for block in _blocks(page, "python"):
        ast.parse(block)


def test_configs_of_your_own_xrays_keep_the_rules():
    """Each block adds to what README's example gives."""
    readme = _blocks(REPOSITORY / "README.md", "python")
    known: dict = {}
    exec(next(block for block in readme if "get_config" in block), known)
    known["config"] = known["get_config"]()
    for block in _blocks(REPOSITORY / "docs" / "your_xrays.md", "python"):
        exec(block, known)

    parsed = schema.parse(known["config"])

    assert parsed.tasks.keys() == {
        *("finding", "lungs", "opacity", "age", "grade", "points")
    }
    assert {task.image_size for task in parsed.tasks.values()} == {96}


def test_the_study_of_frozen_encoders_keeps_the_rules():
    """The config of the page, on the tasks of the demonstration."""
    (block,) = (
        text
        for text in _blocks(REPOSITORY / "docs" / "compare.md", "python")
        if "config.study" in text
    )
    config: Any = schema.defaults()
    for name, kind in {"mandible": "segmentation", "opacity": "detection"}.items():
        config.datasets[name] = schema.dataset("phantom_xray")
        config.tasks[name] = schema.task(kind=kind, dataset=name)
    exec(block, {"config": config, "schema": schema})

    runs = plan.expand(schema.parse(config)).runs

    assert len(runs) == 2 * 2 * 3  # tasks, encoders, seeds
    assert {run.finetune.trains for run in runs.values()} == {"head"}
    assert {run.init_from for run in runs.values()} == {
        "/path/resnet50.pth",
        "/path/exported/model.safetensors",
    }


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """All code of each package, as one text."""
    return {
        package: "".join(
            path.read_text(encoding="utf-8")
            for path in (REPOSITORY / package).rglob("*.py")
        )
        for package in ("mtpret_jax", "tfds_builders", "benchmarks")
    }


# A record of what was done at an earlier commit may name what is gone.
CURRENT = [page for page in PAGES if page.name != "study_mini_search.md"]


@pytest.mark.parametrize("page", CURRENT, ids=_name)
def test_commands_name_what_is_there(page, sources):
    makefile = (REPOSITORY / "Makefile").read_text()
    for words in _commands(page):
        if words[0] == "make":
            for target in (word for word in words[1:] if "=" not in word):
                assert re.search(rf"^{target}:", makefile, re.M), words
        for config in re.findall(r"configs/\w+\.py", " ".join(words)):
            assert (REPOSITORY / config).is_file(), words
        package = _package(words)
        if package not in sources:
            continue
        for option in (word for word in words if word.startswith("--")):
            name = re.split(r"[=.]", option[2:])[0]
            assert re.search(rf'"(--)?{name}"', sources[package]), f"{words}: {option}"


def _package(words: list[str]) -> str:
    """The package that a command runs; "" if it runs something else."""
    if "-m" not in words[1:3]:
        is_ours = words[0].endswith("mtpret_jax") and VERBS.is_dir()
        return "mtpret_jax" if is_ours else ""
    module = words[words.index("-m") + 1]
    package, *parts = module.split(".")
    place = REPOSITORY.joinpath(package, *parts)
    if not (REPOSITORY / package).is_dir():
        return ""
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    assert path.is_file(), f"no module {module}"
    return package


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_sections_shown_elsewhere_are_there(page):
    for path, options in _INCLUDE.findall(page.read_text(encoding="utf-8")):
        text = (REPOSITORY / path.lstrip("/")).read_text(encoding="utf-8")
        for mark in re.findall(r'^:(?:start-after|end-before): "(.*)"$', options, re.M):
            assert mark.replace("\\n", "\n") in text, f"{path} has no {mark}"
            text = text.partition(mark.replace("\\n", "\n"))[2]
