"""The objective by hand.

Shapes: L text targets, V vocabulary, N images, C x H x W latents.
"""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from factories import (
    CHAMELEON_SPEECH,
    INTERFACE,
    TWO,
    assert_close,
    assert_same_gradients,
    random_batch,
    text_batch,
    tiny_backbone,
    tiny_model,
)
from torch.nn import functional as F

from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.losses import multimodal_losses
from mot_lab.model import MultimodalModel, Output
from mot_lab.module import ModelConfig, MultimodalModule

LATENTS = ("latents_NCHW", "noise_NCHW", "time_N")


def net(**changes: object) -> MultimodalModel:
    return tiny_model("dense", diffusion=DiffusionConfig(**changes))


def random_output(batch: MultimodalBatch) -> Output:
    generator = torch.Generator().manual_seed(0)
    shape = (batch.target_L.numel(), INTERFACE.vocab_size)
    logits = 3 * torch.randn(shape, generator=generator)
    return Output(logits, None, torch.randn(batch.latents_NCHW.shape, generator=generator))


def text_nats(output: Output, batch: MultimodalBatch) -> list[float]:
    """-log softmax of each target, in Python."""
    nats = []
    for logits, target in zip(output.logits_LV.tolist(), batch.target_L.tolist(), strict=True):
        nats.append(math.log(sum(math.exp(each) for each in logits)) - logits[target])
    return nats


