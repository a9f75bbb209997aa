"""Plain values to the frozen ones of a schema of dataclasses, checked one by one."""

from __future__ import annotations

import dataclasses
import types as python_types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from mtpret_jax.config import rules

Choices = Mapping[tuple[type, str], tuple[str, ...]]


def parse(value: Any, schema: Any, path: str, choices: Choices) -> Any:
    """Checks `value` against a type of the schema and returns it frozen.

    Args:
      value: Plain values.
      schema: A frozen dataclass, a generic `Mapping` or `tuple`, or a plain type.
      path: Where the value stands, for messages.
      choices: The values that an option may have, by its dataclass and name.

    Raises:
      ValueError: An unknown option, or a value out of its range or choices.
      TypeError: A value of the wrong type.
    """
    origin, arguments = typing.get_origin(schema), typing.get_args(schema)
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        if not isinstance(value, Mapping):
            raise TypeError(f"{path}: expected a table of options, got {value!r}.")
        hints = typing.get_type_hints(schema)
        for key in value:
            if key not in hints:
                advice = rules.NOT_THERE.get(
                    f"{schema.__name__}.{key}", rules.nearest(str(key), hints)
                )
                raise ValueError(f"{path}.{key}: unknown option.{advice}")
        given = {
            key: parse(entry, hints[key], f"{path}.{key}", choices)
            for key, entry in value.items()
        }
        for key, entry in given.items():
            rules.check_range(schema, key, entry, f"{path}.{key}")
            wanted = choices.get((schema, key))
            if wanted and entry not in wanted:
                advice = rules.nearest(entry, wanted)
                lacks = rules.NOT_THERE.get(f"{schema.__name__}.{key}", "")
                raise ValueError(f"{path}.{key}: got '{entry}'.{advice}{lacks}")
        return schema(**given)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError(f"{path}: expected a table by name, got {value!r}.")
        return python_types.MappingProxyType(
            {
                key: parse(entry, arguments[1], f"{path}.{key}", choices)
                for key, entry in value.items()
            }
        )
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{path}: expected a list, got {value!r}.")
        return tuple(
            parse(entry, arguments[0], f"{path}[{index}]", choices)
            for index, entry in enumerate(value)
        )
    if schema is Any:
        return value
    if schema is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, schema) or (schema is int and isinstance(value, bool)):
        raise TypeError(f"{path}: expected {schema.__name__}, got {value!r}.")
    return value


def open_tables(row: ml_collections.ConfigDict) -> None:
    """Lets every empty table take rows, and keep the order they were written in."""
    for name, value in row.items():
        if isinstance(value, ml_collections.ConfigDict) and value:
            open_tables(value)
        elif isinstance(value, ml_collections.ConfigDict):
            row[name] = ml_collections.ConfigDict({}, sort_keys=False)


def ordered(value: Any) -> Any:
    """Tables that keep the order of their keys, at every depth."""
    if not isinstance(value, Mapping):
        return value
    # Keys may be columns of somebody's table, such as "No. of lesions".
    table = ml_collections.ConfigDict({}, sort_keys=False, allow_dotted_keys=True)
    for key, entry in value.items():
        table[key] = ordered(entry)
    return table
