"""Caption files of every kind, and every way in which they can be wrong."""

import json

import pytest

from evaluation.files.caption_files import read_captions
from evaluation.files.caption_pairs import captions_of_pictures, results_with_references

ANNOTATIONS = {
    "images": [{"id": 139, "file_name": "cat.jpg"}, {"id": 7, "file_name": "dog.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 139, "caption": "a cat"},
        {"id": 2, "image_id": 7, "caption": "a dog"},
        {"id": 3, "image_id": 139, "caption": "one more cat"},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="captions.json"):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_coco_annotations(write):
    file = read_captions(write(ANNOTATIONS))
    assert file.captions == {"139": ["a cat", "one more cat"], "7": ["a dog"]}
    assert file.ids == {"cat": "139", "dog": "7"} and file.empty == 0


def test_pictures_find_their_captions_by_file_name_or_id(write):
    file = read_captions(write(ANNOTATIONS))
    for names in (["cat.png", "x/dog.png"], ["139.png", "dog.webp"], ["000000000139.jpg", "7.jpg"]):
        captions, notes = captions_of_pictures(names, file)
        assert captions == [["a cat", "one more cat"], ["a dog"]] and notes == []


def test_a_list_of_captions_and_a_plain_mapping(write):
    listed = read_captions(write([{"image_id": "a_1", "caption": "x"}]))
    assert captions_of_pictures(["a_1.png"], listed)[0] == [["x"]]
    mapping = read_captions(write({"a.png": "x", "v0.5": ["y", "z"], "sub/c.jpg": "w"}))
    pictures = ["a.webp", "v0.5.png", "c.png"]
    assert captions_of_pictures(pictures, mapping)[0] == [["x"], ["y", "z"], ["w"]]


def test_captions_without_a_picture_are_counted_and_so_are_empty_ones(write):
    content = {"a": "x", "b": "y", "c": ["z", " "], "d": ""}
    captions, notes = captions_of_pictures(["c.png"], read_captions(write(content)))
    assert captions == [["z"]]
    assert notes == [
        "2 images have no picture here",
        "2 empty captions of captions.json are left out",
    ]


def test_pictures_without_a_caption_are_listed(write):
    file = read_captions(write({"a": "x", "b": ""}))
    with pytest.raises(ValueError, match=r"7 of 8 pictures have no caption in .*: b.png, c.png"):
        captions_of_pictures([f"{letter}.png" for letter in "abcdefgh"], file)


def test_pictures_that_cannot_be_told_apart_are_refused(write):
    file = read_captions(write(ANNOTATIONS))
    with pytest.raises(ValueError, match=r"2 pictures share their name .*: x/cat.png, cat.jpg"):
        captions_of_pictures(["x/cat.png", "dog.png", "cat.jpg"], file)
    with pytest.raises(ValueError, match=r"2 pictures belong to the same images .*: cat.png, 139"):
        captions_of_pictures(["cat.png", "139.png", "dog.png"], file)


def test_results_meet_their_references(write):
    file = read_captions(write(ANNOTATIONS))
    results = write([{"image_id": "7", "caption": ""}, {"image_id": 139, "caption": "c"}], "r.json")
    captions, references, notes = results_with_references(results, file)
    assert captions == ["", "c"]
    assert references == [["a dog"], ["a cat", "one more cat"]]
    assert notes == ["1 generated captions are empty and score as such"]
    one = write([{"image_id": 7, "caption": "d"}], "one.json")
    assert results_with_references(one, file)[2] == ["1 images have no result and are left out"]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([{"image_id": 7, "caption": "a"}] * 2, "several captions of the image 7: keep one"),
        ([{"image_id": 8, "caption": "a"}], r"1 of 1 captions in .* are of images without .*: 8"),
        ([{"image_id": 7}], r"\[0\] must have 'image_id' and 'caption'"),
        ([{"image_id": 7.5, "caption": "a"}], r"\[0\]: an image id must be a number or text"),
        ([{"image_id": True, "caption": "a"}], "an image id must be a number or text, not True"),
        ([{"image_id": 7, "caption": None}], r"\[0\]: 'caption' must be text, not None"),
        ([], "holds no captions"),
        ({"7": "a"}, "is no list of results"),
    ],
)
def test_wrong_results_are_named(write, results, message):
    file = read_captions(write(ANNOTATIONS))
    with pytest.raises(ValueError, match=message):
        results_with_references(write(results, "r.json"), file)


def changed(**changes):
    return {**ANNOTATIONS, **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("", "is no JSON"),
        ('{"a": "x", "a": "y"}', "several values of the key a"),
        ("3", "is no caption file: give"),
        ({}, "holds no captions"),
        ({"images": []}, "is no caption file"),
        ({"a": 3}, "'a' must be a caption or a list of them, not 3"),
        ({"a": "", "b": [""]}, r"holds no captions \(2 empty ones\)"),
        ({"x/a.png": "1", "y/a.png": "2"}, "several names with the stem a"),
        (changed(annotations=3), "'annotations' must be a list, not int"),
        (changed(annotations=[]), "holds no captions"),
        (changed(annotations=["a cat"]), r"annotations\[0\] must have"),
        (changed(images=3), '"images" must be a list of objects with an "id"'),
        (changed(images=[{"id": 139}]), 'of 1 images that "images" does not list: 7'),
        (changed(images=[{"id": 1}, {"id": 1}]), "several images with the id 1"),
        (
            changed(images=[{"id": i, "file_name": "x.jpg"} for i in (7, 139)]),
            "several images with the file name x",
        ),
    ],
)
def test_wrong_caption_files_are_named(write, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_captions(write(content))
    assert "captions.json" in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_captions(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_captions(tmp_path)
    (tmp_path / "latin.json").write_bytes('{"a": "caf\xe9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="not in UTF-8"):
        read_captions(tmp_path / "latin.json")
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + b'{"a": "x"}')
    assert read_captions(tmp_path / "marked.json").captions == {"a": ["x"]}
