"""``--only``: one run of a study, for a job script of one's own."""

import json
from pathlib import Path

import pytest
import yaml
from reliability.processes import SETTINGS, curve, record, train_one

from mot_lab.cli import main

TRAINING = {"steps": 24, "val_every": 12, "log_every": 4, "checkpoint_every": 24}


def call(folder: Path, *options: str) -> None:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "training": TRAINING}))
    main(["study", str(path), "--runs", str(folder), *options])


def test_one_run_is_trained_as_the_study_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(tmp_path, "--only", "mot-seed0")
    study = tmp_path / "small"
    found = {path.name for path in study.iterdir()}
    assert found == {"mot-seed0", "peaks.json", ".peaks.lock"}  # no store, no report
    lines = (study / "mot-seed0" / "metrics.jsonl").read_text().splitlines()
    assert any("run_cost/model_flop_utilisation" in json.loads(line) for line in lines)
    assert record(study / "mot-seed0")["status"] == "finished"
    train_one(tmp_path / "here", 1, TRAINING)
    assert curve(study / "mot-seed0") == curve(tmp_path / "here" / "mot-seed0")
    before = (study / "mot-seed0" / "checkpoint.ckpt").stat().st_mtime_ns
    call(tmp_path, "--only", "mot-seed0")
    assert "mot-seed0 is trained already and kept" in capsys.readouterr().out
    assert (study / "mot-seed0" / "checkpoint.ckpt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "options, said",
    [
        (["--only", "moe-seed0"], "--only moe-seed0: the study's runs are dense-seed0, mot-seed0"),
        (["--only", "mot-seed0", "--launcher", "slurm"], "--only trains in this process"),
        (["--only", "mot-seed0", "--gpus", "0"], "--only trains in this process"),
    ],
)
def test_what_it_cannot_do_is_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(tmp_path, *options)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"mot-lab: {said}")
