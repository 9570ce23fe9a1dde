"""A line of YAML becomes a source: what it refuses, which documents a split has, weights, caps."""

import os
import pickle
import re
import shutil
from itertools import chain
from pathlib import Path

import pytest
from data.sources.corpora import c4, cc12m, lines, read, texts, wikipedia

from mot_lab.data.sources.config import FIELDS, SourceConfig, open_source
from mot_lab.parsing import from_dict
from mot_lab.runtime.plain_files import parse_yaml

WORDS = [f"document {n}" for n in range(1000)]


def test_a_mixture_is_lines_of_yaml() -> None:
    mixture = parse_yaml(
        """
        - {kind: webdataset, path: "/data/cc12m/{00000..00099}.tar", weight: 3}
        - {kind: coco, path: /data/coco/annotations/captions_train2017.json,
           val: /data/coco/annotations/captions_val2017.json, files: "/data/coco/{train,val}2017"}
        - {kind: text, path: "hf:allenai/c4:en", documents: 1000, fields: {text: text}, weight: 0.5}
        """,
        "mixture",
    )
    sources = [from_dict(SourceConfig, each) for each in mixture]
    assert [each.weight for each in sources] == [3.0, 1.0, 0.5]
    assert sources[1].files == "/data/coco/{train,val}2017" and sources[2].documents == 1000


