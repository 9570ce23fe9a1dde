import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.tiny_run import fit

from mot_lab.data.sampler import StepSampler
from mot_lab.runtime.checkpoint import AtomicCheckpointIO, StepCheckpoint, load_checkpoint
from mot_lab.runtime.random_state import random_state, set_random_state

CHECKPOINT = {"state_dict": {"w": torch.arange(1000.0)}, "loops": {}}


def test_round_trip(tmp_path):
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "deep" / "last.ckpt")
    assert torch.equal(
        load_checkpoint(tmp_path / "deep/last.ckpt")["state_dict"]["w"], torch.arange(1000.0)
    )
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("file write failed")]
)
def test_a_failed_save_leaves_the_earlier_file_and_no_debris(tmp_path, monkeypatch, error):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    before = path.read_bytes()

    def torn(checkpoint, file):
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match=r"could not write the checkpoint .*last\.ckpt"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_killed_save_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    (tmp_path / ".last.ckpt.tmp").write_bytes(b"what kill -9 leaves")
    load_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/mot-lab-test-bomb"),)


def test_bad_files_are_refused_with_their_name(tmp_path):
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "good.ckpt")
    whole = (tmp_path / "good.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    (tmp_path / "text.ckpt").write_bytes(b"no checkpoint at all")
    (tmp_path / "bomb.ckpt").write_bytes(pickle.dumps({"state_dict": Bomb(), "loops": {}}))
    torch.save({"state_dict": Bomb(), "loops": {}}, tmp_path / "bomb2.ckpt")
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.ckpt")
    for name in ("missing", "cut", "empty", "text", "bomb", "bomb2", "other"):
        with pytest.raises(ValueError, match=f"{name}.ckpt"):
            load_checkpoint(tmp_path / f"{name}.ckpt")
    assert not Path("/tmp/mot-lab-test-bomb").exists()
    with pytest.raises(ValueError, match="weights_only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "good.ckpt", weights_only=False)
    with pytest.raises(ValueError, match="local files"):
        AtomicCheckpointIO().save_checkpoint({}, "s3://bucket/last.ckpt")


def test_random_state_round_trip(tmp_path):
    def draw():
        numbers = np.random.rand(), np.random.randn()  # noqa: NPY002
        return random.random(), random.gauss(0, 1), *numbers, torch.rand(3).tolist()

    draw()
    torch.save(random_state(), tmp_path / "state.pt")
    expected = draw()
    draw()
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


def test_one_file_at_the_last_boundary(tmp_path):
    fit(tmp_path, steps=7, save_every=3)
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 7
    assert not list(tmp_path.glob(".last*"))
    with pytest.raises(ValueError, match="every_n_steps"):
        StepCheckpoint(tmp_path / "x", every_n_steps=0)


def test_step_sampler():
    sampler = StepSampler(3, 4, start=2)
    assert list(sampler) == [[6, 7, 8], [9, 10, 11]]
    assert len(sampler) == 4
    assert list(StepSampler(3, 4))[2:] == list(sampler)
    for wrong in ((0, 4, 0), (3, 4, 5), (3, 4, -1)):
        with pytest.raises(ValueError, match="need batch_size"):
            StepSampler(*wrong)
