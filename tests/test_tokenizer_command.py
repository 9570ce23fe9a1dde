"""``mot-lab tokenizer fit``: what it prints, what it saves, and that a study finds the same."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_cli import refused

from mot_lab.cli import main
from mot_lab.config import load_study
from mot_lab.data.prepare import prepare
from mot_lab.data.scenes import SceneSource
from mot_lab.data.styles import RENDERINGS
from mot_lab.runtime.files import whole_folder
from mot_lab.tokens.text import TextTokenizer
from mot_lab.tokens.vq import VQTokenizer

VQ = {"kind": "vq", "vq": {"fit_steps": 40, "size": 32, "width": 32, "batch_size": 8}}
DATA = {
    "scenes": {"emojis": 8, "unseen_concepts": 2, "canvas": 8},
    "text": {"vocab_size": 300},
    "image": VQ,
    "styles": {"grey": {"rendering": "grey", "image": VQ}},
    "patch": 8,
    "train_scenes": 64,
    "eval_scenes": 16,
    "row_length": 64,
    "rows": 4,
    "val_rows": 8,
    "speech": {
        "voices": ["en-us"],
        "speeds": [300],
        "pitches": [50],
        "tokenizer": {"units": 12, "fit_recordings": 8},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study's YAML file, with a cache of its own."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    evaluation = {"images": 8, "shown": 2}
    values = {"name": "tiny", "setting": "chameleon_speech", "arms": ["dense"], "data": DATA}
    path.write_text(yaml.safe_dump({**values, "evaluation": evaluation}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOT_LAB_CACHE", str(folder / "cache"))
        yield path


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines that a call prints, by name."""
    capsys.readouterr()
    main(["tokenizer", "fit", *arguments])
    lines = [line for line in capsys.readouterr().out.splitlines() if line[16:17] == " "]
    return {line[:16].strip(): line[17:].strip() for line in lines}


def test_image(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved"
    lines = printed(["image", str(study), "--out", str(saved)], capsys)
    assert lines["tokenizer"] == "image, kind vq: 32 codes, 4 in a picture"
    data = prepare(load_study(study).data)
    images = data.pictures("test", 0, 16)
    assert isinstance(data.images, VQTokenizer)
    error = data.images.reconstruction_error(images)
    assert lines["squared error"].startswith(f"{error['mse']:.6f}")
    assert lines["PSNR"] == f"{error['psnr']:.2f} dB"
    usage = data.images.usage(images)
    assert lines["codes used"].endswith(f"perplexity {usage['perplexity']:.1f}")
    assert lines["lies in"] == data.images.origin
    objects = sum(len(data.source.scene("test", 0, i).objects) for i in range(16))
    assert f"of {objects}, reconstructed" in lines["objects right"]
    assert lines["to use it"] == f"data.image: {{kind: vq, path: {saved}}}"
    override = f"data.image={{kind: vq, path: {saved}}}"
    again = prepare(load_study(study, [override]).data).images
    assert isinstance(again, VQTokenizer) and again.origin == str(saved)
    assert np.array_equal(again.encode(images), data.images.encode(images))
    assert np.array_equal(again.reconstruct(images), data.images.reconstruct(images))


def test_style(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(["grey", str(study)], capsys)
    assert lines["tokenizer"] == "grey, kind vq: 32 codes, 4 in a picture"
    data = prepare(load_study(study).data)
    grey = RENDERINGS["grey"](data.pictures("test", 0, 16))
    assert lines["PSNR"] == f"{data.styles['grey'].reconstruction_error(grey)['psnr']:.2f} dB"
    assert "objects right" not in lines  # the checker knows the scenes in their own colours


def test_text(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(["text", str(study), "--out", str(tmp_path / "text")], capsys)
    source = SceneSource(load_study(study).data.scenes)
    scenes = [source.scene("test", 0, i) for i in range(16)]
    captions = [caption for scene in scenes for caption in source.captions(scene)]
    loaded = TextTokenizer.load(tmp_path / "text" / "tokenizer.json", ["image", "speech", "grey"])
    lengths = [len(loaded.encode(caption)) for caption in captions]
    assert lines["tokenizer"] == "text, BPE: 300 entries"
    assert lines["exact"] == f"{len(captions):,} of {len(captions):,}"
    assert lines["a caption"] == f"{np.mean(lengths):.1f} tokens"
    assert loaded.key() == prepare(load_study(study).data).texts.key()


def test_speech(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "units"
    lines = printed(["speech", str(study), "--out", str(saved)], capsys)
    assert lines["tokenizer"] == "speech, log_mel: 12 units at 25 Hz"
    assert 20 < float(lines["explained"].split("%")[0]) < 100
    override = f"data.speech.tokenizer.path={saved}"
    again, fitted = (prepare(load_study(study, each).data).speech for each in ([override], []))
    assert again is not None and fitted is not None
    assert again.fingerprint == fitted.fingerprint


def test_a_study_finds_what_the_command_fitted(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality in ("image", "text", "speech", "grey"):
        printed([modality, str(study)], capsys)
    cache = study.parent / "cache"
    before = {file.name for file in cache.iterdir()}
    prepare(load_study(study).data)
    assert {file.name for file in cache.iterdir()} == before


def test_what_is_wrong_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "give one of text, image, speech, grey" in refused(
        ["tokenizer", "fit", "sound", str(study)], capsys
    )
    silent = [str(study), "setting=chameleon", "data.speech=null"]
    assert "has no speech" in refused(["tokenizer", "fit", "speech", *silent], capsys)
    (tmp_path / "there").mkdir()
    assert "exists already" in refused(
        ["tokenizer", "fit", "text", str(study), "--out", str(tmp_path / "there")], capsys
    )


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("1")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "whole").read_text() == "1"
