"""Speech pools: what is said, shown and heard belongs together; bad files are counted."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from voices import babble

from mot_lab.data.espeak import speak
from mot_lab.data.pool import Scenes
from mot_lab.data.recordings import read_picture, read_recording
from mot_lab.data.scenes import ScenesConfig, SceneSource
from mot_lab.data.speech import (
    SpeechConfig,
    load_spoken,
    prepare_speech_pool,
    training_transcripts,
)
from mot_lab.data.speech_sources import SpokenScenes
from mot_lab.tokens.image import PixelTokenizer
from mot_lab.tokens.speech import SpeechTokenizer, SpeechTokenizerConfig
from mot_lab.tokens.text import TextTokenizer, fit_text_tokenizer

UNITS = SpeechTokenizerConfig(units=16, fit_recordings=8)
IMAGES = PixelTokenizer(16)


@pytest.fixture(scope="module")
def source() -> SceneSource:
    return SceneSource(ScenesConfig(canvas=16))


@pytest.fixture(scope="module")
def texts() -> TextTokenizer:
    return fit_text_tokenizer(["a red heart on yellow", "un écureuil"], 280, ("image", "speech"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))


def test_spoken_scenes_are_a_function_of_seed_split_and_record(source: SceneSource) -> None:
    people = SpeechConfig().speakers()
    spoken = SpokenScenes(source, "train", 3, people)
    drawn = [(spoken.text(i), spoken.speaker(i)) for i in range(200)]
    again = SpokenScenes(source, "train", 3, people)
    assert [(again.text(i), again.speaker(i)) for i in reversed(range(200))] == drawn[::-1]
    for i in range(200):
        assert drawn[i][0] in source.captions(source.scene("train", 3, i))
    assert len({speaker for _, speaker in drawn}) > 40  # of 54
    for other in (SpokenScenes(source, "val", 3, people), SpokenScenes(source, "train", 4, people)):
        assert sum(other.speaker(i) == drawn[i][1] for i in range(200)) < 20
    wave_n = spoken.recording(7).wave_n
    assert (wave_n == speak(*drawn[7])).all()


def test_pool_of_spoken_scenes(source: SceneSource, texts: TextTokenizer) -> None:
    config = SpeechConfig(voices=["en-us", "en-us+f2"], tokenizer=UNITS)
    scenes = Scenes(source, "val", 0, 12)
    tokenizer = load_spoken(config, source, 0, "scenes")
    pictures = np.arange(12 * 4).reshape(12, 4)
    pool = prepare_speech_pool(config, scenes, IMAGES, texts, tokenizer, pictures)
    spoken = SpokenScenes(source, "val", 0, config.speakers())
    assert len(pool) == 12
    for record in range(12):
        recording = spoken.recording(record)
        (units_U,) = tokenizer.encode([recording.wave_n], recording.rate)
        assert (pool.units(record) == units_U).all() and pool.units(record).dtype == np.int32
        assert pool.wave_text(record) == spoken.text(record)
        assert pool.text(record).tolist() == texts.encode(spoken.text(record))
        assert (pool.picture(record) == pictures[record]).all()
    lengths = [(len(pool.units(i)), len(pool.text(i))) for i in range(12)]
    assert pool.longest == max(units + words for units, words in lengths)
    assert pool.longest_units == max(units for units, _ in lengths)


def test_a_pool_is_prepared_once(
    source: SceneSource, texts: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SpeechConfig(voices=["en-us"], tokenizer=UNITS)
    scenes = Scenes(source, "val", 0, 3)
    tokenizer = load_spoken(config, source, 0, "scenes")
    pictures = np.zeros((3, 4), np.int32)
    arguments = (scenes, IMAGES, texts, tokenizer, pictures)
    first = prepare_speech_pool(config, *arguments)

    def never(*_: object) -> None:
        raise AssertionError("spoken again")

    monkeypatch.setattr(SpokenScenes, "recording", never)
    again = prepare_speech_pool(config, *arguments)
    assert isinstance(again.unit_tokens, np.memmap)
    assert (again.unit_tokens == first.unit_tokens).all()
    # Another share is the same sound, another voice is not.
    prepare_speech_pool(SpeechConfig(voices=["en-us"], share=0.5, tokenizer=UNITS), *arguments)
    with pytest.raises(AssertionError, match="spoken again"):
        prepare_speech_pool(SpeechConfig(voices=["en-us+f2"], tokenizer=UNITS), *arguments)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Ten recordings for training and three to hold out, some with pictures, one without sound."""
    rows = []
    for i in range(13):
        rate, kind = ((44_100, "ogg"), (16_000, "flac"), (22_050, "wav"))[i % 3]
        soundfile.write(tmp_path / f"{i}.{kind}", babble(i, 4 + i % 3, rate), rate)
        row = {
            "audio": f"{i}.{kind}",
            "text": f"écureuil numéro {i}",
            "split": "train" if i < 10 else "val",
        }
        if i % 2:
            Image.new("RGB", (20, 10), (i, 200, 0)).save(tmp_path / f"{i}.png")
            row["picture"] = f"{i}.png"
        rows.append(row)
    soundfile.write(tmp_path / "12.flac", np.zeros(1000, np.float32), 16_000)
    rows[12]["audio"] = "12.flac"
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def fitted(config: SpeechConfig, source: SceneSource) -> SpeechTokenizer:
    return load_spoken(config, source, 0, "scenes")


