"""Folders of pictures: what is read, in which order, and what is said about it."""

import numpy as np
import pytest
from picture_files import blobs, save_all
from PIL import Image

from evaluation.files import picture_folder
from evaluation.files.picture_folder import PictureFolder


def read_all(folder):
    return [picture for batch in folder.batches() for picture in batch]


def test_pictures_come_in_the_order_of_their_paths_from_all_subfolders(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_folder, "BATCH", 3)
    pictures = blobs(11, 0)
    save_all(pictures[:8], tmp_path / "b")
    save_all(pictures[8:10], tmp_path / "a" / "deep", "{}.JPG")
    save_all(pictures[10:], tmp_path, "z.png")
    folder = PictureFolder(tmp_path)
    assert folder.names == [
        "a/deep/0.JPG", "a/deep/1.JPG", *(f"b/{i:04}.png" for i in range(8)), "z.png",
    ]  # fmt: skip
    counted = []
    got = [picture for batch in folder.batches(counted.append) for picture in batch]
    assert (np.stack(got[2:]) == pictures[[*range(8), 10]]).all()
    assert counted == [3, 3, 3, 2]
    assert folder.summary() == "11 pictures scored"


def test_what_was_odd_is_counted_afresh_on_every_reading(tmp_path):
    save_all(blobs(3, 0), tmp_path)
    for place in range(2):
        Image.fromarray(blobs(1, place)[0]).convert("L").save(tmp_path / f"grey{place}.png")
    Image.fromarray(blobs(1, 5, 20)[0]).save(tmp_path / "larger.png")
    (tmp_path / "captions.json").write_text("{}")
    (tmp_path / "notes").write_text("")
    (tmp_path / ".hidden.png").write_text("")
    folder = PictureFolder(tmp_path)
    for _ in range(2):
        assert len(read_all(folder)) == 6
        assert folder.summary() == (
            "6 pictures scored (2 grey; of 2 sizes); "
            "left aside: 1 .json, 1 hidden, 1 without an ending"
        )


def test_folders_behind_links_are_entered_once(tmp_path):
    save_all(blobs(2, 0), tmp_path / "elsewhere")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "pictures")
    assert PictureFolder(tmp_path / "pictures").names == ["link/0000.png", "link/0001.png"]


def test_broken_files_are_named_and_counted_together(tmp_path):
    save_all(blobs(4, 0), tmp_path)
    for place in range(7):
        (tmp_path / f"bad{place}.png").write_bytes(b"" if place else b"text")
    folder = PictureFolder(tmp_path)
    with pytest.raises(ValueError) as error:
        folder.check()
    assert "7 of 11 pictures" in str(error.value) and "and 2 more" in str(error.value)
    assert "bad0.png (not a picture); bad1.png (empty file)" in str(error.value)
    with pytest.raises(ValueError, match=r"a picture in .* cannot be read: bad0.png"):
        read_all(folder)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        PictureFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no pictures in .* \(it is empty\)"):
        PictureFolder(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"no pictures in .* \(1 .txt\)"):
        PictureFolder(tmp_path)
