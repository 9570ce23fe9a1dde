"""Interrupted and resumed equals never interrupted, bit for bit."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from mlflow import MlflowClient
from reliability.amounts import amount
from reliability.processes import TIMINGS, curve, record
from reliability.small_runs import ARMS, DATA, Interrupted, interrupted_at, small_run
from runtime.tiny_run import fit

from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.metrics_file import read_lines
from mot_lab.training import Run, train

STEPS = 12


def assert_equal(a, b, where: str = "") -> None:
    """Nested containers of tensors are equal bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


def assert_same_end(run: Run, undisturbed: Run) -> None:
    """Checkpoints of the last step and curves are the same, times aside."""
    mine, other = load_checkpoint(run.checkpoint), load_checkpoint(undisturbed.checkpoint)
    for checkpoint in (mine, other):
        checkpoint["callbacks"].pop("StepTimer")
        # Lightning's count of validations begun differs by one; the curves have none twice
        checkpoint["loops"] = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert mine["global_step"] == STEPS
    assert {"FiniteGuard", "ExponentialMovingAverage", "RandomStateCheckpoint"} <= set(
        mine["callbacks"]
    )
    assert_equal(mine, other)
    assert curve(run.folder.path) == curve(undisturbed.folder.path)


def interrupt(run: Run, batch: int, tracking_uri: str | None = None) -> None:
    with interrupted_at(batch), pytest.raises(Interrupted):
        train(run, tracking_uri)


