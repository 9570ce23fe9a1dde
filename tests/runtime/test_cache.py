"""The cache's keys: a hash of plain values, of which a dataclass is one way to write them."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mot_lab.runtime.cache import cached, content_key


@dataclass
class _Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass
class _Outer:
    name: str = "a"
    inner: _Inner = field(default_factory=_Inner)


def test_a_dataclass_is_keyed_by_its_plain_values() -> None:
    written = {"inner": {"sizes": [1, 2]}, "name": "a"}
    assert content_key(_Outer()) == content_key(written)
    assert content_key([_Outer(), 3]) == content_key([written, 3])
    others = [_Outer("b"), _Outer("a", _Inner((2, 1))), [written], "a"]
    assert len({content_key(other) for other in [written, *others]}) == 5
    assert content_key({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()[:16]


def test_a_key_that_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        content_key({"sizes": {1, 2}})


def test_what_was_built_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path))
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "file").write_text("whole")

    first = cached("kind", _Outer(), build)
    assert cached("kind", _Outer(), build) == first
    assert (first / "file").read_text() == "whole" and len(built) == 1
    assert cached("kind", _Outer("b"), build) != first
    assert cached("other", _Outer(), build) != first
