"""Speech: LibriSpeech's folders, The People's Speech, manifests of any sounds, and units."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from data.sources.corpora import (
    jpeg,
    librispeech,
    lines,
    peoples_speech,
    read,
    skipped,
    sound_file,
    table,
    texts,
)
from voices import babble

from mot_lab.data.sources.config import SourceConfig, open_source
from mot_lab.data.sources.raw import RawDocument, RawPicture, RawSound, RawText, RawUnits, Skipped


def speech(path: Path, kind: str = "speech", **settings: object) -> list[RawDocument | Skipped]:
    return read({"kind": kind, "path": str(path), "held_out": 0, **settings})


@pytest.mark.parametrize(("suffix", "kind"), [("flac", "FLAC"), ("wav", "WAV"), ("ogg", "OGG")])
def test_librispeech_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    found = speech(librispeech(tmp_path / "dev-clean", suffix, kind))
    # Folders in the order of their names: speaker 1272 before speaker 84.
    expected = [f"UTTERANCE {n} OF {1272 if n > 4 else 84}" for n in (5, 6, 0, 1, 2, 3, 4)]
    assert texts(found) == [[each] for each in expected]
    assert [each.kind for each in found] == ["speech"] * 7
    first = found[0].segments[0]
    samples, rate = soundfile.read(io.BytesIO(sound_file(5, kind)), dtype="float32")
    assert isinstance(first, RawSound) and first.rate == rate == 16_000
    assert first.samples.dtype == np.float32 and np.array_equal(first.samples, samples)
    assert found[0].name == f"{tmp_path}/dev-clean/1272/128104/1272-128104-0000.{suffix}"


def test_libri_parts_together_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mot_lab.data.sources.librispeech.PART", 2)
    folder = librispeech(tmp_path / "dev-clean")
    parts = open_source(SourceConfig(kind="speech", path=str(folder)), "train").parts()
    assert parts == [
        f"chapters from {folder}/1272/128104",
        f"chapters from {folder}/84/121550",
    ]
    assert len(texts(speech(folder))) == 7


def test_faults_in_librispeech_are_said(tmp_path: Path) -> None:
    folder = librispeech(tmp_path / "dev-clean")
    chapter = folder / "84" / "121123"
    (chapter / "84-121123-0000.flac").unlink()
    (chapter / "84-121123-0001.flac").write_bytes(sound_file(1)[:40])
    (chapter / "84-121123-0009.flac").write_bytes(sound_file(1))
    with (chapter / "84-121123.trans.txt").open("ab") as file:
        file.write(b"84-121123-0009 \xff\n84-121123-0002 SAID TWICE\n")
    (chapter / "84-121123-0002.wav").write_bytes(sound_file(1, "WAV"))
    silent = folder / "84" / "121550" / "84-121550-0000.flac"
    soundfile.write(silent, np.zeros(1000, np.float32), 16_000)
    transcripts = folder / "84" / "121550" / "84-121550.trans.txt"
    transcripts.write_text("84-121550-0000 SILENT\n84-121550-0001\n")
    found = speech(folder)
    said = skipped(found)
    assert len(found) - len(said) == 3
    assert said["84-121123.trans.txt:1"].startswith("no sound 84-121123-0000 in .flac")
    assert said["84-121123-0001.flac"].startswith("no readable recording")
    assert said["84-121123.trans.txt:4"].startswith("not in UTF-8")
    assert said["84-121123.trans.txt:5"].startswith("no sound 84-121123-0002")
    assert said["84-121123-0009.flac"] == "no transcript of it beside it"
    assert said["84-121550-0000.flac"].startswith("silent")
    assert said["84-121550-0001.flac"] == "transcript is empty"
    assert said["84-121123-0002.wav"] == "84-121123-0002.flac is taken, of the same utterance"


def test_the_peoples_speech_is_read_from_parquet(tmp_path: Path) -> None:
    found = speech(peoples_speech(tmp_path / "train-00000-of-00804.parquet", 3))
    assert texts(found) == [["words 0"], ["words 1"], ["words 2"]]
    expected, _ = soundfile.read(io.BytesIO(sound_file(2)), dtype="float32")
    assert np.array_equal(found[2].segments[0].samples, expected)


def test_the_peoples_speech_is_read_from_its_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "clips" / "talk"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"talk-{number}.flac").write_bytes(sound_file(number))
    row = {
        "audio_document_id": "talk.mp3",
        "identifier": "talk",
        "text_document_id": "talk.srt",
        "training_data": {
            "duration_ms": [300] * 4,
            "label": ["one", "two", "three", "four"],
            "name": [f"talk/talk-{number}.flac" for number in range(4)],
        },
    }
    uneven = {"training_data": {"label": ["one"], "name": []}}
    path = lines(tmp_path / "clean.json", [row, uneven])
    found = speech(path, files=str(tmp_path / "clips"))
    assert texts(found[:3]) == [["one"], ["two"], ["three"]]
    said = skipped(found)
    assert said["clean.json:1 utterance 3"].startswith("no file 'talk/talk-3.flac'")
    assert said["clean.json:2"] == "training_data has no lists name and label of one length"


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(("suffix", "kind"), [("flac", "FLAC"), ("wav", "WAV"), ("ogg", "OGG")])
def test_a_manifest_names_sounds_of_any_rate(
    tmp_path: Path, rate: int, suffix: str, kind: str
) -> None:
    wave = babble(1, vowels=2, rate=rate)
    both = np.stack([wave, 0.5 * wave], axis=1)
    soundfile.write(tmp_path / f"a.{suffix}", both, rate, format=kind)
    row = {"audio_filepath": f"a.{suffix}", "duration": 0.3, "text": "hello"}  # NeMo's names
    path = lines(tmp_path / "manifest.json", [row])
    document = speech(path, fields={"audio": "audio_filepath"})[0]
    sound, text = document.segments
    assert text == RawText("hello")
    assert sound.rate == rate and len(sound.samples) == len(wave)
    assert np.abs(sound.samples - 0.75 * wave).max() < (0.15 if kind == "OGG" else 1e-4)


def test_a_row_may_have_a_picture_and_no_transcript(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(sound_file(0, "WAV"))
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    rows = [
        {"audio": "a.wav"},
        {"audio": "a.wav", "text": "said", "image": "a.jpg"},
        {"audio": "a.wav", "image": "a.jpg"},
        {"audio": None, "text": "nothing"},
        {"text": "nothing"},
        {"audio": "a.wav", "text": 3},
    ]
    found = speech(lines(tmp_path / "all.jsonl", rows))
    kinds = [[type(each) for each in d.segments] for d in found if isinstance(d, RawDocument)]
    assert kinds == [
        [RawSound], [RawSound, RawText, RawPicture], [RawSound, RawPicture],
    ]  # fmt: skip
    assert list(skipped(found).values()) == [
        "audio is None: neither bytes nor the name of a file",
        "audio is None: neither bytes nor the name of a file",
        "text is int, not text",
    ]


def test_units_are_read(tmp_path: Path) -> None:
    rows = [
        {"units": [71, 12, 12, 0], "text": "said"},
        {"units": "71 12 12 0"},
        {"units": []},
        {"units": [1, -1]},
        {"units": [1, 2.5]},
        {"units": [True]},
        {"units": "1 x"},
        {"units": [2**40]},
        {"text": "no units"},
    ]
    found = speech(lines(tmp_path / "units.jsonl", rows), kind="units")
    units = [each.segments[0] for each in found[:2]]
    assert all(isinstance(each, RawUnits) and each.units.dtype == np.int64 for each in units)
    assert [each.units.tolist() for each in units] == [[71, 12, 12, 0]] * 2
    assert found[0].segments[1] == RawText("said") and len(found[1].segments) == 1
    assert [each.kind for each in found[:2]] == ["speech"] * 2
    assert list(skipped(found).values()) == [
        "units is []: no list of units",
        "units[1] is -1, not a whole number from 0",
        "units[1] is 2.5, not a whole number from 0",
        "units[0] is True, not a whole number from 0",
        "units[1] is 'x', not a whole number from 0",
        f"units[0] is {2**40}, not a whole number from 0",
        "units is None: no list of units",
    ]
    path = table(tmp_path / "u.parquet", [{"codes": [1, 2]}, {"codes": [3]}])
    found = speech(path, kind="units", fields={"units": "codes"})
    assert [each.segments[0].units.tolist() for each in found] == [[1, 2], [3]]
