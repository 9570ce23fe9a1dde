"""Interrupted and resumed equals never interrupted, bit for bit."""

from pathlib import Path

import pytest
import torch
from runtime.tiny_run import fit

from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.metrics_file import read_lines

TIMINGS = ("time", "train/tokens_per_second", "train/seconds_per_step", "system/")


def curve(folder: Path) -> list[dict]:
    lines, _ = read_lines(folder / "metrics.jsonl")
    lines = [{k: v for k, v in line.items() if not k.startswith(TIMINGS)} for line in lines]
    return [line for line in lines if len(line) > 1]


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


def test_finished_run_is_left_alone(tmp_path):
    done = fit(tmp_path, steps=4)
    before = (tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "last.ckpt").stat().st_mtime_ns
    again = fit(tmp_path, steps=4)
    assert again.module.samples_seen == []
    assert (tmp_path / "metrics.jsonl").read_bytes() == before[0]
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == before[1]
    assert_equal(dict(again.module.state_dict()), dict(done.module.state_dict()))
