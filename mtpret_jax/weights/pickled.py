"""What a pickle describes, found out without running any of it.

Python's own reader imports and calls whatever a pickle names, so a file of weights can
run any program. Here its instructions move plain values about on a stack: nothing is
imported, nothing of the file is called. The few names that files of tensors need are
answered by functions of the caller; a file that holds anything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

_MARK = object()
_LITERALS = frozenset(
    (
        "BININT",
        "BININT1",
        "BININT2",
        "INT",
        "LONG",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "FLOAT",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    )
)
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_BROKEN = (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError)


class Refused(ValueError):
    """A pickle holds what a file of weights has no use for, or is damaged."""


class Name:
    """A name of the file's that was not looked up.

    Attributes:
      text: Module and attribute, joined by a dot.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def load(
    stream: IO[bytes],
    calls: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any],
) -> Any:
    """Reads one pickle and leaves the stream behind its end.

    Args:
      stream: At the pickle's first byte.
      calls: What to do, here, where the file wants a name called: dotted name to a
        function of its arguments. Must be harmless with any arguments.
      persistent: Answers a reference to data outside the pickle.

    Returns:
      Dicts with plain keys, lists, tuples, numbers, text, bytes, `Name`s, and what the
      two above gave.

    Raises:
      Refused: If it wants anything else, or is no whole pickle.
    """
    machine = _Machine(calls, persistent)
    try:
        for code, argument, _ in pickletools.genops(stream):
            machine.do(code.name, argument)
        (value,) = machine.stack
        return value
    except Refused:
        raise
    except (*_BROKEN, MemoryError, OverflowError, RecursionError) as error:
        raise Refused(f"its pickle is damaged ({error})") from error


class _Machine:
    """The stack and memo of a pickle's instructions."""

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._calls = calls
        self._persistent = persistent

    def do(self, code: str, argument: Any) -> None:
        """One instruction."""
        if code in _LITERALS:
            self.stack.append(argument)
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            count = _TUPLES[code]
            if len(self.stack) < count:
                raise IndexError("too few values on the stack")
            self.stack[-count:] = [tuple(self.stack[-count:])]
        else:
            step = getattr(self, f"_{code.lower()}", None)
            if step is None:
                raise Refused(f"its pickle has the instruction {code}")
            step(argument)

    def _from_mark(self) -> list[Any]:
        """Takes what was put on the stack since the last mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise IndexError("no mark on the stack")

    def _proto(self, version: int) -> None:
        if version > 5:
            raise Refused(f"its pickle is of protocol {version}")

    def _frame(self, size: int) -> None:
        """Only says how much to read at once."""

    def _stop(self, _: None) -> None:
        """The end."""

    def _mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: None) -> None:
        self.stack.pop()

    def _empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _empty_list(self, _: None) -> None:
        self.stack.append([])

    def _empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._from_mark()))

    def _list(self, _: None) -> None:
        self.stack.append(self._from_mark())

    def _dict(self, _: None) -> None:
        values = self._from_mark()
        self.stack.append(table(zip(values[::2], values[1::2], strict=True)))

    def _append(self, _: None) -> None:
        value = self.stack.pop()
        _require(self.stack[-1], list).append(value)

    def _appends(self, _: None) -> None:
        values = self._from_mark()
        _require(self.stack[-1], list).extend(values)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _require(self.stack[-1], dict).update(table([(key, value)]))

    def _setitems(self, _: None) -> None:
        values = self._from_mark()
        found = table(zip(values[::2], values[1::2], strict=True))
        _require(self.stack[-1], dict).update(found)

    def _binput(self, place: int) -> None:
        self._memo[place] = self.stack[-1]

    _long_binput = _put = _binput

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _binget(self, place: int) -> None:
        self.stack.append(self._memo[place])

    _long_binget = _get = _binget

    def _global(self, name: str) -> None:
        self.stack.append(Name(name.replace(" ", ".")))

    def _stack_global(self, _: None) -> None:
        attribute = _require(self.stack.pop(), str)
        module = _require(self.stack.pop(), str)
        self.stack.append(Name(f"{module}.{attribute}"))

    def _binpersid(self, _: None) -> None:
        self.stack.append(self._persistent(self.stack.pop()))

    def _reduce(self, _: None) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or name.text not in self._calls:
            raise Refused(f"it wants to call {_told(name)}")
        self.stack.append(self._calls[name.text](*_require(arguments, tuple)))

    def _newobj(self, _: None) -> None:
        raise Refused(f"it holds an object of {_told(self.stack[-2])}")

    def _build(self, _: None) -> None:
        """Attributes of a dict (PyTorch keeps versions there) are left out."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise Refused("it holds an object with attributes")


def table(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict with plain keys: hashing nested ones may take for ever.

    Raises:
      TypeError: If a key is neither text, bytes nor a number.
    """
    return {_require(key, (str, bytes, int, float)): value for key, value in pairs}


def _require(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in a wrong place")
    return value


def _told(value: Any) -> str:
    return f"'{value.text}'" if isinstance(value, Name) else "a value"