@pytest.mark.parametrize("setting", DATA)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_in_every_setting_goes_on_exactly(
    arm: str, setting: str, tmp_path: Path, record_property: Any
) -> None:
    """Interrupted in steps drawn at random, up to three times."""
    undisturbed = small_run(tmp_path / "undisturbed", arm, setting)
    train(undisturbed, None)
    lines = curve(undisturbed.folder.path)
    assert [x["step"] for x in lines if "train/text/loss" in x] == [2, 4, 6, 8, 10, 12]
    assert [x["step"] for x in lines if "val/text/loss" in x] == [3, 6, 9, 12]

    draw = random.Random(f"{arm} {setting}")
    trials = amount(1, 5)
    interruptions = 0
    for trial in range(trials):
        every = draw.choice((1, 2, 3, 4, 5))
        batches = sorted(draw.sample(range(1, STEPS), draw.choice((1, 2, 3))))
        interruptions += len(batches)
        folder = tmp_path / str(trial)
        for batch in batches:
            run = small_run(folder, arm, setting, checkpoint_every=every)
            interrupt(run, batch)
            saved = batch // every * every
            assert run.checkpoint.exists() == (saved > 0)
            if run.checkpoint.exists():
                assert load_checkpoint(run.checkpoint)["global_step"] == saved
        train(run, None)
        expected = sorted({batch // every * every for batch in batches} - {0})
        assert sorted({*record(run.folder.path)["resumed_at"]}) == expected
        assert_same_end(run, undisturbed)
    record_property("tried", interruptions)
    record_property("handled", interruptions)


@pytest.mark.parametrize("workers", [(1, 1), (3, 0), (0, 3), (3, 1)])
def test_workers_that_pack_ahead_change_nothing(workers: tuple[int, int], tmp_path: Path) -> None:
    """What they packed beyond the interruption is packed again, by as many or others."""
    undisturbed = small_run(tmp_path / "undisturbed")
    train(undisturbed, None)
    before, after = (small_run(tmp_path / "run", num_workers=number) for number in workers)
    interrupt(before, 7)
    assert load_checkpoint(before.checkpoint)["global_step"] == 4
    train(after, None)
    assert_same_end(after, undisturbed)


def test_curves_in_the_store_have_every_step_once(tmp_path: Path) -> None:
    """Steps beyond the checkpoint were sent before the interruption, and are trained again."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = small_run(tmp_path, checkpoint_every=5)
    for batch in (4, 9, 11):  # in a step that is logged, validated, neither
        interrupt(run, batch, uri)
    train(run, uri)
    undisturbed = small_run(tmp_path / "undisturbed", checkpoint_every=5)
    train(undisturbed, None)
    assert_same_end(run, undisturbed)

    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (stored,) = (each for each in client.search_runs(experiments) if each.info.run_name == run.name)
    assert stored.info.status == "FINISHED"
    lines, _ = read_lines(run.folder.metrics_path)
    names = {name for line in lines for name in line} - {"step", "time"}
    assert {"train/text/loss", "val/image/loss", "train/total/loss"} <= names
    assert names == stored.data.metrics.keys()
    for name in names:
        if name.startswith(TIMINGS):
            continue  # of the machine: another at each try, and both tries are true
        sent = [
            (point.step, point.value)
            for point in client.get_metric_history(stored.info.run_id, name)
        ]
        assert sorted(sent) == [(line["step"], line[name]) for line in lines if name in line], name


# The rest trains a network small enough to try every step.
@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"))


def test_undisturbed_run_logs_every_step_once(undisturbed):
    lines = curve(undisturbed.folder)
    assert [x["step"] for x in lines if "train/text/loss" in x] == [2, 4, 6, 8, 10, 12]
    assert [x["step"] for x in lines if "val/text/loss" in x] == [3, 6, 9, 12]
    assert undisturbed.module.samples_seen == list(range(48))


# The checkpoint falls on a validation step (6), a logging step (4, 8), neither (5), ends (1, 11).
@pytest.mark.parametrize(
    "save_every, raise_at", [(4, 6), (4, 9), (6, 8), (5, 7), (1, 1), (1, 3), (11, 11), (4, 2)]
)
def test_resume_is_exact(tmp_path, undisturbed, save_every, raise_at):
    with pytest.raises(RuntimeError, match="machine went away"):
        fit(tmp_path, faults={"raise_at": raise_at}, save_every=save_every)
    saved = raise_at // save_every * save_every
    if saved:
        assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == saved
    resumed = fit(tmp_path, save_every=save_every)

    assert resumed.module.samples_seen == list(range(saved * 4, 48))
    assert_equal(dict(resumed.module.state_dict()), dict(undisturbed.module.state_dict()))
    assert_equal(resumed.average.averages, undisturbed.average.averages)
    assert curve(tmp_path) == curve(undisturbed.folder)

    mine, other = (load_checkpoint(o.folder / "last.ckpt") for o in (resumed, undisturbed))
    for checkpoint in (mine, other):
        checkpoint["callbacks"].pop("StepTimer")
    assert mine["global_step"] == 12
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        assert_equal(mine[part], other[part], part)


def test_resume_twice_with_workers(tmp_path, undisturbed):
    for raise_at in (5, 9):
        with pytest.raises(RuntimeError, match="machine went away"):
            fit(tmp_path, faults={"raise_at": raise_at}, workers=1)
    resumed = fit(tmp_path)
    assert_equal(dict(resumed.module.state_dict()), dict(undisturbed.module.state_dict()))
    assert curve(tmp_path) == curve(undisturbed.folder)
    assert resumed.logger.record.resumed_at == [4, 8]


def test_resume_while_accumulating(tmp_path):
    whole = fit(tmp_path / "whole", steps=6, accumulate=2, save_every=2)
    with pytest.raises(RuntimeError, match="machine went away"):
        fit(tmp_path / "cut", faults={"raise_at": 9}, steps=6, accumulate=2, save_every=2)
    resumed = fit(tmp_path / "cut", steps=6, accumulate=2, save_every=2)
    assert resumed.module.samples_seen == list(range(8 * 4, 12 * 4))
    assert_equal(dict(resumed.module.state_dict()), dict(whole.module.state_dict()))
    assert_equal(resumed.average.averages, whole.average.averages)
    assert curve(resumed.folder) == curve(whole.folder)


def test_a_checkpoint_in_the_middle_of_a_step_is_refused(tmp_path):
    """Lightning's own callbacks would save there; what they left could not be gone on from."""

    class SaveAt(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 5:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    with pytest.raises(ValueError, match=r"after 5 batches, in the middle of step 3 \(batches of"):
        fit(tmp_path, steps=6, accumulate=2, save_every=2, callbacks=[SaveAt()])
    assert not (tmp_path / "middle.ckpt").exists()
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2


def test_finished_run_is_left_alone(tmp_path):
    done = fit(tmp_path, steps=4)
    before = (tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "last.ckpt").stat().st_mtime_ns
    again = fit(tmp_path, steps=4)
    assert again.module.samples_seen == []
    assert (tmp_path / "metrics.jsonl").read_bytes() == before[0]
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == before[1]
    assert_equal(dict(again.module.state_dict()), dict(done.module.state_dict()))
