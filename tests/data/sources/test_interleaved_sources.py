"""Interleaved documents: texts and pictures in the order in which OBELICS has them."""

import json
from pathlib import Path

import pytest
from data.sources.corpora import jpeg, lines, obelics, read, skipped, table

from mot_lab.data.sources.raw import RawDocument, RawPicture, RawText, Skipped


def interleaved(path: Path, **settings: object) -> list[RawDocument | Skipped]:
    return read({"kind": "interleaved", "path": str(path), "held_out": 0, **settings})


def test_obelics_is_read_in_its_order(tmp_path: Path) -> None:
    documents = [
        (["before", None, "between", None], [None, jpeg(0), None, jpeg(1)]),
        ([None, "after"], [jpeg(2), None]),
        (["text only"], [None]),
        ([None, None, "filtered"], [None, jpeg(3), None]),
    ]
    found = interleaved(obelics(tmp_path / "a.parquet", documents))
    assert [each.kind for each in found] == ["interleaved"] * 4
    assert [each.segments for each in found] == [
        (RawText("before"), RawPicture(jpeg(0)), RawText("between"), RawPicture(jpeg(1))),
        (RawPicture(jpeg(2)), RawText("after")),
        (RawText("text only"),),
        (RawPicture(jpeg(3)), RawText("filtered")),
    ]


@pytest.mark.parametrize("files", [None, "pictures"])
def test_json_lines_name_their_pictures(tmp_path: Path, files: str | None) -> None:
    folder = tmp_path / (files or "")
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").write_bytes(jpeg(7))
    path = lines(tmp_path / "docs.jsonl", [{"texts": [None, "of it"], "images": ["a.jpg", None]}])
    settings = {"files": str(folder)} if files else {}
    assert interleaved(path, **settings)[0].segments == (RawPicture(jpeg(7)), RawText("of it"))


def test_pictures_as_the_hub_stores_them(tmp_path: Path) -> None:
    """The feature Image: an object of bytes and a path."""
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    images = [{"bytes": jpeg(1), "path": "gone.jpg"}, None, {"bytes": None, "path": "b.jpg"}]
    path = table(tmp_path / "a.parquet", [{"images": images, "texts": [None, "said", None]}])
    assert interleaved(path)[0].segments == (
        RawPicture(jpeg(1)), RawText("said"), RawPicture(jpeg(2)),
    )  # fmt: skip


def test_faults_of_single_documents_are_said(tmp_path: Path) -> None:
    rows = [
        {"texts": ["a"], "images": ["https://a.b/c.jpg"]},
        {"texts": [None], "images": ["https://a.b/c.jpg"]},
        {"texts": [None, "a"], "images": ["none.jpg"]},
        {"texts": [None], "images": ["none.jpg"]},
        {"texts": [None], "images": ["../docs.jsonl"]},
        {"texts": [None], "images": [3]},
        {"texts": [3], "images": [None]},
        {"texts": [None, None], "images": [None, None]},
        {"texts": "a", "images": [None]},
        {"texts": ["a"]},
        {"texts": ["good"], "images": [None]},
    ]
    found = interleaved(lines(tmp_path / "docs.jsonl", rows))
    assert [type(each) for each in found] == [Skipped] * 10 + [RawDocument]
    reasons = list(skipped(found).values())
    assert reasons[0] == "a text and an image at place 0: which comes first?"
    assert reasons[1] == "images[0] is the URL 'https://a.b/c.jpg': download it and name the file"
    assert reasons[2] == "2 texts and 1 images"
    assert reasons[3] == f"no file 'none.jpg' in {tmp_path}"
    assert reasons[4] == f"the file '../docs.jsonl' is not inside '{tmp_path}'"
    assert reasons[5] == "images[0] is 3: neither bytes nor the name of a file"
    assert reasons[6] == "texts[0] is int, not text"
    assert reasons[7] == "neither texts nor images"
    assert reasons[8] == "texts is str, not a list"
    assert reasons[9] == "images is NoneType, not a list"


def test_documents_without_the_fields_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "docs.jsonl", [{"texts": ["a"], "pictures": [None]}])
    with pytest.raises(ValueError, match=r"no images in the first 1 .*pictures, texts|no images"):
        interleaved(path)
    assert len(interleaved(path, fields={"images": "pictures"})) == 1
    assert json.loads(path.read_text())["texts"] == ["a"]
