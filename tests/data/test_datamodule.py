"""Batches of real scenes and prose: a function of (seed, step), the same for every arm."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from factories import random_batch, tiny_backbone
from lightning.pytorch.utilities.model_helpers import is_overridden

from mot_lab.batch import MultimodalBatch
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.digests import digest
from mot_lab.data.prepare import DataConfig
from mot_lab.data.scenes import ScenesConfig
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.tokens.image import ImageTokenizerConfig
from mot_lab.tokens.text import TextTokenizerConfig

CONFIG = DataConfig(
    ScenesConfig(emojis=8, unseen_concepts=2, canvas=8),
    TextTokenizerConfig(300),
    ImageTokenizerConfig("pixels"),
    patch=4,
    train_scenes=64,
    eval_scenes=16,
    row_length=64,
    rows=4,
    val_rows=8,
)
STEPS = 5


@pytest.fixture(scope="module")
def data() -> MultimodalDataModule:
    """Prepared once; further modules of the same configuration find everything."""
    module = MultimodalDataModule(CONFIG)
    module.prepare_data()
    return module


def hashes(module: MultimodalDataModule, start: int = 0) -> list[str]:
    return [batch.sha256() for batch in module.train_loader(STEPS, start)]


def test_batches_of_scenes_are_those_of_earlier_versions() -> None:
    """Golden hashes, from before there was other data than scenes, with the pinned libraries."""
    own = MultimodalDataModule(replace(CONFIG, caption_dropout=0.2), seed=3)
    assert digest(batch.sha256() for batch in own.train_loader(6)) == "a45d4788c84bd080"
    assert digest(batch.sha256() for batch in own.held_out_loader("test")) == "333ea59a913d2758"


def test_every_arm_sees_the_same_batches(data: MultimodalDataModule) -> None:
    """Whatever the arm draws for its weights, and whatever happens between the batches."""
    model = ModelConfig(backbone=tiny_backbone())
    seen = {}
    for i, arm in enumerate(("dense", "moe_4x", "mot", "mot_text_moe_4x")):
        torch.manual_seed(i)
        np.random.seed(i)  # noqa: NPY002 - the global state that batches must not depend on
        own = MultimodalDataModule(CONFIG)
        module = MultimodalModule(model, own.interface, arm, seed=i)
        seen[arm] = []
        for batch in own.train_loader(STEPS):
            module.losses(batch).total.backward()
            torch.rand(i + 1)
            seen[arm].append(batch.sha256())
    first = hashes(data)
    assert len(set(first)) == STEPS
    assert seen == dict.fromkeys(seen, first)


def test_batches_are_a_function_of_seed_and_step(data: MultimodalDataModule) -> None:
    first = hashes(data)
    assert hashes(data, start=3) == first[3:]
    assert [batch.step for batch in data.train_loader(STEPS, 3)] == [3, 4]
    assert not set(hashes(MultimodalDataModule(CONFIG, seed=1))) & set(first)


def test_workers_pack_the_same_batches(data: MultimodalDataModule) -> None:
    assert hashes(MultimodalDataModule(CONFIG, num_workers=2)) == hashes(data)


def test_validation_is_fixed_noise_included(data: MultimodalDataModule) -> None:
    first = [batch.sha256() for batch in data.held_out_loader("val")]
    other_seed = MultimodalDataModule(CONFIG, seed=9)
    assert [batch.sha256() for batch in other_seed.held_out_loader("val")] == first
    assert len(set(first)) == CONFIG.val_rows // CONFIG.rows == 2
    splits = {split: data.held_out_loader(split) for split in ("test", "unseen")}
    for loader in splits.values():
        assert not {batch.sha256() for batch in loader} & set(first)


@pytest.mark.parametrize("split", ["train", "val", "unseen"])
def test_pools_hold_the_pictures_and_all_their_captions(
    data: MultimodalDataModule, split: str
) -> None:
    prepared, pool = data.prepared, data.prepared.pool(split)
    assert len(pool) == (64 if split == "train" else 16)
    pictures = prepared.pictures(split, 0, 16)
    assert np.array_equal(prepared.images.decode(torch.tensor(pool.images[:16])), pictures)
    for index in range(16):
        scene = prepared.source.scene(split, CONFIG.seed, index)
        captions = prepared.source.captions(scene)
        count = len(captions)
        # (c + 0.5) / count lies inside the share of [0, 1) that caption c is picked for
        drawn = [
            prepared.texts.decode(pool.caption(index, (c + 0.5) / count)) for c in range(count)
        ]
        assert drawn == captions
    longest = max(len(pool.caption(i, c / 7)) for i in range(len(pool)) for c in range(7))
    assert pool.longest_caption >= longest


def test_rows_tell_scenes_and_prose(data: MultimodalDataModule) -> None:
    """Documents read back as text: captions of the split's scenes, or passages of prose."""
    prepared = data.prepared
    known = {
        caption
        for index in range(64)
        for caption in prepared.source.captions(prepared.source.scene("train", 0, index))
    }
    told = prose = 0
    for batch in data.train_loader(STEPS):
        for row in range(CONFIG.rows):
            for document in range(int(batch.document_BS[row].max()) + 1):
                inside = batch.document_BS[row] == document
                text = prepared.texts.decode(batch.token_BS[row, inside].tolist())
                if (batch.image_BS[row, inside] >= 0).any():
                    assert text in known
                    told += 1
                else:
                    prose += 1
    assert told > 15
    assert prose > 3


