"""Typed configurations from plain values, every key and type checked."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

Config = TypeVar("Config")


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """A configuration from plain values.

    Args:
        kind: a dataclass.
        values: of its fields; what is left out has its default.
        where: the key that the values stand under, for messages.

    Raises:
        ValueError: one line that names the key, the value and what is allowed.
    """
    _check_keys(kind, values, where)
    parser = _parser(kind)
    try:
        return parser.instantiate(parser.parse_object({"config": values})).config
    except (ArgumentError, TypeError) as error:
        raise ValueError(_as_written(error, where)) from None


def one_line(error: Exception) -> str:
    """An error's message without line breaks or repeated blanks."""
    return " ".join(str(error).split())


def _check_keys(kind: type[Any], values: object, path: str) -> None:
    """Refuse what jsonargparse lets pass or names otherwise than it was written: unknown keys
    that hold nothing, and values where settings belong.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or kind.__name__}: {values!r} must be a mapping of settings")
    known = [each.name for each in fields(kind)]
    types = get_type_hints(kind)
    for key, value in values.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in known:
            raise ValueError(f"unknown key {name}: {value!r}; there are {', '.join(known)}")
        _check_inside(types[key], value, name)


def _check_inside(kind: Any, value: object, name: str) -> None:
    """The keys of a setting that is itself made of settings: a dataclass, one or none, or one by
    name.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        _check_keys(kind, value, name)
    elif get_origin(kind) is dict and isinstance(value, Mapping):
        for key, each in value.items():
            _check_inside(get_args(kind)[1], each, f"{name}.{key}")
    elif get_origin(kind) is UnionType and value is not None:
        for part in get_args(kind):
            _check_inside(part, value, name)


def _as_written(error: Exception, where: str) -> str:
    """jsonargparse's message, with the key as the user wrote it."""
    above = f"{where}." if where else ""
    text = re.sub(r'Parser key "config\.([^"]*)"', rf"{above}\1", one_line(error))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Expected an? ", "expected ", text)
    return text.replace(" config.", f" {above}")


def _parser(kind: type[Any]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    return parser
