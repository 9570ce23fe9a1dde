"""Frozen towers and vocabularies: they do not move and cost no gradients."""

from typing import Any

import pytest
import torch
from factories import CHAMELEON, TWO, full_batch, random_batches, tiny_model
from test_flops import counted, workload
from torch import Tensor

from mot_lab.backbones.wiring import parse_arm
from mot_lab.flops import training_flops
from mot_lab.freezing import FreezeConfig, freeze
from mot_lab.losses import multimodal_losses
from mot_lab.model import MultimodalModel
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.optim import OptimizerConfig, make_optimizer
from mot_lab.parsing import from_dict
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.study_arm import TrainingConfig, settle_arm

CASES: dict[str, tuple[object, FreezeConfig]] = {
    "the text of MoT": ("mot", FreezeConfig(["text"])),
    "the text of MoT and the vocabulary": ("mot", FreezeConfig(["text"], vocabulary=True)),
    "the experts of the hybrid": ("mot_text_moe_4x", FreezeConfig(["text"])),
    "one feed-forward": ("untie_ffn", FreezeConfig(["image"])),
    "all but the vocabulary": ("dense", FreezeConfig(["text_image"])),
}
cases = pytest.mark.parametrize(("arm", "config"), CASES.values(), ids=CASES.keys())


def is_frozen(name: str, config: FreezeConfig) -> bool:
    if name.startswith("autoregressive."):
        return config.vocabulary
    return any(f".tower.{tower}." in name for tower in config.towers)


def weights(net: MultimodalModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in net.named_parameters()}


@cases
def test_only_what_is_not_frozen_moves(arm: object, config: FreezeConfig) -> None:
    net = tiny_model(arm, CHAMELEON)
    freeze(net, config)
    frozen = {name for name, _ in net.named_parameters() if is_frozen(name, config)}
    assert 0 < len(frozen) < len(list(net.parameters()))
    before = weights(net)
    optimizer, _ = make_optimizer(net, OptimizerConfig(lr=1e-2, warmup_steps=0), 3)
    for _, batch in zip(range(3), random_batches(interface=CHAMELEON), strict=False):
        optimizer.zero_grad()
        multimodal_losses(net, net(batch), batch, 0.0).total.backward()
        optimizer.step()
    for name, weight in net.named_parameters():
        assert torch.equal(weight, before[name]) == (name in frozen), name
        assert (weight in optimizer.state) == (name not in frozen), name


@pytest.mark.parametrize(
    ("arm", "config"),
    [("mot", FreezeConfig(["text"])), ("mot_text_moe_4x", FreezeConfig(["text"]))],
    ids=["mot", "hybrid"],
)
def test_flops_are_those_that_pytorch_counts(arm: str, config: FreezeConfig) -> None:
    net = tiny_model(arm, width=64, heads=4)
    net.transformer.kernel = "sdpa"  # attention that computes what the mask hides, too
    batch = full_batch(rows=4, length=32)
    work = workload(batch)
    whole = sum(training_flops(net, work, full_attention=True).values())
    freeze(net, config)
    spared = sum(training_flops(net, work, full_attention=True).values())

    def step() -> None:
        multimodal_losses(net, net(batch), batch, 0.0).total.backward()

    assert spared < 0.9 * whole
    assert counted(step) == pytest.approx(spared, rel=5e-3)


def test_an_arm_of_a_study_freezes_its_own_towers() -> None:
    model, training = ModelConfig(), TrainingConfig()
    entry = {"image_only": {"arm": "mot", "model": {"freeze": {"towers": ["text"]}}}}
    arm = settle_arm(entry, TWO, model, training)
    assert arm.description.endswith("a tower per modality for all weights; frozen: tower text")
    assert arm.model.freeze == FreezeConfig(["text"])
    wrong: Any = {"named": {"arm": "dense", "model": {"freeze": {"towers": ["text"]}}}}
    with pytest.raises(ValueError, match=r"arm 'named': model.freeze.towers 'text' is none of"):
        settle_arm(wrong, TWO, model, training)
    with pytest.raises(ValueError, match="must be a list of str"):
        from_dict(ModelConfig, {"freeze": {"towers": "text"}})
    net = tiny_model("dense", CHAMELEON)
    with pytest.raises(ValueError, match="freeze leaves nothing to train"):
        freeze(net, FreezeConfig(["text_image"], vocabulary=True))
    assert parse_arm("mot", TWO).wiring == arm.wiring


def test_averages_are_of_what_is_trained() -> None:
    config = ModelConfig(freeze=FreezeConfig(["text"]))
    config.backbone.layers, config.backbone.width = 1, 16
    module = MultimodalModule(config, CHAMELEON, "mot")
    average = ExponentialMovingAverage()
    average.on_train_start(None, module)  # type: ignore[arg-type]  # a trainer is not asked
    expected = {n for n, _ in module.named_parameters() if ".tower.text." not in n}
    assert average.averages.keys() == expected
