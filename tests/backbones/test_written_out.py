"""What is written out for the CPU against torch's own operations, which GPUs and compilation get.

Shapes: B rows, S positions, D width.
"""

from dataclasses import replace

import pytest
import torch
from factories import (
    TWO,
    always_documents,
    assert_close,
    assert_same_gradients,
    random_layout,
    run_backbone,
    tiny_transformer,
)
from torch import Tensor
from torch.nn import functional as F

from mot_lab.backbones import attention, feed_forward, written_out
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.written_out import grouped_matmul, is_written_out, swiglu

CASES = {
    "dense": ("dense", {}),
    "mot": ("mot", {}),
    "mot post": ("mot", {"norm": "post"}),
    "mot rms": ("mot", {"qk_norm": "rms"}),
    "mot none": ("mot", {"qk_norm": "none"}),
    "mot wide heads": ("mot", {"head_width": 12, "qkv_bias": True}),
    "hybrid": ("mot_text_moe_4x", {}),
    "moe": ("moe_2x", {"gate": "softmax"}),
}
LAYOUTS = {
    "mixed": random_layout(0, rows=3, length=11),
    "text only": random_layout(2, rows=2, length=8, ids=[0]),
    "no padding": random_layout(1, rows=2, length=9, padding=0),
    "several tables": random_layout(3, rows=2, length=90, longest=50),
    # Rows of one document that fill their table: nothing moves in Dense.
    "whole rows": replace(
        random_layout(4, rows=3, length=16, padding=0),
        document_BS=torch.zeros(3, 16, dtype=torch.int64),
        position_BS=torch.arange(16).expand(3, -1),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize(("arm", "changes"), CASES.values(), ids=CASES.keys())
def test_written_out_is_torchs_own(
    arm: str, changes: dict, layout: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = tiny_transformer(arm, TWO, **changes)
    results: list[dict[str, Tensor]] = []
    always_documents(monkeypatch)
    for plain in (False, True):
        if plain:
            for module in (written_out, attention, feed_forward):
                monkeypatch.setattr(module, "is_written_out", lambda x: False)
        transformer.zero_grad()
        torch.manual_seed(1)
        shape = (2, *layout.modality_BS.shape, 16)
        x_BSD, weight_BSD = torch.randn(shape, dtype=torch.float64)
        x_BSD.requires_grad_()
        y_BSD = run_backbone(transformer, layout, x_BSD)
        (y_BSD * weight_BSD).sum().backward()
        gradients = {name: each.grad for name, each in transformer.named_parameters()}
        results.append({"output": y_BSD.detach(), "input": x_BSD.grad, **gradients})
    assert_close(results[0].pop("output"), results[1].pop("output"), 1e-12)
    assert_same_gradients(results[0], results[1], 1e-12)


def test_swiglu_has_its_gradient() -> None:
    x = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, (x,))


@pytest.mark.parametrize("plain", [False, True])
def test_experts_products_are_those_of_each_alone(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(written_out, "is_written_out", lambda x: False)
    x_PD = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight_EDO = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    grad_PO = torch.randn(7, 4, dtype=torch.float64)
    sizes = [3, 0, 4]
    alone = torch.cat([x_PD[:3] @ weight_EDO[0], x_PD[3:] @ weight_EDO[2]])
    expected = torch.autograd.grad(alone, (x_PD, weight_EDO), grad_PO)
    together = grouped_matmul(x_PD, sizes, weight_EDO)
    assert_close(together, alone, 1e-14)
    for own, other in zip(
        torch.autograd.grad(together, (x_PD, weight_EDO), grad_PO), expected, strict=True
    ):
        assert_close(own, other, 1e-14)
    with torch.no_grad():
        assert_close(grouped_matmul(x_PD, sizes, weight_EDO), alone, 1e-14)
    frozen_EDO = weight_EDO.detach()
    (own,) = torch.autograd.grad(grouped_matmul(x_PD, sizes, frozen_EDO), x_PD, grad_PO)
    assert_close(own, expected[0], 1e-14)
    first_PD = x_PD.detach()
    (own,) = torch.autograd.grad(grouped_matmul(first_PD, sizes, weight_EDO), weight_EDO, grad_PO)
    assert_close(own, expected[1], 1e-14)
    assert own[1].eq(0).all()  # of the expert that took nothing


@pytest.mark.parametrize("frozen", ["x", "gate_up", "down", "x gate_up", "x down", "gate_up down"])
def test_feed_forwards_learn_what_is_not_frozen(frozen: str) -> None:
    sizes = [3, 0, 4]
    towers = [FeedForward(5, 6).double() for _ in sizes]
    x_TD = torch.randn(7, 5, dtype=torch.float64, requires_grad="x" not in frozen.split())
    for tower in towers:
        tower.gate_up.requires_grad_("gate_up" not in frozen)
        tower.down.requires_grad_("down" not in frozen)
    weights = [each for tower in towers for each in tower.parameters()]
    wanted = [each for each in (x_TD, *weights) if each.requires_grad]
    alone_TD = torch.cat(
        [
            F.linear(F.silu(gate) * up, tower.down.weight)
            for tower, part in zip(towers, x_TD.split(sizes), strict=True)
            for gate, up in [F.linear(part, tower.gate_up.weight).chunk(2, dim=-1)]
        ]
    )
    together_TD = FeedForward.together(towers, x_TD, sizes)
    assert_close(together_TD, alone_TD, 1e-14)
    grad_TD = torch.randn(7, 5, dtype=torch.float64)
    own, expected = (torch.autograd.grad(y, wanted, grad_TD) for y in (together_TD, alone_TD))
    for one, other in zip(own, expected, strict=True):
        assert_close(one, other, 1e-13)


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(3, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="have no second derivatives"):
        torch.autograd.grad(swiglu(x).sum(), x, create_graph=True)


def test_mixed_precision_and_generation_get_torchs_own() -> None:
    x = torch.zeros(1)
    assert is_written_out(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_written_out(x)
    with torch.no_grad():
        assert not is_written_out(x)
    assert not is_written_out(torch.zeros(1, device="meta"))
