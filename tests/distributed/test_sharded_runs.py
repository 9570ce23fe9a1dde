"""Runs with sharded weights, and their checkpoints, which any number of processes goes on from."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed.faults import interrupt
from distributed.groups import forked
from distributed.runs import SHORT, assert_same_run
from reliability.small_runs import Interrupted, small_run

from mot_lab.distributed.launch import launch
from mot_lab.distributed.sharded_checkpoint import is_sharded, load_sharded
from mot_lab.freezing import FreezeConfig
from mot_lab.runtime.averaging import averages_in
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.saved import read_saved
from mot_lab.training import Run, train

ARM = "mot_text_moe_4x"


@pytest.fixture(scope="module", autouse=True)
def _forked() -> Iterator[None]:
    with forked():
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = small_run(tmp_path_factory.mktemp("alone"), ARM, **SHORT)
    train(run, None)
    return run


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two processes, interrupted after its second step of four."""
    folder = tmp_path_factory.mktemp("halfway")
    run = small_run(folder, ARM, devices=2, strategy="fsdp2", **SHORT)
    with pytest.raises(Interrupted):
        launch(interrupt, 2, run, 3)
    assert load_checkpoint(run.checkpoint)["global_step"] == 2
    return folder


def copy_of(halfway: Path, folder: Path) -> Path:
    shutil.copytree(halfway, folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    "devices, strategy", [(4, "fsdp2"), (2, "fsdp2"), (1, "fsdp2"), (2, "ddp"), (1, "ddp")]
)
def test_any_number_of_processes_goes_on(
    devices: int, strategy: str, alone: Run, halfway: Path, tmp_path: Path
) -> None:
    run = small_run(copy_of(halfway, tmp_path), ARM, devices=devices, strategy=strategy, **SHORT)
    train(run, None)
    assert is_sharded(run.checkpoint) == (strategy == "fsdp2")
    assert_same_run(run, alone)


def test_shards_go_on_from_a_checkpoint_in_one_file(alone: Run, tmp_path: Path) -> None:
    run = small_run(tmp_path, ARM, devices=2, **SHORT)
    with pytest.raises(Interrupted):
        launch(interrupt, 2, run, 3)
    assert run.checkpoint.is_file()
    go_on = small_run(tmp_path, ARM, devices=2, strategy="fsdp2", **SHORT)
    train(go_on, None)
    assert is_sharded(go_on.checkpoint)
    assert_same_run(go_on, alone)


def test_a_sharded_checkpoint_is_read_as_a_model(halfway: Path) -> None:
    run = small_run(halfway, ARM, devices=2, strategy="fsdp2", **SHORT)
    saved = read_saved(run.checkpoint)
    assert saved.step == 2
    averages = load_checkpoint(run.checkpoint)["callbacks"]["ExponentialMovingAverage"]["averages"]
    for name, weight in saved.module().state_dict().items():
        assert torch.equal(weight, averages[name])


@pytest.mark.parametrize("cut", ["rest.ckpt", "*.safetensors", "../current"])
def test_a_checkpoint_with_a_file_cut_short_is_refused(
    cut: str, halfway: Path, tmp_path: Path
) -> None:
    run = small_run(copy_of(halfway, tmp_path), ARM, **SHORT)
    (folder,) = run.checkpoint.glob("step-*")
    file = next(folder.glob(cut)) if "*" in cut else folder / cut
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=str(run.checkpoint)):
        load_checkpoint(run.checkpoint)


def test_another_models_shards_are_refused(halfway: Path, tmp_path: Path) -> None:
    run = small_run(copy_of(halfway, tmp_path), ARM, **SHORT)
    other = {"net.transformer.final_norm.tower.text.weight": torch.zeros(3)}
    with pytest.raises(
        ValueError, match=r"training cannot go on from .*: it holds .*another model's"
    ):
        load_sharded(run.checkpoint, other)


@pytest.mark.parametrize("lost", ["rest.ckpt", "*.safetensors"])
def test_a_checkpoint_that_lacks_a_file_is_refused(
    lost: str, halfway: Path, tmp_path: Path
) -> None:
    run = small_run(copy_of(halfway, tmp_path), ARM, **SHORT)
    next(run.checkpoint.glob(f"step-*/{lost}")).unlink()
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        load_checkpoint(run.checkpoint)


def begun_from(run: Run, start: Run) -> Run:
    """The run, begun from another's checkpoint and with its text tower frozen."""
    freeze = FreezeConfig(towers=["text"])
    model = replace(run.study_arm.model, start_from=str(start.checkpoint), freeze=freeze)
    return replace(run, study_arm=replace(run.study_arm, model=model))


def test_sharded_weights_begin_from_a_model_and_may_be_frozen(tmp_path: Path) -> None:
    start = small_run(tmp_path / "start", "dense", **SHORT)
    train(start, None)
    whole = begun_from(small_run(tmp_path / "whole", "mot", **SHORT), start)
    train(whole, None)
    settings = {**SHORT, "devices": 2, "strategy": "fsdp2"}
    shards = begun_from(small_run(tmp_path / "shards", "mot", **settings), start)
    train(shards, None)
    assert_same_run(shards, whole)
    first = averages_in(load_checkpoint(start.checkpoint))
    last = load_checkpoint(shards.checkpoint)["state_dict"]
    norm = "net.transformer.final_norm.tower"
    assert torch.equal(last[f"{norm}.text.weight"], first[f"{norm}.text_image.weight"])
    assert not torch.equal(last[f"{norm}.image.weight"], first[f"{norm}.text_image.weight"])
