"""Every shipped configuration with something in it changed: values, keys, text or overrides."""

import contextlib
import copy
import datetime
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from mot_lab.config import load_study, read_settings
from mot_lab.ladder import read_ladder
from mot_lab.parsing import printable, shown
from mot_lab.plain import plain

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = {
    f"{path.parent.name}/{path.stem}": path
    for folder in ("openmoji", "paper")
    for path in sorted((EXPERIMENTS / folder).glob("*.yaml"))
}
LADDERS = [name for name in FILES if name.endswith("_ladder")]
STUDIES = [name for name in FILES if name not in LADDERS]
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # as libyaml has it where there is one
Path_ = tuple[str | int, ...]
REMOVED = object()

EDGES: list[Any] = [
    *(None, True, False, [], {}, "", " ", [[]], [None], {"a": {}}, {1: 2}, {"": 0}),
    *(0, 1, -1, 2, 3, 7, 48, 1000, 2**20, 2**31, 2**32, 2**63, 10**18, 10**30, -(10**400)),
    *(0.5, 1.0, 1.5, -0.0, 1e-300, 1e300, 0.1 + 0.2, math.nan, math.inf, -math.inf),
    *("1", "1e3", "0x10", "nan", "-inf", "null", "true", "1_000", "１", "[1]", "{a: 1}"),
    *("dense", "mot", "moe_0x", f"moe_{'9' * 5000}x", "all_partitions", "loo_text", "text"),
    *("vae", "pixels", "vq", "unet", "ddpm", "flow", "post", "skip", "hubert", "figure_6/9B"),
    *(
        "espeak",
        "/",
        "..",
        "a/b",
        "\x1b[31mred",
        "\u2028",
        "\N{PILE OF POO}",
        "a" * 5000,
        "!!int x",
    ),
    *(datetime.date(2026, 1, 1), b"\xff\x00", [0, 0], [0.9, 1.0], [["text"], ["image"]]),
]


@dataclass(frozen=True)
class Mutant:
    """A configuration and what was done to it.

    Attributes:
        name: of the shipped file.
        text: of the file that is written.
        overrides: of the command line.
        paths: that were changed; none where the text itself was.
        values: at these paths, `REMOVED` where a key was taken out.
    """

    name: str
    text: str
    overrides: tuple[str, ...]
    paths: tuple[Path_, ...]
    values: tuple[Any, ...]


def dotted(path: Path_) -> str:
    """``("data", "rows")`` as ``data.rows``; what stands in a list is the list's."""
    names = []
    for each in path:
        if isinstance(each, int):
            break
        names.append(each)
    return ".".join(names)


@cache
def settings(name: str) -> dict[str, Any]:
    """What a shipped file says."""
    return read_settings(FILES[name])


@cache
def whole(name: str) -> dict[str, Any]:
    """The same with the defaults of all that it leaves out."""
    values = settings(name)
    if "ladder" not in values:
        return plain(load_study(FILES[name]))
    first = read_ladder(values, name).rungs[0].config
    return {**plain(first), "name": values["name"], "ladder": values["ladder"]}


@cache
def sites(name: str) -> list[Path_]:
    """Every place of a file where a value stands, or could."""

    def walk(value: Any, path: Path_) -> list[Path_]:
        found = [path] if path else []
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inside:
            here = (*path, key)
            found += walk(each, here) if isinstance(each, dict | list) else [here]
        return found

    return walk(whole(name), ())


def at(values: Any, path: Path_) -> Any:
    """The value at a path."""
    for key in path:
        values = values[key]
    return values


