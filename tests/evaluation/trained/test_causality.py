"""The causality probe: clean where nothing leaks, and able to find every kind of leak.

Shapes: B rows, S positions, T tokens, D width.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from factories import give_routers, random_batches, text_batch, tiny_model
from torch import Tensor

from evaluation.trained import causality
from evaluation.trained.causality import probe_causality
from mot_lab.batch import MultimodalBatch
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel

BATCHES = list(islice(random_batches(seed=2), 3))
Mask = Callable[[Tensor, Tensor], Tensor]


def probe(net: MultimodalModel, **changes: Any) -> dict[str, causality.Causality]:
    found = probe_causality(net, changes.pop("batches", BATCHES), **changes)
    assert len({each.positions for each in found}) == 1
    return {each.routing: each for each in found}


@pytest.mark.parametrize("arm", ["dense", "mot", "untie_ffn_qkv"])
@pytest.mark.parametrize("objective", ["epsilon", "flow"])
@pytest.mark.parametrize("codec", ["linear", "unet"])
def test_arms_without_experts_are_clean(arm: str, objective: Any, codec: Any) -> None:
    config = DiffusionConfig(codec=codec, unet_channels=8, objective=objective)
    found = probe(tiny_model(arm, diffusion=config))
    assert found.keys() == {"none"}
    assert found["none"].positions > 100
    assert found["none"].changed == 0
    assert found["none"].largest < 1e-10
    assert not found["none"].leaks


@pytest.mark.parametrize("arm", ["moe_4x", "moe_2x", "mot_text_moe_4x"])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_expert_choice_leaks_in_training_routing_only(arm: str, gate: str) -> None:
    net = tiny_model(arm, gate=gate)
    assert probe(net).keys() == {"training"}
    give_routers(net.transformer)
    found = probe(net)
    assert found["training"].leaks
    assert found["training"].changed > 10
    assert found["training"].largest > 0.01
    assert not found["causal"].leaks
    assert found["causal"].changed == 0
    assert found["causal"].largest < 1e-10


def everyone(document_BS: Tensor, image_BS: Tensor) -> Tensor:
    """No mask at all."""
    rows, length = document_BS.shape
    return torch.ones(rows, 1, length, length, dtype=torch.bool)


def one_ahead(document_BS: Tensor, image_BS: Tensor) -> Tensor:
    """Causal, but off by one."""
    length = document_BS.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril(1)[None, None]


def all_images(document_BS: Tensor, image_BS: Tensor) -> Tensor:
    """Patches see the patches of every image of the row, not of their own alone."""
    length = document_BS.shape[1]
    patch_BS = image_BS >= 0
    both_BSS = patch_BS[:, :, None] & patch_BS[:, None, :]
    return (torch.ones(length, length, dtype=torch.bool).tril() | both_BSS)[:, None]


@pytest.mark.parametrize("mask", [everyone, one_ahead, all_images])
@pytest.mark.parametrize("arm", ["dense", "mot"])
def test_a_wrong_mask_is_found(mask: Mask, arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mot_lab.backbones.attending.attention_mask", mask)
    net = tiny_model(arm)
    if mask is all_images:
        net.transformer.kernel = "sdpa"  # no mask of one document shows another's images
    found = probe(net)["none"]
    assert found.leaks
    assert found.changed > 3
    assert found.largest > 0.01


def test_a_look_at_other_rows_is_found() -> None:
    net = tiny_model("dense")

    def from_the_row_before(embedding: Any, inputs: Any, x_ND: Tensor) -> Tensor:
        return x_ND + 0.5 * x_ND.roll(x_ND.shape[0] // 3, dims=0)  # three rows

    net.autoregressive.embedding.register_forward_hook(from_the_row_before)
    found = probe(net)["none"]
    assert found.leaks
    assert found.changed > 100


@pytest.mark.parametrize(("size", "leaks"), [(3e-4, True), (0.5e-4, False)])
def test_a_leak_has_the_size_that_is_reported(size: float, leaks: bool) -> None:
    net, last = tiny_model("dense"), [0.0]

    def remember(embedding: Any, inputs: Any, x_ND: Tensor) -> None:
        last[0] = float(inputs[0][-1] % 2)  # the last token of the row

    def add(head: Any, inputs: Any, logits_LV: Tensor) -> Tensor:
        return logits_LV + size * last[0]

    net.autoregressive.embedding.register_forward_hook(remember)
    net.autoregressive.output.register_forward_hook(add)
    found = probe(net, batches=[text_batch(torch.arange(6, 30).view(1, 24))])["none"]
    assert found.largest == pytest.approx(size, rel=1e-6)
    assert found.leaks == leaks
    assert (found.changed > 0) == leaks


def test_what_lies_behind_a_cut_is_replaced_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    kept_rows, ends_at_image = set(), 0
    for batch in islice(random_batches(seed=5), 30):
        past_BS = causality._past(batch, rng)
        other = causality._replaced(batch, ~past_BS, rng)
        tokens_BS = torch.ones_like(past_BS).flatten()
        tokens_BS[batch.patch_place_M] = False
        tokens_BS = tokens_BS.view(past_BS.shape)
        same_BS = batch.token_BS == other.token_BS
        assert torch.equal(same_BS[tokens_BS], past_BS[tokens_BS])
        for name in ("modality_BS", "document_BS", "image_BS", "position_BS"):
            assert torch.equal(getattr(batch, name), getattr(other, name))
        for row in range(3):
            cut = int(past_BS[row].sum())
            assert past_BS[row, :cut].all()
            if cut:
                kept_rows.add(row)
                assert batch.modality_BS[row, cut] >= 0  # something real lies behind it
                before, behind = batch.image_BS[row, cut - 1], batch.image_BS[row, cut]
                assert before < 0 or before != behind
                ends_at_image += int(before >= 0)
        assert 0 < int(past_BS.any(dim=1).sum()) <= 2
        past_M = past_BS.flatten()[batch.patch_place_M].view(batch.num_images, -1)
        for image in range(batch.num_images):
            assert past_M[image].all() or not past_M[image].any()
            equal = [
                torch.equal(getattr(batch, name)[image], getattr(other, name)[image])
                for name in ("latents_NCHW", "noise_NCHW")
            ]
            assert equal == [bool(past_M[image].all())] * 2
    assert kept_rows == {0, 1, 2}
    assert ends_at_image > 0


def test_every_place_up_to_and_with_the_cut_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, original = [], causality._past

    def watched(batch: MultimodalBatch, rng: np.random.Generator) -> Tensor:
        past_BS = original(batch, rng)
        patches = int(past_BS.flatten()[batch.patch_place_M].sum())
        expected.append(int(past_BS.sum()) - patches + patches // 4)  # an image counts once
        return past_BS

    monkeypatch.setattr(causality, "_past", watched)
    found = probe(tiny_model("dense"))["none"]
    assert len(expected) == len(BATCHES) * causality.TRIALS
    assert found.positions == sum(expected)


def test_the_probe_changes_neither_network_nor_generators() -> None:
    net = tiny_model("moe_4x")
    give_routers(net.transformer)
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    state = torch.get_rng_state()
    one, two = probe(net), probe(net)
    assert one == two
    assert one != probe(net, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, weights[name]) and weight.dtype == weights[name].dtype


def single_tokens() -> MultimodalBatch:
    return text_batch(torch.tensor([[7], [8]]))


def test_what_cannot_be_probed_is_said() -> None:
    with pytest.raises(ValueError, match="no batch has a place to cut at"):
        probe_causality(tiny_model("dense"), [single_tokens()])
    broken = tiny_model("dense")
    broken.autoregressive.output.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"not finite \(routing: none\)"):
        probe_causality(broken, BATCHES)
