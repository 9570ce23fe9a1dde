"""The contract between data and model.

Shapes: B rows, S positions, N images.
"""

from dataclasses import fields, replace

import pytest
from factories import random_batch
from torch import Tensor

from mot_lab.batch import BEYOND


def test_hash_is_of_every_bit() -> None:
    batch = random_batch()
    assert batch.sha256() == random_batch().sha256()
    seen = {batch.sha256()}
    content = [field for field in fields(batch) if field.name not in BEYOND]
    for field in content:
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            other = value.clone()
            other.view(-1)[-1] += 1e-3 if value.is_floating_point() else 1
        elif field.name == "step":
            other = value + 1
        else:
            other = {"text": value["text"] - 1, "image": value["image"] + 1}
        seen.add(replace(batch, **{field.name: other}).sha256())
    assert len(seen) == 1 + len(content)
    shared = replace(batch, all_rows=9, step_images=4, step_targets={"text": 1, "image": 0})
    assert shared.sha256() == batch.sha256()


def test_moving_keeps_everything() -> None:
    batch = random_batch()
    moved = batch.to("cpu")
    assert moved.sha256() == batch.sha256()
    meta = batch.to("meta")
    assert meta.token_BS.device.type == "meta"
    assert (meta.counts, meta.step) == (batch.counts, batch.step)


def test_pinning_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU there is nothing to pin memory for: copies stand for it."""
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    batch = random_batch()
    pinned = batch.pin_memory()
    assert pinned.sha256() == batch.sha256()
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.numel():
            assert getattr(pinned, field.name).data_ptr() != value.data_ptr()


def test_counts() -> None:
    batch = random_batch(rows=4)
    assert batch.num_images == len(batch.time_N) > 0
    assert batch.num_tokens == int((batch.modality_BS >= 0).sum())


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("modality_BS", lambda x: x[:1], "modality_BS is (1, 24)"),
        ("position_BS", lambda x: x[:, :-1], "position_BS is (3, 23)"),
        ("target_L", lambda x: x[:-1], "targets"),
        ("target_modality_L", lambda x: x[:-1], "modalities for"),
        ("target_counts", lambda x: {**x, "text": x["text"] + 1}, "target counts"),
        ("noise_NCHW", lambda x: x[:, :1], "noise"),
        ("time_N", lambda x: x[:-1], "time_N"),
        ("patch_place_M", lambda x: x[:-1], "patches"),
        ("counts", lambda x: {**x, "text": 10_000}, "10000"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, spoil: object, message: str) -> None:
    batch = next(b for b in [random_batch(seed=s) for s in range(20)] if b.num_images > 1)
    with pytest.raises(ValueError) as caught:
        replace(batch, **{name: spoil(getattr(batch, name))})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
