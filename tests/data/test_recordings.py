"""Manifests of recordings: read as written, splits by transcript, bad lines and files named."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from voices import babble

from mot_lab.data.recordings import (
    SpokenCaption,
    read_manifest,
    read_picture,
    read_recording,
    split_of,
    write_manifest,
)
from mot_lab.tokens.speech_features import UnusableRecording


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_json_lines_and_csv_read_alike(tmp_path: Path) -> None:
    lines = write_lines(
        tmp_path / "all.jsonl",
        [
            {"audio": "a/x.wav", "text": " Un  écureuil. ", "picture": "p.png", "split": "val"},
            {"audio": "/abs/y.ogg", "text": 'a "b", c', "speaker": "Ann", "split": "train"},
        ],
    )
    table = tmp_path / "all.csv"
    table.write_text(
        "audio,text,picture,speaker,split\n"
        "a/x.wav, Un  écureuil. ,p.png,,val\n"
        '/abs/y.ogg,"a ""b"", c",,Ann,train\n',
        encoding="utf-8",
    )
    expected = [
        SpokenCaption(tmp_path / "a/x.wav", "Un écureuil.", tmp_path / "p.png", None, "val"),
        SpokenCaption(Path("/abs/y.ogg"), 'a "b", c', None, "Ann", "train"),
    ]
    assert read_manifest(lines) == read_manifest(table) == expected


def test_written_and_read(tmp_path: Path) -> None:
    captions = [
        SpokenCaption(tmp_path / "set/a/x.wav", "Un écureuil.", tmp_path / "set/p.png", "B", "val"),
        SpokenCaption(tmp_path / "elsewhere/y.ogg", "two", None, None, "test"),
    ]
    write_manifest(tmp_path / "set/all.jsonl", captions)
    assert read_manifest(tmp_path / "set/all.jsonl") == captions
    first = json.loads((tmp_path / "set/all.jsonl").read_text().splitlines()[0])
    assert (first["audio"], first["picture"]) == ("a/x.wav", "p.png")


def test_without_splits_no_transcript_is_in_two(tmp_path: Path) -> None:
    texts = [f"caption number {i % 500}" for i in range(1500)]
    texts += [f" Caption  NUMBER {i}" for i in range(500)]
    rows = [{"audio": f"{i}.wav", "text": text} for i, text in enumerate(texts)]
    captions = read_manifest(write_lines(tmp_path / "all.jsonl", rows))
    splits: dict[str, set[str]] = {}
    for each in captions:
        splits.setdefault(each.text.lower(), set()).add(each.split)
    assert len(splits) == 500 and all(len(found) == 1 for found in splits.values())
    shares = {s: np.mean([found == {s} for found in splits.values()]) for s in ("val", "test")}
    assert all(0.06 < share < 0.14 for share in shares.values())


def test_the_split_of_a_transcript_never_moves() -> None:
    # Figures of studies rest on it from release to release.
    held_out = {
        i: split for i in range(12) if (split := split_of(f"caption number {i}")) != "train"
    }
    assert held_out == {2: "val", 5: "val", 7: "test", 9: "test"}


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"audio": "x.wav"}], "all.jsonl:1: no text"),
        ([{"text": "x"}], "all.jsonl:1: no audio"),
        ([{"audio": "x.wav", "text": "  "}], "all.jsonl:1: no text"),
        ([{"audio": "x.wav", "text": 7}], "all.jsonl:1: text is 7, give a string"),
        ([{"audio": "x.wav", "text": "x", "image": "y"}], "all.jsonl:1: unknown field image"),
        ([{"audio": "x.wav", "text": "x", "split": "dev"}], "split 'dev' is none of train, val"),
        ([["x.wav", "x"]], "all.jsonl:1: .* is no JSON object"),
        (
            [{"audio": "x", "text": "x", "split": "val"}, {"audio": "y", "text": "y"}],
            "all.jsonl:2: no split, which other lines have",
        ),
        ([], "has no recordings"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, rows: list[object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_manifest(write_lines(tmp_path / "all.jsonl", rows))


def test_a_missing_or_broken_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no manifest of recordings at"):
        read_manifest(tmp_path / "all.jsonl")
    (tmp_path / "all.jsonl").write_text('\n{"audio": \n')
    with pytest.raises(ValueError, match=r"all.jsonl:2 is no JSON"):
        read_manifest(tmp_path / "all.jsonl")


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_every_kind_of_file_channels_averaged(tmp_path: Path, kind: str, rate: int) -> None:
    left = babble(0, rate=rate)
    path = tmp_path / f"x.{kind}"
    soundfile.write(path, np.stack([left, left / 3], axis=1), rate)
    recording = read_recording(path)
    assert recording.rate == rate and recording.name == str(path)
    assert recording.wave_n.dtype == np.float32 and recording.wave_n.shape == left.shape
    error = np.abs(recording.wave_n - left * 2 / 3).mean() / np.abs(left).mean()
    assert error < (0.12 if kind == "ogg" else 1e-3)


def test_missing_and_unreadable_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableRecording, match=r"x.wav: no such recording"):
        read_recording(tmp_path / "x.wav")
    (tmp_path / "x.wav").write_bytes(b"no sound")
    with pytest.raises(UnusableRecording, match=r"x.wav: no readable recording"):
        read_recording(tmp_path / "x.wav")


def test_pictures_are_fitted_into_a_white_square(tmp_path: Path) -> None:
    # Red above, nothing (black, invisible) below; twice as wide as high.
    pixels = np.zeros((20, 40, 4), np.uint8)
    pixels[:10] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    square = read_picture(tmp_path / "x.png", 16)
    assert square.shape == (16, 16, 3) and square.dtype == np.uint8
    assert (square[:4] == 255).all() and (square[12:] == 255).all()
    assert np.abs(square[4:6] - np.array([255, 0, 0])).max() <= 12
    assert square[10:12].min() >= 243
    # The edge is red over white: no black comes in from where nothing is seen.
    assert square[..., 0].min() >= 243


@pytest.mark.parametrize("size", ['viewBox="0 0 10 10"', 'width="30pt" height="30pt"'])
def test_svg_pictures(tmp_path: Path, size: str) -> None:
    (tmp_path / "x.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        '<rect width="100%" height="100%" fill="#0000ff"/></svg>'
    )
    assert (read_picture(tmp_path / "x.svg", 8) == (0, 0, 255)).all()


def test_svg_pictures_whose_namespaces_are_entities(tmp_path: Path) -> None:
    """As Illustrator writes them; two of Tux Paint's stamps are."""
    (tmp_path / "x.svg").write_text(
        '<!DOCTYPE svg [<!ENTITY ns_svg "http://www.w3.org/2000/svg">]>'
        '<svg xmlns="&ns_svg;" viewBox="0 0 10 10">'
        '<rect width="100%" height="100%" fill="#0000ff"/></svg>'
    )
    assert (read_picture(tmp_path / "x.svg", 8) == (0, 0, 255)).all()


@pytest.mark.parametrize("name", ["x.png", "x.svg"])
def test_missing_and_unreadable_pictures_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: no such picture"):
        read_picture(tmp_path / name, 8)
    (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=f"{name}: no readable picture"):
        read_picture(tmp_path / name, 8)
