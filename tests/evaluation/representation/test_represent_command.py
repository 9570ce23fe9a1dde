"""``mot-lab represent`` on trained runs: what it prints, writes and refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_studies import TINY_SCENES

from evaluation.representation.checkpoints import Source, find_checkpoints, labels
from evaluation.representation.record import read_representation
from evaluation.representation.represent import represent
from evaluation.representation.separation import MEASURES
from mot_lab.cli import main
from mot_lab.config import StudyConfig
from mot_lab.fit_router import fit_run
from mot_lab.parsing import from_dict
from mot_lab.training import Run, runs_of, train

DEPTHS = ["embedding", "block 1", "block 2", "final norm"]


def settings(**changes: object) -> dict:
    return {
        "name": "tiny",
        "arms": ["dense", "mot_text_moe_4x"],
        "seeds": [3, 4],
        "data": {**TINY_SCENES, "val_rows": 16, **changes},
        "model": {
            "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
            "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
        },
        "training": {"steps": 2, "val_every": 2, "log_every": 2, "checkpoint_every": 2},
        "evaluation": {"images": 2, "sample_steps": 2, "shown": 1, "extractors": []},
        "router": {"steps": 2},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Trained runs of a study, which has left its study.json."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    runs = {run.name: run for run in runs_of(from_dict(StudyConfig, settings()), folder)}
    for name in ("dense-seed3", "mot_text_moe_4x-seed3", "dense-seed4"):
        train(runs[name], None)
    study = {"seeds": [3, 4], "arms": {"dense": {}, "mot_text_moe_4x": {}}}
    (folder / "study.json").write_text(json.dumps(study))
    return runs


def refused(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["represent", *map(str, arguments)])
    assert ended.value.code == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "mot-lab: " in each]
    return line


def test_a_study_is_shown_arm_by_arm_with_its_first_seed(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs["dense-seed3"].study_folder
    main(["represent", str(folder), "--tokens", "120"])
    out = capsys.readouterr().out
    assert "tokens: 60 of text, 60 of image, from" in out and "of the val split" in out
    assert "mot_text_moe_4x: training routing, which sees other tokens: no router was" in out
    assert f"Written to {folder / 'representation'}" in out

    found = read_representation(folder / "representation")
    assert [(arm.label, arm.routing, arm.step) for arm in found.arms] == [
        ("dense", "none", 2),
        ("mot_text_moe_4x", "training", 2),
    ]
    for arm in found.arms:
        assert [depth.name for depth in arm.depths] == DEPTHS
        for depth in arm.depths:
            assert depth.scores.keys() == MEASURES.keys()
            assert len(depth.points) == 120
            assert all(s.low <= s.high and -1 <= s.value <= 1 for s in depth.scores.values())
            assert f"{depth.scores['silhouette'].value:.3f}" in out
    with open(folder / "representation" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 3
    last = found.arms[1].depths[3].scores["probe"]
    assert rows[-1]["measure"] == "probe" and rows[-1]["depth"] == "final norm"
    assert [float(rows[-1][key]) for key in ("value", "low", "high")] == [
        last.value,
        last.low,
        last.high,
    ]
    for name in ("components", "separation"):
        for suffix in (".png", ".svg"):
            assert (folder / "representation" / f"{name}{suffix}").stat().st_size > 5000


def test_what_is_read_is_what_was_found_and_a_seed_gives_the_same_again(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    path = runs["dense-seed3"].checkpoint
    main(["represent", str(path), "--tokens", "100", "--out", str(tmp_path), "--seed", "2"])
    written = read_representation(tmp_path)
    found = represent([Source(path, "dense", 3)], tokens=100, seed=2)
    assert written.modality == found.modality and written.documents == found.documents
    for depth, again in zip(written.arms[0].depths, found.arms[0].depths, strict=True):
        assert depth.scores == again.scores and depth.explained == again.explained
        np.testing.assert_allclose(depth.points, again.points, rtol=1e-4)
    other = represent([Source(path)], tokens=100, seed=3)
    assert other.arms[0].depths[0].scores != found.arms[0].depths[0].scores
    assert other.arms[0].label == "dense"


def test_noise_is_a_switch_and_a_router_gives_causal_routing(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["mot_text_moe_4x-seed3"]
    fit_run(run)
    call = ["represent", str(run.folder.path), "--tokens", "120"]
    main([*call, "--out", str(tmp_path / "clean")])
    assert "mot_text_moe_4x: causal routing" in capsys.readouterr().out
    main([*call, "--out", str(tmp_path / "noised"), "--noised"])
    assert "of the val split, pictures noised as in validation" in capsys.readouterr().out
    clean, noised = (read_representation(tmp_path / name) for name in ("clean", "noised"))
    assert (clean.noised, noised.noised) == (False, True)
    assert clean.modality == noised.modality
    assert clean.arms[0].routing == noised.arms[0].routing == "causal"
    assert clean.arms[0].depths[0].scores != noised.arms[0].depths[0].scores


def test_labels_say_as_much_as_is_needed(runs: dict[str, Run]) -> None:
    folders = [runs[name].folder.path for name in ("dense-seed3", "dense-seed4")]
    sources = find_checkpoints([*folders])
    assert [(source.arm, source.seed) for source in sources] == [("dense", 3), ("dense", 4)]
    assert labels(sources, ["dense", "dense"]) == ["dense, seed 3", "dense, seed 4"]
    assert labels(sources, ["dense", "mot"]) == ["dense", "mot"]
    alike = [Source(Path("a/x.ckpt"), "mot", 0), Source(Path("b/x.ckpt"), "mot", 0)]
    assert labels(alike, ["mot", "mot"]) == ["mot, a/x.ckpt", "mot, b/x.ckpt"]


def test_refusals_are_one_line(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs["dense-seed3"].checkpoint
    out = ["--out", tmp_path / "out"]
    cases = {
        (tmp_path,): "holds neither a run (run.json) nor a finished study",
        (tmp_path / "no.ckpt",): "there is no checkpoint",
        (runs["mot_text_moe_4x-seed4"].checkpoint,): "there is no checkpoint",
        (path, runs["dense-seed4"].checkpoint): "say with --out FOLDER where the result goes",
        (path, path.parent, *out): "is named twice",
        (path, "--split", "train", *out): "split 'train' is none of val, test, unseen",
        (path, "--tokens", 0, *out): "tokens 0 must be at least 1",
        (path, "--tokens", 4, *out): "too few to be judged",
    }
    for arguments, said in cases.items():
        assert said in refused([*arguments], capsys), arguments
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="run `mot-lab represent` first"):
        read_representation(tmp_path)


def test_checkpoints_of_other_data_are_not_shown_together(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other, *_) = runs_of(from_dict(StudyConfig, settings(caption_first=0.5)), tmp_path)
    train(other, None)
    line = refused([runs["dense-seed3"].checkpoint, other.checkpoint, "--out", tmp_path], capsys)
    assert "was trained on other data than" in line