def test_every_line_of_the_documentation_is_read() -> None:
    document = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    kinds = []
    for block in blocks:
        content = parse_yaml(block, "docs/data.md")
        each = content["data"]["sources"] if isinstance(content, dict) else content
        kinds += [from_dict(SourceConfig, source).kind for source in each]
    assert set(kinds) == set(FIELDS) and len(kinds) == 19


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight": 0}, "weight 0.0 must be above 0 and finite"),
        ({"weight": -1}, "weight -1.0 must be above 0"),
        ({"weight": float("inf")}, "weight inf must be above 0 and finite"),
        ({"weight": float("nan")}, "weight nan must be above 0"),
        ({"held_out": 0.5}, "held_out 0.5 must be at least 0 and at most 0.4"),
        ({"documents": 0}, "documents 0 must be at least 1"),
        ({"path": ""}, "path '' names nothing"),
        ({"fields": {"texts": "x"}}, "fields: 'texts' is none of those of text: text"),
        ({"fields": {"text": ""}}, "fields: text '' names nothing"),
        ({"files": "/x"}, "files '/x': text names no other files"),
        ({"kind": "coco"}, "files: coco needs the folder of its pictures"),
        ({"kind": "karpathy", "files": "/x", "val": "/y"}, "val, test: karpathy's file says"),
        ({"kind": "csv"}, "kind: 'csv' must be one of coco, karpathy, webdataset"),
        ({"weigth": 1}, "unknown key weigth"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as error:
        from_dict(SourceConfig, {"kind": "text", "path": "a.jsonl", **settings})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_splits_share_out_the_documents_by_what_they_say(tmp_path: Path) -> None:
    c4(tmp_path / "a.jsonl", [*WORDS, "Document  7"])
    config = {"kind": "text", "path": str(tmp_path / "a.jsonl"), "held_out": 0.1}
    found = {
        split: [t for (t,) in texts(read(config, split))] for split in ("train", "val", "test")
    }
    assert sorted(chain(*found.values())) == sorted([*WORDS, "Document  7"])
    for split in ("val", "test"):
        assert 72 <= len(found[split]) <= 128  # three standard deviations of the binomial
    side = next(split for split in found if "document 7" in found[split])
    assert "Document  7" in found[side]
    # Neither the folder, nor the format, nor the order changes it.
    wikipedia(tmp_path / "elsewhere" / "b.parquet", WORDS[::-1])
    other = config | {"path": str(tmp_path / "elsewhere")}
    assert {t for (t,) in texts(read(other, "val"))} == set(found["val"]) - {"Document  7"}


def test_pictures_are_shared_out_by_name(tmp_path: Path) -> None:
    for shard in range(4):
        cc12m(tmp_path / "here" / f"{shard:05}.tar", 100 * shard, 25)
    shutil.copytree(tmp_path / "here", tmp_path / "there")

    def found(folder: str, split: str) -> list[list[str]]:
        path = str(tmp_path / folder / "*.tar")
        return texts(read({"kind": "webdataset", "path": path, "held_out": 0.2}, split))

    parts = [found("here", split) for split in ("train", "val", "test")]
    assert sorted(chain(*parts)) == sorted(
        [f"caption {100 * s + n}"] for s in range(4) for n in range(25)
    )
    assert all(8 <= len(part) <= 32 for part in parts[1:])
    assert found("there", "val") == parts[1]


def test_own_files_hold_one_split_only(tmp_path: Path) -> None:
    c4(tmp_path / "train.jsonl", WORDS)
    c4(tmp_path / "val.jsonl", WORDS[:50])
    shared = {"kind": "text", "path": str(tmp_path / "train.jsonl"), "held_out": 0.1}
    own = shared | {"val": str(tmp_path / "val.jsonl")}
    assert texts(read(own, "val")) == [[each] for each in WORDS[:50]]
    assert texts(read(own, "test")) == texts(read(shared, "test"))
    train = texts(read(own, "train"))
    assert len(train) == 1000 - len(texts(read(shared, "test")))
    assert all(each in train for each in texts(read(shared, "val")))


def test_unreadable_records_are_said_in_one_split(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [*({"text": each} for each in WORDS[:30]), "no json", {"text": 3}])
    config = {"kind": "text", "path": str(tmp_path / "a.jsonl"), "held_out": 0.3}
    found = {split: read(config, split) for split in ("train", "val", "test")}
    assert sum(map(len, found.values())) == 32


def test_parts_are_the_same_in_any_order_and_from_any_process(tmp_path: Path) -> None:
    """Nothing is carried from a part to the next: processes may share them out as they like."""
    wikipedia(tmp_path / "text" / "a.parquet", WORDS[:5])
    c4(tmp_path / "text" / "b.jsonl", WORDS[5:9])
    for shard in range(3):
        cc12m(tmp_path / "tars" / f"{shard}.tar", 10 * shard, 4)
    for config in (
        SourceConfig(kind="text", path=str(tmp_path / "text"), held_out=0.2),
        SourceConfig(kind="webdataset", path=str(tmp_path / "tars"), held_out=0.2),
    ):
        source = open_source(config, "train")
        forwards = {part: [each.name for each in source.read(part)] for part in source.parts()}
        assert len(forwards) > 2
        for part in reversed(source.parts()):
            elsewhere = pickle.loads(pickle.dumps(open_source(config, "train")))
            assert [each.name for each in elsewhere.read(part)] == forwards[part]


def test_a_cap_takes_the_first_records(tmp_path: Path) -> None:
    for shard in range(3):
        c4(tmp_path / f"{shard}.json.gz", WORDS[10 * shard :][:10])
    config = {"kind": "text", "path": str(tmp_path / "*.json.gz"), "documents": 14, "held_out": 0.2}
    found = [texts(read(config, split)) for split in ("train", "val", "test")]
    assert sorted(chain(*found)) == sorted([each] for each in WORDS[:14])
    assert open_source(SourceConfig(**config), "train").parts() == ["first 14 records"]
    assert len(texts(read(config | {"documents": 99, "held_out": 0}))) == 30


def test_fingerprints_tell_content_and_settings_apart(tmp_path: Path) -> None:
    file = c4(tmp_path / "a.jsonl", WORDS[:3])

    def fingerprint(split: str = "train", **settings: object) -> str:
        config = SourceConfig(**{"kind": "text", "path": str(file), **settings})
        return open_source(config, split).fingerprint()

    first = fingerprint()
    assert len(first) == 16 and fingerprint() == first == fingerprint(weight=7)
    others = [
        fingerprint("val"),
        fingerprint(held_out=0.3),
        fingerprint(documents=2),
        fingerprint(val=str(file)),
        fingerprint(fields={"text": "url"}),
    ]
    c4(file, WORDS[:4])
    others.append(fingerprint())
    os.utime(file, (0, 0))
    others.append(fingerprint())
    assert len({first, *others}) == 8
