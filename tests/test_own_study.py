"""People's own data from files to a report: tars of pictures with captions beside JSON lines of
text, prepared by one command, compared by another, the model asked by a third.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from data.sources.corpora import c4, tar
from fake_sources import png, sentence
from picture_files import blobs

from mot_lab.cli import main
from mot_lab.config import StudyConfig
from mot_lab.data.own_data import prepare_own
from mot_lab.parsing import from_dict

CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def captioned(path: Path, first: int, samples: int, broken: bool = False) -> None:
    """A tar of pictures with captions; the last picture may be cut short."""
    members = []
    for number in range(first, first + samples):
        rng = np.random.default_rng(number)
        picture = png(blobs(1, number, 24)[0], "JPEG")
        if broken and number == first + samples - 1:
            picture = picture[: len(picture) // 2]
        members += [
            (f"{number:09}.jpg", picture),
            (f"{number:09}.txt", sentence(rng).encode()),
        ]
    tar(path, members)


def tiny_clip(folder: Path) -> Path:
    """A small CLIP model with random weights, as open_clip keeps one."""
    folder.mkdir()
    normal = {"mean": [0.5] * 3, "std": [0.5] * 3}
    about = {"model_cfg": CLIP, "preprocess_cfg": normal}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**CLIP).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def settings(folder: Path) -> dict[str, Any]:
    """A study of two arms on the files of a folder."""
    sources = [
        {
            "kind": "webdataset",
            "path": str(folder / "train-{0..2}.tar"),
            "val": str(folder / "val-*.tar"),
            "test": str(folder / "test-*.tar"),
            "weight": 2,
        },
        {"kind": "text", "path": str(folder / "texts.json"), "held_out": 0.2},
    ]
    return {
        "name": "own",
        "arms": ["dense", "mot"],
        "data": {
            "sources": sources,
            "unusable": 0.05,
            "scenes": {"canvas": 16},
            "text": {"vocab_size": 320},
            "image": {"kind": "pixels"},
            "patch": 8,
            "row_length": 64,
            "rows": 4,
            "val_rows": 8,
        },
        "model": {
            "backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16},
            "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
        },
        "training": {"steps": 6, "val_every": 1, "log_every": 2, "checkpoint_every": 6},
        "evaluation": {
            "images": 4,
            "sample_steps": 2,
            "shown": 2,
            "extractors": [f"local-dir:{folder / 'clip'}"],
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, prepared in ``shards`` with two processes, and a finished study of them."""
    folder = tmp_path_factory.mktemp("own")
    for place in range(3):
        captioned(folder / f"train-{place}.tar", 100 * place, 10, broken=place == 1)
    captioned(folder / "val-0.tar", 300, 8)
    captioned(folder / "test-0.tar", 400, 9)
    rng = np.random.default_rng(0)
    c4(folder / "texts.json", [sentence(rng, 10, 60) for _ in range(40)])
    tiny_clip(folder / "clip")
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(settings(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOT_LAB_CACHE", str(folder / "cache"))
        shards = str(folder / "shards")
        main(["data", "prepare", str(file), "--out", shards, "--processes", "2"])
        main(["data", "prepare", str(file), "--out", str(folder / "alone"), "--processes", "1"])
        for path in folder.glob("*.tar"):  # what was prepared is all that a study needs
            path.unlink()
        main(["study", str(file), f"data.prepared={shards}", "--runs", str(folder / "runs")])
    return folder


def test_shards_hold_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(folder / "cache"))
    values = settings(folder)
    values["data"]["prepared"] = str(folder / "shards")
    data = prepare_own(from_dict(StudyConfig, values).data)
    counts = [[len(each) for each in data.documents(split)] for split in ("train", "val", "test")]
    assert [pictures for pictures, _ in counts] == [29, 8, 9]
    assert sum(texts for _, texts in counts) == 40 and all(texts for _, texts in counts)
    pairs = data.pairs("test")
    assert pairs is not None and len(pairs) == 9
    seen = {}
    for place, real_HWC in enumerate(pairs.pictures(0, 9)):
        seen[pairs.prompt(place)] = real_HWC
    for number in range(400, 409):
        caption = sentence(np.random.default_rng(number))
        difference = seen[caption].astype(int) - blobs(1, number, 24)[0][4:20, 4:20]
        assert np.abs(difference).mean() < 60  # the same picture, resized and through JPEG
    with pytest.raises(ValueError, match=r"evaluation\.images 5 needs 10 .* there are 9"):
        data.require_pairs(10)


def test_one_process_and_two_write_the_same_bytes(folder: Path) -> None:
    one, two = (
        {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
        for root in (folder / "alone", folder / "shards")
    )
    assert one == two and len(one) > 50


def test_the_report_says_what_was_measured_and_what_left_out(folder: Path) -> None:
    report = json.loads((folder / "runs" / "own" / "report.json").read_text())
    names = {row["name"] for row in report["metrics"]}
    assert {
        "perplexity (validation)",
        "perplexity (test split)",
        "diffusion loss (validation)",
        "diffusion loss (test split)",
        "CLIP score",
        "CIDEr",
    } <= names
    assert any(name.startswith("Frechet distance") for name in names), names
    assert not any("right" in name or "unseen" in name for name in names)
    for row in report["metrics"]:
        assert row["value"] is not None and np.isfinite(row["value"]), row
    notes = " ".join(report["notes"])
    assert "the exact checker, which reads scenes" in notes
    assert "29 documents; left out 1 unreadable picture" in notes
    checks = {check["what"]: check for check in report["fairness"]["checks"]}
    assert checks["records left out"]["equal"]
    assert {"held-out batches, val", "held-out batches, test"} <= checks.keys()
    assert len(report["samples"]) == 2


def test_the_model_answers_from_its_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(folder / "cache"))
    checkpoint = folder / "runs" / "own" / "mot-seed0" / "checkpoint.ckpt"
    out = folder / "answers"
    main(
        ["generate", str(checkpoint), "--caption", "a red fish", "--steps", "2", "--out", str(out)]
    )
    assert list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["evaluation.extractors=[scene_clip]"], "scene_clip knows the scenes of a study only"),
        (["data.styles={grey: {}}"], "own data: it must have none"),
        (["data.speech={}"], "has no source of kind speech or units"),
        (["data.sources=[{kind: text}]"], "a key is required: data.sources[0].path"),
        (["data.sources=[{kind: txt, path: a}]"], "data.sources[0].kind: 'txt' must be one of"),
        (["data.unusable=2"], "data.unusable 2.0 must be between 0 and 1"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    folder: Path, changes: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", str(folder / "own.yaml"), *changes, "--runs", str(folder / "none")])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_scenes_have_nothing_to_write_elsewhere(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["data", "prepare", str(folder / "own.yaml"), "data.sources=[]", "--out", "x"]
    with pytest.raises(SystemExit) as ended:
        main([*call, "evaluation.extractors=[]"])
    assert ended.value.code == 2
    assert "the study has no data.sources" in capsys.readouterr().err
