"""Expert choice against loops over experts and tokens.

Shapes: T tokens, D width, E experts, K tokens per expert.
"""

import oracles
import pytest
import torch
from factories import (
    RandomLayout,
    assert_close,
    random_layout,
    randomize,
    run_backbone,
    tiny_transformer,
)

from mot_lab.backbones.expert_choice import ExpertChoice, capacity
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.distributed.routing import best


def make(experts: int, gate: str, dtype: torch.dtype = torch.float64) -> ExpertChoice:
    module = ExpertChoice(8, 12, experts, gate).to(dtype)
    randomize(module, experts)
    return module


def test_capacity_is_rounded_to_nearest() -> None:
    tokens = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 4096)
    assert [capacity(n, 4) for n in tokens] == [0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 1024]
    assert [capacity(n, 1) for n in (0, 1, 7)] == [0, 1, 7]
    assert [capacity(n, 3) for n in (4, 5, 6)] == [1, 2, 2]


def test_of_tokens_that_are_alike_the_first_are_taken() -> None:
    """Whatever a product of other shape makes of their last bits."""
    score_TE = torch.tensor([[0.3], [0.5], [0.7], [0.5 + 1e-7], [0.5 - 1e-7], [0.9]])
    assert best(score_TE, 3).sort().values.tolist() == [[1, 2, 5]]
    assert best(score_TE.flip(0), 3).sort().values.tolist() == [[0, 1, 3]]
    score_TE += 1e-4 * torch.arange(6)[:, None]
    assert best(score_TE, 3).sort().values.tolist() == [[2, 4, 5]]


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("experts", [1, 2, 4])
@pytest.mark.parametrize("tokens", [0, 1, 3, 10, 17])
def test_is_the_loop_oracle(gate: str, experts: int, tokens: int) -> None:
    module = make(experts, gate)
    generator = torch.Generator().manual_seed(tokens)
    x_TD = torch.randn(tokens, 8, generator=generator, dtype=torch.float64)
    weight_TD = torch.randn(tokens, 8, generator=generator, dtype=torch.float64)
    results = []
    for compute in (module, lambda x: oracles.expert_choice(module, x)):
        module.zero_grad()
        copy_TD = x_TD.clone().requires_grad_()
        y_TD = compute(copy_TD)
        (y_TD * weight_TD).sum().backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        results.append([y_TD, copy_TD.grad, *(gradients if tokens else [])])
    for actual, expected in zip(*results, strict=True):
        if expected.any():
            assert_close(actual, expected, 1e-12)
        else:  # one expert's softmax gate has no gradient
            assert actual.abs().max() < 1e-12 if actual.numel() else True


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_one_expert_with_sigmoid_gate_is_the_feed_forward_times_its_gate(
    dtype: torch.dtype, relative: float
) -> None:
    module = make(1, "sigmoid", dtype)
    feed_forward = FeedForward(8, 12).to(dtype)
    feed_forward.gate_up.weight.data = module.gate_up_EDF.data[0].T.clone()
    feed_forward.down.weight.data = module.down_EFD.data[0].T.clone()
    x_TD = torch.randn(9, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    weight_TD = torch.randn(9, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))
    gated_TD = feed_forward(x_TD) * torch.sigmoid(x_TD @ module.router.weight[0])[:, None]
    y_TD = module(x_TD)
    assert_close(y_TD, gated_TD, relative)
    (y_TD * weight_TD).sum().backward()
    router_gradient, module.router.weight.grad = module.router.weight.grad.clone(), None
    (gated_TD * weight_TD).sum().backward()
    assert_close(module.gate_up_EDF.grad[0].T, feed_forward.gate_up.weight.grad, relative)
    assert_close(module.down_EFD.grad[0].T, feed_forward.down.weight.grad, relative)
    assert_close(router_gradient, module.router.weight.grad, relative)


def test_routing_is_in_fp32_under_bf16() -> None:
    module = make(4, "sigmoid", torch.float32)
    x_TD = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    expected_TE = module.scores(x_TD)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.scores(x_TD), expected_TE)
    assert module.scores(x_TD.bfloat16()).dtype == torch.float32


def test_taken_tokens_are_those_that_an_expert_chose() -> None:
    module = make(4, "sigmoid")
    y_TD = module(torch.randn(16, 8, dtype=torch.float64, generator=torch.manual_seed(0)))
    assert module.taken_TE is not None
    assert module.taken_TE.sum(dim=0).tolist() == [4, 4, 4, 4]
    routed_T = module.taken_TE.any(dim=1)
    assert torch.equal(routed_T, y_TD.abs().sum(dim=1) > 0)
    assert 4 <= int(routed_T.sum()) < 16


def widened(layout: RandomLayout, by: int) -> RandomLayout:
    """The same rows with more padding."""
    padding = torch.full((len(layout.modality_BS), by), -1)
    return RandomLayout(
        torch.cat([layout.modality_BS, padding], 1),
        torch.cat([layout.document_BS, padding], 1),
        torch.cat([layout.image_BS, padding], 1),
        torch.cat([layout.position_BS, torch.zeros_like(padding)], 1),
    )


@pytest.mark.parametrize("arm", ["moe_4x", "mot_text_moe_4x"])
def test_padding_is_never_routed_and_takes_no_capacity(arm: str) -> None:
    transformer = tiny_transformer(arm)
    layout = random_layout(4, rows=3, length=10, padding=0)
    wide = widened(layout, 25)
    generator = torch.Generator().manual_seed(0)
    x_BSD = torch.randn(3, 35, 16, dtype=torch.float64, generator=generator)
    x_BSD[:, 10:] *= 100  # would win every expert
    expected_BSD = run_backbone(transformer, layout, x_BSD[:, :10])
    y_BSD = run_backbone(transformer, wide, x_BSD)
    assert_close(y_BSD[:, :10], expected_BSD, 1e-12)
    assert not y_BSD[:, 10:].any()
    for _, tower, module in transformer.expert_choice():
        tokens = int((layout.modality_BS == 0).sum()) if tower == "text" else 30
        assert module.taken_TE is not None
        assert module.taken_TE.shape == (tokens, 4)