def test_other_data_than_the_checkpoints_is_refused(data: MultimodalDataModule) -> None:
    data.load_state_dict(data.state_dict())
    other = MultimodalDataModule(replace(CONFIG, prose_share=0.2))
    with pytest.raises(ValueError, match=r"0\.2"):
        other.load_state_dict(data.state_dict())


def test_a_row_that_holds_no_picture_with_caption_is_refused() -> None:
    short = MultimodalDataModule(replace(CONFIG, row_length=12))
    with pytest.raises(ValueError, match="row_length 12"):
        short.train_loader(1)


def trainer(device: str = "cpu", **changes: int) -> SimpleNamespace:
    """As far as the data module asks it."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    one = {"global_rank": 0, "world_size": 1, "accumulate_grad_batches": 1, "global_step": 0}
    return SimpleNamespace(strategy=strategy, max_steps=STEPS, **one | changes)


def shares(processes: int, parts: int = 1, step: int = 0) -> list[list[MultimodalBatch]]:
    """What each of several processes is given, from a step on, in so many parts each."""
    given = []
    for rank in range(processes):
        own = MultimodalDataModule(CONFIG, parts=parts)
        own.trainer = trainer(
            global_rank=rank, world_size=processes, accumulate_grad_batches=parts, global_step=step
        )
        given.append(list(own.train_dataloader()))
    return given


@pytest.mark.parametrize("processes, parts", [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
def test_processes_and_parts_share_out_the_same_batches(
    data: MultimodalDataModule, processes: int, parts: int
) -> None:
    whole = list(data.train_loader(STEPS))
    given = shares(processes, parts)
    for step, batch in enumerate(whole):
        passes = range(step * parts, (step + 1) * parts)
        own = [given[rank][each] for each in passes for rank in range(processes)]
        for name in ("token_BS", "modality_BS", "noise_NCHW", "time_N", "target_L"):
            assert torch.equal(torch.cat([getattr(x, name) for x in own]), getattr(batch, name))
        assert [each.step for each in own] == [each for each in passes for _ in range(processes)]
        assert sorted({row for each in own for row in each.samples}) == list(batch.samples)
    assert all(len(each) == STEPS * parts for each in given)


def test_a_process_begins_with_its_share_of_any_step(data: MultimodalDataModule) -> None:
    later = shares(2, parts=2, step=3)
    for own, whole in zip(later, shares(2, parts=2), strict=True):
        assert [each.sha256() for each in own] == [each.sha256() for each in whole[6:]]


def test_what_the_passes_of_a_step_hold_is_known_in_each(data: MultimodalDataModule) -> None:
    for rank, own in enumerate(shares(2, parts=2)):
        for step in range(STEPS):
            passes = own[2 * step : 2 * step + 2]
            for each in passes:
                assert each.step_images == sum(other.num_images for other in passes), rank
                assert each.step_targets == {
                    name: sum(other.target_counts[name] for other in passes)
                    for name in each.target_counts
                }


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="rows 4 do not divide into 3 parts"):
        MultimodalDataModule(CONFIG, parts=3)
    with pytest.raises(ValueError, match="4 rows do not divide into 3 processes"):
        shares(3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_trainer_alone_gets_pinned_batches_and_for_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    own = MultimodalDataModule(CONFIG)
    own.trainer = trainer(device)
    for loader in (own.train_dataloader(), own.val_dataloader()):
        assert loader.pin_memory == (device == "cuda")
    assert not own.train_loader(1).pin_memory
    assert not own.held_out_loader("val").pin_memory


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_nobody_waits_until_a_gpu_has_its_batch(
    data: MultimodalDataModule, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    assert is_overridden("transfer_batch_to_device", data)
    waits: list[bool] = []
    to = torch.Tensor.to

    def recorded(tensor: torch.Tensor, device: object, non_blocking: bool = False) -> torch.Tensor:
        waits.append(not non_blocking)
        return to(tensor, "cpu")

    batch = random_batch()
    monkeypatch.setattr(torch.Tensor, "to", recorded)
    moved = data.transfer_batch_to_device(batch, torch.device(device), 0)
    assert moved.counts == batch.counts
    assert waits == [device != "cuda"] * 12
