"""Typed configurations from plain values, every key and type checked."""

import re
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

Config = TypeVar("Config")
LONGEST_SHOWN = 200  # characters of a value that a message repeats
LONGEST_ERROR = 400  # and of an error of a library


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """A configuration from plain values.

    Args:
        kind: a dataclass.
        values: of its fields; what is left out has its default.
        where: the key that the values stand under, for messages.

    Raises:
        ValueError: one line that names the key, the value and what is allowed.
    """
    require_keys(kind, values, where)
    hints = get_type_hints(kind)
    settled = {key: _value(hints[key], value, _below(where, key)) for key, value in values.items()}
    try:
        return kind(**settled)
    except ValueError as error:
        raise ValueError(_placed(error, kind, where)) from None


@contextmanager
def under(where: str) -> Iterator[None]:
    """Inside, a ValueError gets the key that what is wrong stands under."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def one_line(error: Exception) -> str:
    """An error's message without line breaks, repeated blanks and what a terminal would obey."""
    return printable(str(error))


def brief(error: Exception) -> str:
    """`one_line`, cut where a library names every weight that it missed."""
    said = one_line(error)
    return said if len(said) <= LONGEST_ERROR else f"{said[:LONGEST_ERROR]} .."


def root_cause(error: BaseException) -> str:
    """What an error came from in the end, in one line: of a tracker that cannot be reached, five
    errors deep, ``ConnectionRefusedError: [Errno 111] Connection refused``.
    """
    while True:
        deeper = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if deeper is None:
            break
        error = deeper
    said = printable(str(error))
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


def printable(text: str) -> str:
    """A text on one line, characters that do not print as Python writes them.

    Example:
        >>> printable("a\\n b\\x1b[31m")
        'a b\\\\x1b[31m'
    """
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def require_keys(kind: type[Any], values: object, where: str) -> None:
    """Refuse keys that a dataclass has not, and values without one that it needs.

    Args:
        kind, values, where: see `from_dict`; the values of known keys may be anything.

    Raises:
        ValueError: one line that names the key.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or kind.__name__}: {shown(values)} must be a mapping of settings")
    known = [each.name for each in fields(kind)]
    for key, value in values.items():
        if key not in known:
            raise ValueError(
                f"unknown key {_below(where, key)}: {shown(value)}; there are {', '.join(known)}"
            )
    for each in fields(kind):
        if each.default is MISSING and each.default_factory is MISSING and each.name not in values:
            raise ValueError(f"a key is required: {_below(where, each.name)}")


def _value(hint: Any, value: object, name: str) -> Any:
    """A value as its type: settings one by one, whatever else as jsonargparse reads it."""
    if is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, name)  # type: ignore[arg-type]  # it says so itself
    if get_origin(hint) is dict and isinstance(value, Mapping):
        return _by_name(get_args(hint)[1], value, name)
    if get_origin(hint) is list and is_dataclass(get_args(hint)[0]) and isinstance(value, list):
        inside = get_args(hint)[0]
        return [from_dict(inside, each, f"{name}[{place}]") for place, each in enumerate(value)]
    if get_origin(hint) in (types.UnionType, Union) and value is not None:
        for part in get_args(hint):
            if is_dataclass(part) and isinstance(part, type):
                return from_dict(part, value, name)  # type: ignore[arg-type]
    if value is None and type(None) not in get_args(hint):
        raise ValueError(f"{name}: None must be {_readable(hint)}")
    for odd in _of_tags(value):
        raise ValueError(
            f"{name}: {shown(odd)} must be a number, a word, a list or a mapping, without YAML tags"
        )
    try:
        parsed = _parser(hint).parse_object({"value": value}).value
    except (ArgumentError, ArithmeticError, TypeError, ValueError):
        parsed = None
    if parsed is None and value is not None:
        raise ValueError(f"{name}: {shown(value)} must be {_readable(hint)}")
    return parsed


def _of_tags(value: object) -> Iterator[object]:
    """What YAML's tags !!binary and !!set left in a value; others take it for lists."""
    if isinstance(value, bytes | set):
        yield value
    inside = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        for each in inside:  # type: ignore[attr-defined]
            yield from _of_tags(each)


def _by_name(hint: Any, values: Mapping[Any, Any], name: str) -> dict[str, Any]:
    for key in values:
        if not isinstance(key, str):
            raise ValueError(f"{name}: the key {shown(key)} must be a name; put it in quotes")
    return {key: _value(hint, value, _below(name, key)) for key, value in values.items()}


@cache
def _parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _placed(error: ValueError, kind: type[Any], where: str) -> str:
    """What a configuration says of itself, with the key that it stands under."""
    text = one_line(error)
    if not where:
        return text
    first = re.match(r"\w*", text)
    named = first is not None and first[0] in get_type_hints(kind)
    return f"{where}.{text}" if named else f"{where}: {text}"


def _readable(hint: Any) -> str:
    """A type in words.

    Example:
        >>> _readable(tuple[float, float]), _readable(list[int] | None)
        ('2 of float', 'a list of int or none')
    """
    origin, inside = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "none"
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if origin in (types.UnionType, Union):
        return " or ".join(map(_readable, inside))
    if origin is tuple:
        return f"{len(inside)} of {_readable(inside[0])}"
    if origin is list:
        return "a list" if inside[0] is Any else f"a list of {_readable(inside[0])}"
    if origin is dict:
        return f"a mapping of names to {_readable(inside[1])}"
    return str(getattr(hint, "__name__", hint))


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = printable(repr(value))
    except ValueError:  # Python writes out no whole number of so many digits
        text = "a number of more than 4,300 digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} .."