def image_errors(output: Output, target_NCHW: torch.Tensor) -> list[float]:
    """Mean squared error of each image, in Python."""
    pairs = zip(output.prediction_NCHW, target_NCHW, strict=True)
    errors = [
        [(a - b) ** 2 for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
        for x, y in pairs
    ]
    return [sum(each) / len(each) for each in errors]


@pytest.mark.parametrize("objective", ["epsilon", "flow"])
def test_losses_by_hand(objective: str) -> None:
    batch = random_batch(rows=4)
    output = random_output(batch)
    losses = multimodal_losses(net(objective=objective), output, batch, z_loss=0.0)
    flow = objective == "flow"
    target = batch.noise_NCHW - batch.latents_NCHW if flow else batch.noise_NCHW
    text, image = text_nats(output, batch), image_errors(output, target)
    assert losses.counts == {"text": len(text), "image": len(image)}
    assert len(image) == batch.num_images
    mean_text, mean_image = sum(text) / len(text), sum(image) / len(image)
    assert losses.mean("text").item() == pytest.approx(mean_text, rel=1e-5)
    assert losses.mean("image").item() == pytest.approx(mean_image, rel=1e-5)
    assert losses.total.item() == pytest.approx(mean_text + 5 * mean_image, rel=1e-5)
    assert losses.z.item() == 0


def test_z_loss_is_minimised_but_not_reported() -> None:
    batch = random_batch(rows=4)
    output = random_output(batch)
    without = multimodal_losses(net(), output, batch, z_loss=0.0)
    with_z = multimodal_losses(net(), output, batch, z_loss=1e-2)
    squares = [
        math.log(sum(math.exp(each) for each in logits)) ** 2
        for logits in output.logits_LV.tolist()
    ]
    z = 1e-2 * sum(squares) / len(squares)
    assert with_z.z.item() == pytest.approx(z, rel=1e-5)
    for modality in TWO:
        assert torch.equal(with_z.mean(modality), without.mean(modality))
    assert with_z.total.item() == pytest.approx(without.total.item() + z, rel=1e-5)


def test_weight_is_of_the_mean_per_image_not_per_patch() -> None:
    batch = random_batch(rows=4)
    output = random_output(batch)
    one, ten = (multimodal_losses(net(loss_weight=w), output, batch, 0.0) for w in (1.0, 10.0))
    assert (ten.total - one.total).item() == pytest.approx(9 * one.mean("image").item(), rel=1e-5)


def test_batch_without_images_or_without_targets_is_nan_but_trains() -> None:
    model = tiny_model("mot")
    batch = text_batch(torch.randint(5, INTERFACE.vocab_size, (2, 6)))
    losses = multimodal_losses(model, model(batch), batch, 0.0)
    assert losses.mean("image").isnan()
    assert losses.total.item() == pytest.approx(losses.mean("text").item())
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    nothing = torch.zeros(0, dtype=torch.int64)
    pictures = replace(
        random_batch(),
        target_place_L=nothing,
        target_L=nothing,
        target_modality_L=nothing,
        target_counts={"text": 0, "image": 0},
    )
    losses = multimodal_losses(model, model(pictures), pictures, 1e-5)
    assert losses.mean("text").isnan()
    assert losses.total.item() == pytest.approx(5 * losses.mean("image").item())


def test_sums_of_parts_are_the_sum_of_the_whole() -> None:
    """What makes a mean over ranks or batches weigh every token and image alike."""
    model = tiny_model("dense")
    batches = [random_batch(seed=seed, rows=2) for seed in range(3)]
    parts = [multimodal_losses(model, model(b), b, 0.0) for b in batches]
    text = torch.cat([model(b).logits_LV for b in batches]).log_softmax(dim=1)
    targets = torch.cat([b.target_L for b in batches])
    mean = -text[torch.arange(len(targets)), targets].mean()
    together = sum(p.sums["text"] for p in parts) / sum(p.counts["text"] for p in parts)
    torch.testing.assert_close(together, mean)


def test_every_token_counts_in_its_own_modality_and_weighs_the_same() -> None:
    """Chameleon with speech, token by token: a target's id says whose loss it is (trap 23)."""
    model = tiny_model("mot", CHAMELEON_SPEECH)
    batch = random_batch(interface=CHAMELEON_SPEECH, rows=6, length=40)
    output = model(batch)
    losses = multimodal_losses(model, output, batch, 0.0)
    first = {"text": 0, "image": 40, "speech": 40 + 12}
    nats = text_nats(output, batch)
    for name, low in first.items():
        high = min([each for each in first.values() if each > low], default=40 + 12 + 7)
        own = [
            each
            for each, target in zip(nats, batch.target_L.tolist(), strict=True)
            if low <= target < high
        ]
        assert losses.counts[name] == len(own) > 0
        assert losses.mean(name).item() == pytest.approx(sum(own) / len(own), rel=1e-5)
    assert losses.total.item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


@pytest.mark.parametrize("interface", [INTERFACE, CHAMELEON_SPEECH], ids=["text", "all discrete"])
@pytest.mark.parametrize("training", [True, False])
def test_losses_without_logits_are_those_of_logits(
    interface: DataInterface, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several chunks, the last one not full."""
    in_double = partial(F.cross_entropy, reduction="none")  # `token_losses` is in fp32
    monkeypatch.setattr("mot_lab.losses.token_losses", in_double)
    monkeypatch.setattr("mot_lab.heads.autoregressive.CHUNK", 7)
    model = tiny_model("mot", interface=interface).double()
    batch = random_batch(rows=4, interface=interface)
    batch = replace(batch, **{name: getattr(batch, name).double() for name in LATENTS})
    assert len(batch.target_L) > 14
    found = {}
    for logits in (True, False):
        model.zero_grad()
        with torch.set_grad_enabled(training):
            output = model(batch, logits=logits)
            assert (output.logits_LV is None) != logits
            losses = multimodal_losses(model, output, batch, 0.0)
        if training:
            losses.total.backward()
        found[logits] = losses, {name: each.grad for name, each in model.named_parameters()}
    for name, own in found[False][0].sums.items():
        assert_close(own.detach(), found[True][0].sums[name].detach(), 1e-12)
    assert_close(found[False][0].total.detach(), found[True][0].total.detach(), 1e-13)
    if training:
        assert_same_gradients(found[False][1], found[True][1], 1e-11)


def test_nothing_predicted_gives_gradients_of_zero() -> None:
    batch = random_batch(rows=2)
    none = torch.zeros(0, dtype=torch.int64)
    empty = replace(
        batch, target_place_L=none, target_L=none, target_modality_L=none, target_counts={}
    )
    model = tiny_model("mot")
    losses = multimodal_losses(model, model(empty, logits=False), empty, 0.0)
    losses.total.backward()
    assert losses.sums["text"] == 0
    weight = model.autoregressive.output.weight
    assert weight.grad is not None and weight.grad.eq(0).all()


def test_what_needs_logits_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forward = MultimodalModel.forward

    def heard(self: MultimodalModel, batch: MultimodalBatch, logits: bool = True) -> Output:
        asked.append(logits)
        return forward(self, batch, logits)

    monkeypatch.setattr(MultimodalModel, "forward", heard)
    batch = random_batch(rows=2)
    for z_loss in (0.0, 1e-3):
        module = MultimodalModule(ModelConfig(tiny_backbone(), z_loss=z_loss), INTERFACE, "mot")
        module.losses(batch)
        with torch.autocast("cpu", torch.bfloat16):
            module.losses(batch)
    assert asked == [False, True, True, True]
    output = module.net(batch, logits=False)
    with pytest.raises(ValueError, match=r"z_loss 0\.001 is of logits, and the network gave none"):
        multimodal_losses(module.net, output, batch, 1e-3)
