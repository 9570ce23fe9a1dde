"""COCO's and Karpathy's annotations: every picture with its captions, faults counted one by one."""

import json
from pathlib import Path

import pytest
from data.sources.corpora import coco, jpeg, karpathy, read, skipped, texts

from mot_lab.data.sources.raw import RawPicture


def test_a_picture_of_coco_has_its_five_captions(tmp_path: Path) -> None:
    file = coco(tmp_path)
    found = read(
        {"kind": "coco", "path": str(file), "files": str(tmp_path / "train2017"), "held_out": 0}
    )
    assert texts(found) == [[f"{place} {n}" for n in (4, 3, 2, 1, 0)] for place in range(3)]
    assert [each.kind for each in found] == ["pairs"] * 3
    pictures = [each.segments[0] for each in found]
    assert pictures == [RawPicture(jpeg(place)) for place in range(3)]
    assert found[1].name == f"{file} image 10 (000000000010.jpg)"


def test_validation_has_a_file_and_a_folder_of_its_own(tmp_path: Path) -> None:
    coco(tmp_path, "train2017", pictures=3)
    coco(tmp_path, "val2017", pictures=5)
    config = {
        "kind": "coco",
        "path": str(tmp_path / "annotations" / "captions_train2017.json"),
        "val": str(tmp_path / "annotations" / "captions_val2017.json"),
        "files": str(tmp_path / "{train,val}2017"),
        "held_out": 0,
    }
    assert len(texts(read(config, "train"))) == 3
    assert len(texts(read(config, "val"))) == 5
    assert read(config, "test") == []


@pytest.mark.parametrize("filepath", ["val2014", None])
def test_karpathys_file_says_the_splits(tmp_path: Path, filepath: str | None) -> None:
    file = karpathy(tmp_path, ["val", "restval", "train", "test", "train"], filepath)
    config = {"kind": "karpathy", "path": str(file), "files": str(tmp_path)}
    assert texts(read(config, "train")) == [["1 0", "1 1"], ["2 0", "2 1"], ["4 0", "4 1"]]
    assert texts(read(config, "val")) == [["0 0", "0 1"]]
    found = read(config | {"held_out": 0}, "test")
    assert texts(found) == [["3 0", "3 1"]]
    assert found[0].segments[0] == RawPicture(jpeg(3))  # type: ignore[union-attr]


def test_faults_of_single_records_are_said(tmp_path: Path) -> None:
    file = coco(tmp_path, pictures=6)
    folder = tmp_path / "train2017"
    content = json.loads(file.read_text())
    (folder / "000000000009.jpg").unlink()
    content["images"][1]["file_name"] = "../../secret.jpg"
    content["images"][2]["file_name"] = "/etc/hostname"
    content["images"][3]["file_name"] = None
    for each in content["annotations"]:
        if each["image_id"] == 13:
            each["image_id"] = 99
        if each["image_id"] == 14:
            each["caption"] = " " if each["id"] == 502 else each["caption"]
    file.write_text(json.dumps(content))
    found = read({"kind": "coco", "path": str(file), "files": str(folder), "held_out": 0})
    said = skipped(found)
    assert len(found) == len(said) == 6 + 5
    reasons = [each.reason for each in found]
    assert reasons[0] == f"no file '000000000009.jpg' in {folder}"
    assert reasons[1] == f"the file '../../secret.jpg' is not inside '{folder}'"
    assert reasons[2] == f"the file '/etc/hostname' is not inside '{folder}'"
    assert reasons[3:6] == ["the file name None is no text", "no captions", "caption is empty"]
    assert reasons[6:] == ["of no image of the file"] * 5


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    def refused(content: object, kind: str = "coco") -> str:
        file = tmp_path / "x.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(ValueError) as error:
            read({"kind": kind, "path": str(file), "files": str(tmp_path)})
        assert str(file) in str(error.value)
        return str(error.value)

    boxes = [{"image_id": 1, "bbox": [0, 0, 1, 1]}]
    images = [{"id": 1, "file_name": "a.jpg"}]
    assert "captions_*.json" in refused({"images": images, "annotations": boxes})
    assert "laid out otherwise" in refused({"images": images})
    assert "laid out otherwise" in refused([1, 2])
    assert "laid out otherwise" in refused({"images": [3], "annotations": []})
    assert "is no JSON" in refused('{"images": [')
    assert "no pictures" in refused({"images": [], "annotations": []})
    assert "is it Karpathy's" in refused({"images": images, "annotations": []}, "karpathy")
    with pytest.raises(ValueError, match="no folder"):
        read({"kind": "coco", "path": str(coco(tmp_path)), "files": str(tmp_path / "none")})
