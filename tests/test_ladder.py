"""Ladders: what a file says of its rungs, what is refused before anything is prepared, and one
small ladder run to its report.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure
from tiny_studies import TINY_SCENES

from evaluation.figures.registry import figure_makers
from evaluation.report import build
from evaluation.store.study_record import StudyRecord
from evaluation.wording import Numbers
from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.wiring import named_arms
from mot_lab.cli import main
from mot_lab.config import load_study
from mot_lab.ladder import Ladder, read_ladder

STUDY: dict[str, Any] = {
    "name": "sizes",
    "arms": ["dense", "mot"],
    "data": TINY_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
    },
    "training": {"steps": 4, "val_every": 1, "log_every": 1, "checkpoint_every": 4},
    "evaluation": {"images": 4, "sample_steps": 2, "shown": 1, "extractors": []},
    "ladder": {
        "w8": {"model": {"backbone": {"width": 8}}},
        "w16": {"model": {"backbone": {"width": 16}}},
    },
}
BATCHES = {"b4": {}, "b8": {"data": {"rows": 8}}}


def ladder(**changes: Any) -> Ladder:
    return read_ladder({**STUDY, **changes}, "file.yaml")


def test_rungs_are_studies_of_their_own() -> None:
    found = ladder()
    assert (found.name, found.along) == ("sizes", "size")
    assert [rung.name for rung in found.rungs] == ["w8", "w16"]
    for rung, width in zip(found.rungs, (8, 16), strict=True):
        assert rung.config.name == f"sizes-{rung.name}"
        backbone = rung.config.model.backbone
        assert (backbone.width, backbone.layers) == (width, 1)  # the rest is the study's
        dense = Transformer(backbone, named_arms(["text", "image"])["dense"].wiring)
        assert rung.parameters == sum(each.numel() for each in dense.parameters())
        assert rung.places == 4 * 64


def test_a_ladder_of_batches() -> None:
    found = ladder(ladder=BATCHES)
    assert found.along == "batch"
    assert [rung.places for rung in found.rungs] == [256, 512]
    assert len({rung.parameters for rung in found.rungs}) == 1


def test_a_rungs_text_is_a_study(tmp_path: Path) -> None:
    rung = ladder().rungs[0]
    path = tmp_path / "rung.yaml"
    path.write_text(rung.text)
    assert load_study(path) == rung.config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ladder": {"w8": {}}}, "at least two rungs"),
        ({"ladder": None}, "ladder: None must name at least two rungs"),
        ({"ladder": {"w8": {}, "a/b": {}}}, "ladder.a/b: a rung is named by letters"),
        ({"ladder": {"w8": {}, "figures": {}}}, "ladder.figures: a rung is named"),
        ({"ladder": {"w8": {}, "w16": {"arms": ["mot"]}}}, "ladder.w16: {'arms': ['mot']} must be"),
        ({"ladder": {"w8": {}, "w16": 16}}, "ladder.w16: 16 must be settings below data, model"),
        (
            {"ladder": {"w8": {}, "w16": {"model": {"backbone": {"widht": 16}}}}},
            "ladder.w16: unknown key model.backbone.widht: 16",
        ),
        ({"ladder": {"w8": {}, "w16": {"data": {"rows": 3}}}}, "ladder.w16: "),
        (
            {"ladder": {"a": {"training": {"steps": 4}}, "b": {"training": {"steps": 5}}}},
            "every rung must differ from the others in model.backbone",
        ),
        ({"name": 3}, "name 3 must be"),
        ({"arms": ["dense", "mott"]}, "unknown arm 'mott'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_that_names_the_rung(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        ladder(**changes)
    message = str(caught.value)
    assert message.startswith("file.yaml: ") and "\n" not in message
    assert said in message


def test_a_ladder_is_no_study(tmp_path: Path) -> None:
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    with pytest.raises(ValueError, match="the file is of several studies"):
        load_study(path)


def test_a_wrong_rung_is_refused_before_the_first_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {**STUDY["ladder"], "w9": {"model": {"backbone": {"width": 9}}}}
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "ladder": wrong}))
    with pytest.raises(SystemExit):
        main(["study", str(path), "--runs", str(tmp_path / "runs")])
    assert "ladder.w9: model.backbone.width 9 must be a multiple" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_ladder_runs_to_its_report_and_keeps_what_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blank(study: StudyRecord, numbers: Numbers) -> dict[str, Callable[[], Figure]]:
        return {name: lambda: Figure((1, 1)) for name in figure_makers(study, numbers)}

    monkeypatch.setattr(build, "figure_makers", blank)  # the rungs' figures have their own tests
    path, runs = tmp_path / "sizes.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    main(["study", str(path), "--runs", str(runs)])
    folder = runs / "sizes"
    report = json.loads((folder / "report.json").read_text())
    assert list(report["rungs"]) == ["w8", "w16"]
    for name, of in report["rungs"].items():
        single = json.loads((folder / name / "report.json").read_text())
        assert single["study"] == of["study"] == f"sizes-{name}"
        assert of["tokens_per_step"] == sum(single["tokens_per_step"].values())
        mine = [row["slope"] for row in report["slopes"] if row["rung"] == name]
        assert mine == [row["slope"] for row in single["matching"]]
    kept = {each: each.stat().st_mtime_ns for each in folder.glob("w*/**/*") if each.is_file()}
    assert len([each for each in kept if each.name == "checkpoint.ckpt"]) == 4
    (folder / "report.html").unlink()
    capsys.readouterr()

    main(["study", str(path), "--runs", str(runs)])
    said = capsys.readouterr().out
    assert "Rung 1 of 2, w8: finished and kept" in said and "w16: finished and kept" in said
    assert {each: each.stat().st_mtime_ns for each in kept} == kept
    assert (folder / "report.html").is_file()
    main(["plot", str(folder / "w8"), "--figure", "slopes", "--out", str(tmp_path / "s.png")])
    assert (tmp_path / "s.png").stat().st_size > 5000

    changed = {
        **STUDY,
        "ladder": {**STUDY["ladder"], "w16": {"model": {"backbone": {"width": 24}}}},
    }
    path.write_text(yaml.safe_dump(changed))
    with pytest.raises(SystemExit):
        main(["study", str(path), "--runs", str(runs)])
    assert "model.backbone.width was 16, is 24" in capsys.readouterr().err
