"""Activation checkpointing: the same bits, less kept in between."""

import pytest
import torch
from factories import random_layout, run_backbone, tiny_transformer
from torch import Tensor

ARMS = ["dense", "mot", "moe_4x", "mot_text_moe_4x"]


@pytest.mark.parametrize("arm", ARMS)
def test_gradients_and_choices_of_experts_are_the_same_bits(arm: str) -> None:
    transformer = tiny_transformer(arm, dtype=torch.float32)
    layout = random_layout(0, rows=2, length=9)
    results: list[list[Tensor]] = []
    kept: list[int] = []
    for recompute in (False, True):
        transformer.recompute = recompute
        transformer.zero_grad()
        torch.manual_seed(1)
        x_BSD = torch.randn(2, 9, 16, requires_grad=True)
        sizes: list[int] = []

        def count(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            y_BSD = run_backbone(transformer, layout, x_BSD)
        kept.append(sum(sizes))
        y_BSD.square().sum().backward()
        taken = [module.taken_TE for _, _, module in transformer.expert_choice()]
        gradients = [p.grad for p in transformer.parameters()]
        results.append([y_BSD, x_BSD.grad, *gradients, *taken])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert results[0][1].abs().max() > 0.01
    assert kept[1] < 0.5 * kept[0]
