"""Files that would do something if anything in them were carried out; what they do is noticed."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mot_lab.cli import main


class Bomb:
    """Unpickled by an ordinary pickle, it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


def pickle_bombs(folder: Path, trace: Path) -> list[Path]:
    """Plain, and as torch saves it in its two formats."""
    plain, new, old = (folder / f"{name}.ckpt" for name in ("plain", "zip", "legacy"))
    held = {"state_dict": {"weight": Bomb(trace)}, "loops": {}}
    plain.write_bytes(pickle.dumps(held))
    torch.save(held, new)
    torch.save(held, old, _use_new_zipfile_serialization=False)
    return [plain, new, old]


def archives(folder: Path, trace: Path) -> list[Path]:
    """Archives whose members lie outside the folder that they are unpacked in."""
    climbing, absolute, linked, zipped = (
        folder / name for name in ("climbing.tar", "absolute.tar", "linked.tar", "climbing.zip")
    )
    for path, name in ((climbing, f"../{trace.name}"), (absolute, str(trace))):
        with tarfile.open(path, "w") as file:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    with tarfile.open(linked, "w") as file:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(trace.parent)
        file.addfile(link)
        file.addfile(tarfile.TarInfo(f"out/{trace.name}"), io.BytesIO())
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr(f"../{trace.name}", "")
        file.writestr(str(trace), "")
    return [climbing, absolute, linked, zipped]


def deep_json(folder: Path) -> list[Path]:
    """100 and 100,000 levels."""
    paths = []
    for levels in (100, 100_000):
        for name, opening, closing in (("lists", "[", "]"), ("objects", '{"a":', "}")):
            inside = "" if name == "lists" else "1"
            paths.append(folder / f"{name}-{levels}.json")
            paths[-1].write_text(opening * levels + inside + closing * levels)
    return paths


def hostile_yaml(folder: Path, trace: Path) -> list[Path]:
    """Tags that make objects, aliases that stand for 10^9 values, and nesting without end."""
    laughs = ["a: &a {x: 1}"]
    merged = ["a: &a {x: 1}"]
    for outer, inner in zip("bcdefghij", "abcdefghi", strict=True):
        laughs.append(f"{outer}: &{outer} [{', '.join([f'*{inner}'] * 10)}]")
        merged.append(f"{outer}: &{outer} {{<<: [{', '.join([f'*{inner}'] * 10)}]}}")
    command = f"open({str(trace)!r}, 'w').close()"
    texts = {
        "apply": f'name: !!python/object/apply:builtins.exec ["{command}"]',
        "new": f'name: !!python/object/new:type {{args: ["{command}"]}}',
        "module": "name: !!python/module:antigravity",
        "laughs": "\n".join(laughs),
        "merged": "\n".join(merged),
        "itself": "name: &a [*a]",
        "deep-100": "name: " + "[" * 100 + "]" * 100,
        "deep": "name: " + "[" * 100_000 + "]" * 100_000,
        "bytes": None,
    }
    for name, text in texts.items():
        data = b"name: \xff\xfe" if text is None else text.encode()
        (folder / f"{name}.yaml").write_bytes(data)
    return [folder / f"{name}.yaml" for name in texts]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says when it refuses its input: one line, exit code 2, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mot-lab: ")]
    assert ended.value.code == 2
    assert len(lines) == 1 and len(lines[0]) < 2000
    return lines[0]


def other_layouts(content: Any) -> Iterator[Any]:
    """Plain data with one thing in it gone or of another type."""
    yield from (None, 3, -1.5, "x", [], {}, [[1]], {"x": None})
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        rest = {other: each for other, each in content.items() if other != key}
        yield rest
        for other in other_layouts(value):
            yield {**rest, key: other}