def test_pool_of_recordings(
    source: SceneSource, texts: TextTokenizer, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SpeechConfig(source=str(manifest), tokenizer=UNITS)
    tokenizer = fitted(config, source)
    scenes = Scenes(source, "train", 0, 5)
    pool = prepare_speech_pool(config, scenes, IMAGES, texts, tokenizer, np.zeros((5, 4)))
    assert len(pool) == 10
    for record in range(10):
        assert pool.wave_text(record) == f"écureuil numéro {record}"
        assert texts.decode(pool.text(record).tolist()) == pool.wave_text(record)
        (path,) = manifest.parent.glob(f"{record}.[wfo]*")
        recording = read_recording(path)
        assert (pool.units(record) == tokenizer.encode([recording.wave_n], recording.rate)[0]).all()
        picture = pool.picture(record)
        if record % 2:
            pixels = read_picture(manifest.parent / f"{record}.png", 16)
            assert (picture == IMAGES.encode(pixels[None])[0].numpy()).all()
        else:
            assert picture is None
    every = sum(len(pool.units(record)) for record in range(10))
    assert f"{every:,} speech units" in capsys.readouterr().out
    assert training_transcripts(config) == [f"écureuil numéro {i}" for i in range(10)]


def test_recordings_that_cannot_be_used_are_refused_or_counted(
    source: SceneSource, texts: TextTokenizer, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SpeechConfig(source=str(manifest), tokenizer=UNITS)
    tokenizer = fitted(config, source)
    arguments = (Scenes(source, "val", 0, 5), IMAGES, texts, tokenizer, np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"unusable allows 0; the first: .*12\.flac: silent"):
        prepare_speech_pool(config, *arguments)
    (manifest.parent / "11.wav").unlink()
    lenient = SpeechConfig(source=str(manifest), unusable=1, tokenizer=UNITS)
    with pytest.raises(ValueError, match=r"2 recordings .* allows 1; .*11\.wav: no such"):
        prepare_speech_pool(lenient, *arguments)
    lenient.unusable = 2
    pool = prepare_speech_pool(lenient, *arguments)
    assert pool.sentences == ["écureuil numéro 10"]
    assert "2 recordings cannot be used and are left out" in capsys.readouterr().out


def test_a_recording_whose_picture_cannot_be_read_is_refused_or_counted(
    source: SceneSource, texts: TextTokenizer, manifest: Path
) -> None:
    config = SpeechConfig(source=str(manifest), tokenizer=UNITS)
    tokenizer = fitted(config, source)
    arguments = (Scenes(source, "train", 0, 5), IMAGES, texts, tokenizer, np.zeros((5, 4)))
    (manifest.parent / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"unusable allows 0; the first: .*3\.png: no readable"):
        prepare_speech_pool(config, *arguments)
    lenient = SpeechConfig(source=str(manifest), unusable=1, tokenizer=UNITS)
    pool = prepare_speech_pool(lenient, *arguments)
    left = [record for record in range(10) if record != 3]
    assert pool.sentences == [f"écureuil numéro {record}" for record in left]
    for row, record in enumerate(left):
        picture = pool.picture(row)
        assert (picture is not None) == bool(record % 2)
        if picture is not None:
            pixels = read_picture(manifest.parent / f"{record}.png", 16)
            assert (picture == IMAGES.encode(pixels[None])[0].numpy()).all()


def test_long_recordings_are_left_out_and_counted(
    source: SceneSource, texts: TextTokenizer, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of 0 to 9, those with i % 3 == 0 last 0.6 s, == 1 0.75 s, == 2 0.9 s.
    config = SpeechConfig(source=str(manifest), max_seconds=0.75, tokenizer=UNITS)
    tokenizer = fitted(config, source)
    scenes = Scenes(source, "train", 0, 5)
    pool = prepare_speech_pool(config, scenes, IMAGES, texts, tokenizer, np.zeros((5, 4)))
    assert pool.sentences == [f"écureuil numéro {i}" for i in (0, 1, 3, 4, 6, 7, 9)]
    assert [pool.picture(place) is not None for place in range(7)] == [
        i % 2 == 1 for i in (0, 1, 3, 4, 6, 7, 9)
    ]
    assert "3 recordings last longer than 0.75 s" in capsys.readouterr().out


def test_without_espeak_the_error_says_what_to_install(
    source: SceneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("mot_lab.data.speech_sources.version", absent)
    with pytest.raises(ValueError, match=r"pip install 'mot-lab\[speech\]'"):
        load_spoken(SpeechConfig(), source, 0, "scenes")


def test_changed_files_are_prepared_again(
    source: SceneSource, texts: TextTokenizer, manifest: Path
) -> None:
    config = SpeechConfig(source=str(manifest), tokenizer=UNITS)
    tokenizer = fitted(config, source)
    arguments = (Scenes(source, "train", 0, 5), IMAGES, texts, tokenizer, np.zeros((5, 4)))
    before = prepare_speech_pool(config, *arguments)
    soundfile.write(manifest.parent / "0.ogg", babble(99, 9, 44_100), 44_100)
    after = prepare_speech_pool(config, *arguments)
    assert len(after.units(0)) == 34 != len(before.units(0))
    assert (after.units(1) == before.units(1)).all()


def test_a_split_without_recordings_is_refused(
    source: SceneSource, texts: TextTokenizer, manifest: Path
) -> None:
    config = SpeechConfig(source=str(manifest), tokenizer=UNITS)
    tokenizer = fitted(config, source)
    scenes = Scenes(source, "unseen", 0, 5)
    with pytest.raises(ValueError, match="has no recordings of the split test"):
        prepare_speech_pool(config, scenes, IMAGES, texts, tokenizer, np.zeros((5, 4)))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"share": 1.5}, "share 1.5 must be between 0 and 1"),
        ({"directions": ["speech_image"]}, "give some of text_speech, speech_text"),
        ({"directions": []}, "give some of text_speech"),
        ({"unusable": -1}, "unusable -1"),
        ({"max_seconds": 0}, "max_seconds 0"),
        ({"speeds": [1000]}, "speeds has 1000"),
        ({"voices": []}, "voices is empty"),
    ],
)
def test_wrong_configurations_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        SpeechConfig(**settings)  # type: ignore[arg-type]


def test_deduplicated_pools_hold_runs(source: SceneSource, texts: TextTokenizer) -> None:
    config = SpeechConfig(
        voices=["en-us"],
        tokenizer=SpeechTokenizerConfig(units=4, fit_recordings=4, deduplicate=True),
    )
    scenes = Scenes(source, "val", 0, 2)
    tokenizer = load_spoken(config, source, 0, "scenes")
    pool = prepare_speech_pool(config, scenes, IMAGES, texts, tokenizer, np.zeros((2, 4)))
    for record in range(2):
        assert (np.diff(pool.units(record)) != 0).all()
