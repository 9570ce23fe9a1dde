"""A whole study, small: what it leaves behind, that it goes on exactly, that arms share batches."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny_studies import FEW_SCENES

from evaluation.report.build import build_report
from evaluation.store.read import read_study
from evaluation.trained.runs import evaluate_run, prepare_evaluators
from mot_lab.cli import main
from mot_lab.config import StudyConfig
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.parsing import from_dict
from mot_lab.study import Study
from mot_lab.trained import load_trained
from mot_lab.training import runs_of, train

SETTINGS = {
    "name": "tiny",
    "arms": ["dense", "moe_4x", "mot"],
    "seeds": [0, 1],
    "data": FEW_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 2},
    },
    "training": {"steps": 8, "val_every": 2, "log_every": 2, "checkpoint_every": 3},
    "evaluation": {"images": 8, "sample_steps": 2, "shown": 2, "extractors": []},
    "router": {"steps": 4},
}


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    return from_dict(StudyConfig, SETTINGS)


@pytest.fixture(scope="module")
def study(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("runs") / config.name
    study = Study(config, yaml.safe_dump(SETTINGS), folder)
    study.run(prepare_evaluators, evaluate_run)
    build_report(study.tracking_uri, config.name, folder)
    return study


def test_the_report_holds_every_field_of_its_schema(study: Study) -> None:
    report = json.loads((study.folder / "report.json").read_text())
    assert report["study"] == "tiny"
    assert report["setting"] == "transfusion"
    assert report["baseline"] == "dense"
    assert list(report["arms"]) == ["dense", "moe_4x", "mot"]
    for arm in report["arms"].values():
        assert arm["parameters"] >= arm["active_parameters"] > 0
        assert arm["flops_per_step"] > 0 and arm["seconds_per_step"] > 0
    rows = {(m["arm"], m["modality"], m["axis"], m["curve"]) for m in report["matching"]}
    assert rows == {
        (arm, modality, axis, curve)
        for arm in ("moe_4x", "mot")
        for modality in ("text", "image")
        for axis in ("steps", "flops", "seconds")
        for curve in ("train", "val")
    }
    for row in report["matching"]:
        assert {"slope", "slope_low", "slope_high", "end_ratio", "reached"} <= row.keys()
    for metric in report["metrics"]:
        assert {"arm", "name", "value", "low", "high", "n", "extractor"} <= metric.keys()
        assert {"ceiling", "floor"} <= metric.keys()
    assert report["environment"]["torch"] == torch.__version__.partition("+")[0]


def test_a_tracker_that_is_down_costs_a_line_and_no_report(
    study: Study, config: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    down = Study(config, yaml.safe_dump(SETTINGS), study.folder, "http://127.0.0.1:9")
    down._send()
    said = " ".join(capsys.readouterr().out.split())
    assert "Connection refused); nothing is lost: when it is back, mot-lab sync" in said
    assert said.endswith(f"this report is made from {study.tracking_uri}")
    assert down.tracking_uri == down.tracker.tracking_uri == study.tracking_uri


def test_experts_change_flops_by_the_router_alone(study: Study) -> None:
    arms = json.loads((study.folder / "report.json").read_text())["arms"]
    assert arms["mot"]["flops_per_step"] == arms["dense"]["flops_per_step"]
    assert arms["mot"]["active_parameters"] == arms["dense"]["active_parameters"]
    assert 1 < arms["moe_4x"]["flops_per_step"] / arms["dense"]["flops_per_step"] < 1.01


def test_experts_generate_under_causal_routing_and_losses_are_given_under_both(
    study: Study,
) -> None:
    metrics = json.loads((study.folder / "report.json").read_text())["metrics"]
    for name in ("objects right", "ground right", "scenes right", "CIDEr"):
        values = {metric["arm"]: metric["value"] for metric in metrics if metric["name"] == name}
        assert values.keys() == {"dense", "moe_4x", "mot"}
        assert None not in values.values()
    for seed in (0, 1):
        run = study.folder / f"moe_4x-seed{seed}"
        assert (run / "checkpoint.router.safetensors").exists()
        scored = json.loads((run / "artifacts" / "evaluation.json").read_text())
        values = {metric["name"]: metric["value"] for metric in scored["metrics"]}
        assert scored["routing"]["router"]["steps"] == 4
        for name, modality in (("perplexity", "text"), ("diffusion loss", "image")):
            both = [values[f"{name} (validation){end}"] for end in ("", ", training routing")]
            (row,) = (
                each
                for each in scored["routing"]["losses"]
                if (each["split"], each["modality"]) == ("val", modality)
            )
            losses = [math.log(each) if modality == "text" else each for each in both]
            assert losses == pytest.approx([row["causal"], row["training"]], rel=1e-9)
        found = {each["routing"]: each["leaks"] for each in scored["causality"]}
        assert found == {"training": True, "causal": False}


def test_curves_in_the_store_are_those_of_the_run_folders(study: Study) -> None:
    record = read_study(study.tracking_uri, "tiny")
    for run in record.runs:
        lines = (study.folder / f"{run.arm}-seed{run.seed}" / "metrics.jsonl").read_text()
        logged = [json.loads(line) for line in lines.splitlines()]
        losses = [each["val/image/loss"] for each in logged if "val/image/loss" in each]
        curve = run.curves["image", "val"]
        assert curve.steps.tolist() == [2, 4, 6, 8]
        assert curve.values.tolist() == losses


def test_a_finished_study_is_left_alone(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.folder.glob("*/checkpoint.ckpt")}
    assert len(before) == 6
    again = Study(study.config, study.config_text, study.folder)
    again.run(prepare_evaluators, evaluate_run)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "6 of 6 runs are trained already and kept" in capsys.readouterr().out


def test_sync_sends_another_store_everything_once(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    for values in (True, False):
        main(["sync", str(study.folder), "--tracking-uri", uri])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 6
        assert all((": 0 values" not in line) == values for line in lines)


def test_a_report_is_rebuilt_from_the_store_alone(study: Study, tmp_path: Path) -> None:
    build_report(study.tracking_uri, "tiny", tmp_path)
    for name in ("report.json", "report.md"):
        assert (tmp_path / name).read_bytes() == (study.folder / name).read_bytes()


@pytest.mark.parametrize("name", ["val_every", "log_every"])
def test_curves_of_one_point_are_refused_before_anything_is_prepared(
    tmp_path: Path, name: str
) -> None:
    training = {**SETTINGS["training"], name: 5}
    study = Study(from_dict(StudyConfig, {**SETTINGS, "training": training}), "", tmp_path / "tiny")
    with pytest.raises(ValueError, match=rf"training.{name} 5 makes one point in 8 steps.* most 4"):
        study.run(prepare_evaluators, evaluate_run)
    assert not study.folder.exists()


def test_changed_settings_are_refused(study: Study) -> None:
    changed = {**SETTINGS, "training": {**SETTINGS["training"], "steps": 9}}
    run = runs_of(from_dict(StudyConfig, changed), study.folder)[0]
    with pytest.raises(ValueError, match=r"training.steps was 8, is 9"):
        train(run, None)


class _Interrupted(Exception):
    pass


def _interrupt_at(step: int) -> Callable[..., None]:
    def on_train_batch_start(self: object, batch: object, batch_idx: int) -> None:
        if batch_idx == step:
            raise _Interrupted

    return on_train_batch_start


@pytest.mark.parametrize("arm", ["dense", "moe_4x", "mot"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    arm: str, study: Study, config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = study.folder / f"{arm}-seed1"
    run = next(run for run in runs_of(config, tmp_path) if (run.arm, run.seed) == (arm, 1))
    with monkeypatch.context() as patch:
        patch.setattr(
            "mot_lab.module.MultimodalModule.on_train_batch_start", _interrupt_at(5), raising=False
        )
        with pytest.raises(_Interrupted):
            train(run, None)
    assert load_trained(run.checkpoint).step == 3  # the last save before the interrupt
    train(run, None)

    ours = torch.load(run.checkpoint, weights_only=True)
    theirs = torch.load(undisturbed / "checkpoint.ckpt", weights_only=True)
    assert ours["global_step"] == theirs["global_step"] == 8
    _equal(ours["state_dict"], theirs["state_dict"])
    _equal(ours["optimizer_states"], theirs["optimizer_states"])
    for name in ("ExponentialMovingAverage", "RandomStateCheckpoint"):
        _equal(ours["callbacks"][name], theirs["callbacks"][name])
    assert _losses(run.folder.path) == _losses(undisturbed)


def _equal(one: object, other: object) -> None:
    """Bit-equal tensors in equal containers."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor) and torch.equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict) and one.keys() == other.keys()
        for key in one:
            _equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        for left, right in zip(one, other, strict=True):
            _equal(left, right)
    else:
        assert one == other


def _losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    kept = []
    for line in map(json.loads, lines):
        kept.append({k: v for k, v in line.items() if k == "step" or "/loss" in k})
    return [each for each in kept if len(each) > 1]


def test_every_arm_is_fed_the_same_batches(study: Study, config: StudyConfig) -> None:
    hashes = []
    for run in runs_of(config, study.folder):
        run.module()  # whatever building an arm draws from global generators changes nothing
        data = MultimodalDataModule(config.data, run.seed)
        hashes.append((run.seed, [batch.sha256() for batch in data.train_loader(5)]))
    for seed, batches in hashes:
        assert batches == hashes[seed * 3][1]
    assert hashes[0][1] != hashes[3][1]  # another seed, another order
    assert len(set(hashes[0][1])) == 5
