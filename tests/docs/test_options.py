"""The page of options shows every option of the schema, with all that it should say."""

import dataclasses
import inspect

import pytest

from mtpret_jax.config import objectives, parts, schema, stages

SCHEMAS = [
    value
    for module in (objectives, parts, schema, stages)
    for _, value in inspect.getmembers(module, dataclasses.is_dataclass)
    if value.__module__ == module.__name__
]


@dataclasses.dataclass(frozen=True)
class Example:
    """Options whose comments stand where those of the schema may."""

    behind: int = 3  # pixels
    over: str = "a"  # begins here
    # and goes on below
    below: tuple[int, ...] = (1, 2)
    # alone; the string 'a # b' is no comment
    text: str = "a # b"
    last: float = 1e-4
    # after the last one


@pytest.fixture(scope="module")
def options(script):
    return script("options")


def test_comments_explain_the_option_that_they_stand_behind(options):
    assert options.sources(Example) == {
        "behind": ("3", "pixels"),
        "over": ('"a"', "begins here and goes on below"),
        "below": ("(1, 2)", "alone; the string 'a # b' is no comment"),
        "text": ('"a # b"', ""),
        "last": ("0.0001", "after the last one"),
    }


def test_every_dataclass_of_the_schema_has_a_section(options):
    assert {section.schema for section in options.sections()} == set(SCHEMAS)


def test_every_option_says_what_it_is(options):
    silent = []
    for section in options.sections():
        names = [field.name for field in dataclasses.fields(section.schema)]
        assert len(section.options) == len(names)
        for name, option in zip(names, section.options, strict=True):
            assert option.path.startswith(f"{section.paths[0]}.{name}")
            if not (option.type and option.default and len(option.text) > 3):
                silent.append(option.path)

    assert not silent, f"say behind these what they are, in config.py: {silent}"


def test_every_choice_is_listed(options):
    shown = {
        (section.schema, option.path.rsplit(".", 1)[-1]): option.values
        for section in options.sections()
        for option in section.options
    }

    for place, choices in schema.CHOICES.items():
        assert shown[place] == "one of " + ", ".join(f'`"{c}"`' for c in choices)
    assert '`"adamw"`' in shown[parts.OptimizerConfig, "name"]
    assert '`"resnet18"`' in shown[parts.BackboneConfig, "name"]
    assert shown[parts.AugmentConfig, "flip_probability"] == "0 to 1"


def test_the_page_has_an_entry_for_each(options):
    text = options.markdown()

    for section in options.sections():
        for option in section.options:
            assert f":::{{confval}} {option.path}\n{option.text}" in text
    for preset in parts.AUGMENT_PRESETS:
        assert f'`"{preset}"`' in options.presets()