def put(name: str, values: dict[str, Any], path: Path_, value: Any) -> None:
    """Set a value, or take it out; lists that the file leaves out are those of the defaults."""
    inside: Any = values
    for place, key in enumerate(path[:-1]):
        if isinstance(inside, dict) and key not in inside:
            default = at(whole(name), path[: place + 1])
            inside[key] = {} if isinstance(default, dict) else copy.deepcopy(default)
        try:
            inside = inside[key]
        except (KeyError, IndexError, TypeError):
            return  # an earlier change took it away
    if value is REMOVED:
        if isinstance(inside, dict):
            inside.pop(path[-1], None)
    elif isinstance(inside, dict) or (isinstance(inside, list) and path[-1] in range(len(inside))):
        inside[path[-1]] = value


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values like this one, many of them wrong."""
    if isinstance(value, bool) or value is None:
        return st.sampled_from([not value, str(value), int(bool(value))])
    if isinstance(value, int | float):
        scaled = [value * 2, value * 3, value * 1000, -value, value - 1, value + 1, value / 2]
        return st.sampled_from([*scaled, value // 2, value // 3, float(value), str(value), [value]])
    if isinstance(value, str):
        letters = [value.upper(), value[1:], value + " ", value + "x", value[::-1], [value]]
        return st.sampled_from(letters)
    if isinstance(value, list):
        fewer = [value[1:], value[::-1], [*value, *value], [value], [*value, None], [*value, ["x"]]]
        return st.sampled_from([*fewer, {"a": value}, " ".join(map(str, value))])
    keys = list(value)
    return st.sampled_from([list(value), {key: value[key] for key in keys[1:]}, str(value), keys])


scalars = st.one_of(
    st.sampled_from(EDGES), st.integers(), st.floats(), st.text(max_size=12), st.binary(max_size=4)
)
garbage = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def misspelt(draw: st.DrawFn, key: str) -> str:
    """A key with a letter less, more, exchanged or of the other case."""
    place = draw(st.integers(0, max(len(key) - 1, 0)))
    less = key[:place] + key[place + 1 :]
    more = key[:place] + draw(st.sampled_from("aez_ .-\t")) + key[place:]
    swapped = key[:place] + key[place : place + 2][::-1] + key[place + 2 :]
    return draw(st.sampled_from([less, more, swapped, key.capitalize(), key.upper(), f"{key}s"]))


@st.composite
def changed(draw: st.DrawFn, files: list[str]) -> Mutant:
    """One place of one file changed, sometimes two or three; in the file or by overrides."""
    name = draw(st.sampled_from(files))
    values = copy.deepcopy(settings(name))
    number = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kind = draw(st.sampled_from(["value", "value", "near", "near", "remove", "misspell"]))
    paths, news, overrides = [], [], []
    by_override = draw(st.integers(0, 3)) == 0
    for _ in range(number):
        path = draw(st.sampled_from(sites(name)))
        old = at(whole(name), path)
        new = draw(near(old) if kind == "near" else garbage)
        if kind == "remove":
            new = REMOVED
        elif kind == "misspell" and isinstance(path[-1], str):
            put(name, values, path, REMOVED)
            path = (*path[:-1], draw(misspelt(path[-1])))
            new = old
        paths.append(path)
        news.append(new)
        if by_override and new is not REMOVED and "." not in "".join(map(str, path)):
            flow = yaml.dump(new, Dumper=Dumper, default_flow_style=True, width=10**6)
            overrides.append(f"{'.'.join(map(str, path))}={flow.removesuffix('...' + chr(10))}")
        else:
            put(name, values, path, new)
    text = yaml.dump(values, Dumper=Dumper, sort_keys=False)
    return Mutant(name, text, tuple(overrides), tuple(paths), tuple(news))


@st.composite
def scribbled(draw: st.DrawFn) -> Mutant:
    """The text of a file with a few characters or lines taken out, put in or moved."""
    name = draw(st.sampled_from(list(FILES)))
    text = FILES[name].read_text()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        new = draw(
            st.one_of(st.sampled_from(SCRIBBLES), st.text(max_size=4), st.just(text[start:end]))
        )
        text = text[:start] + new + text[end:]
    overrides = draw(
        st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SCRIBBLES)), max_size=1)
    )
    return Mutant(name, text, tuple(each for each in overrides if each[:1] != "-"), (), ())


SCRIBBLES = [
    *(
        "",
        "\n",
        "\t",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "#",
        "'",
        '"',
        "&a",
        "*a",
        "!!int ",
        "!x ",
    ),
    *(
        "|",
        ">",
        "<<: *a",
        "%YAML",
        "---\n",
        "...\n",
        "\ufeff",
        "\x00",
        "\x85",
        "? ",
        "=",
        ".",
        "a.=1",
    ),
    *("a..b=1", "=1", "data=", "data.rows=[", "data.rows.x=1", "seeds=[0, 0]", "name=!!map x"),
    *(
        "!!timestamp x",
        "!!bool x",
        "!!float x",
        "!!binary é",
        "!!set {a}",
        "!!omap [a]",
        "0x" + "f" * 6000,
    ),
    *("9" * 6000, "{<<: 1}", "[" * 70, "2026-13-45", "{[1]: 2}", "? {a: 1}\n: 2", "1:99:99"),
]


def names(line: str, name: str, changed: Path_) -> bool:
    """Whether a line names the changed key by its whole path, or, where it contradicts another,
    that one's whole path and a part of its own.
    """
    key = printable(dotted(changed))
    if key in line or (changed[0] in ("arms", "ladder") and f"{changed[0]}" in line):
        return True
    others = {dotted(each) for each in sites(name)}
    return any(
        re.search(rf"\b{re.escape(str(part))}\b", line) for part in changed[1:] or changed
    ) and any(re.search(rf"(?<![\w.]){re.escape(other)}\b", line) for other in others)


def shows(line: str, value: Any) -> bool:
    """Whether a line shows a value, or, of a list or mapping, something in it."""
    if value is REMOVED or value in ([], {}):
        return True
    forms = {shown(value)[:60]}
    if isinstance(value, str | int | float):
        with contextlib.suppress(OverflowError, ValueError):
            forms |= {printable(str(value))[:60], str(float(value))}
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(form in line for form in forms) or any(
        shows(line, each) for each in (*inside, *(value if isinstance(value, dict) else ()))
    )
