"""JSON and YAML that somebody else wrote: plain data or one error, whatever is in the file.

Both readers refuse what Python's parsers answer with a RecursionError or with gigabytes: nesting
deeper than ``LEVELS``, and YAML whose aliases stand for more than ``NODES`` values ("billion
laughs"). YAML's tags make no objects.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mot_lab.parsing import one_line, shown

LEVELS = 64
NODES = 100_000
Pairs = Callable[[list[tuple[str, Any]]], Any]


def read_json(path: Path, object_pairs_hook: Pairs | None = None) -> Any:
    """What a JSON file in UTF-8 holds.

    Raises:
        ValueError: it cannot be read, is no JSON or nested too deeply; with its path.
    """
    return parse_json(_text(path), str(path), object_pairs_hook)


def parse_json(text: str, where: str, object_pairs_hook: Pairs | None = None) -> Any:
    """`read_json` of a text; ``where`` it stands is said in errors."""
    try:
        value = json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError(_too_deep(where)) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    level = [value]
    for _ in range(LEVELS):
        level = [
            each for outer in level for each in _inside(outer) if isinstance(each, list | dict)
        ]
        if not level:
            return value
    raise ValueError(_too_deep(where))


@contextmanager
def laid_out(where: object) -> Iterator[None]:
    """Inside, plain data of another layout than the one expected is an error like any other.

    Raises:
        ValueError: a key or a type that the code inside stumbles over; with ``where`` it stands.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(
            f"{where} is laid out otherwise than this version reads ({what})"
        ) from error


def read_yaml(path: Path) -> Any:
    """What a YAML file in UTF-8 holds.

    Raises:
        ValueError: it cannot be read, is no plain YAML, is nested too deeply or too large; with
            its path.
    """
    return parse_yaml(_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """`read_yaml` of a text; ``where`` it stands is said in errors."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        # Before anything is made of it: merged mappings are copied, aliases are not.
        size, levels = _measure(node, {}, where)
        if levels > LEVELS:
            raise ValueError(_too_deep(where))
        if size > NODES:
            raise ValueError(f"{where} stands for more than {NODES:,} values: too many aliases")
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(_too_deep(where)) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is no YAML: {one_line(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """Says where a value stands that is not what its tag says, or too long a number."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]} ({one_line(error)})"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}") from error


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _measure(
    node: yaml.Node, known: dict[int, tuple[int, int] | None], where: str
) -> tuple[int, int]:
    """Values that a node stands for, those behind aliases counted each time, and its levels."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 0
    if id(node) not in known:
        known[id(node)] = None
        inner = node.value
        if isinstance(node, yaml.MappingNode):
            _require_once([key for key, _ in node.value], where)
            inner = [each for pair in node.value for each in pair]
        found = [_measure(each, known, where) for each in inner]
        size, levels = (
            1 + sum(each[0] for each in found),
            max((each[1] for each in found), default=0),
        )
        known[id(node)] = size, levels + 1
    measured = known[id(node)]
    if measured is None:
        raise ValueError(f"{where} has a value that stands inside itself")
    return measured


def _require_once(keys: list[yaml.Node], where: str) -> None:
    """YAML would take the last of several values of one key."""
    said = set()
    for key in keys:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if (key.tag, key.value) in said:
                line = key.start_mark.line + 1
                raise ValueError(f"{where}: line {line} gives {shown(key.value)} a second time")
            said.add((key.tag, key.value))


def _too_deep(where: str) -> str:
    return f"{where} is nested more than {LEVELS} levels deep"
