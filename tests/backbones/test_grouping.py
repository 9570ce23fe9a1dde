"""Tokens in grouped order and back.

Shapes: B rows, S positions, N = B * S flat places, D width.
"""

import pytest
import torch
from factories import THREE, assert_close, random_layout

from mot_lab.backbones.wiring import parse_arm

ARMS = ["dense", "mot", "untie_ffn", "loo_image", "mot_text_moe_2x"]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("padding", [0, 4])
def test_grouping_is_a_stable_sort_by_cell(arm: str, padding: int) -> None:
    wiring = parse_arm(arm, THREE).wiring
    layout = random_layout(1, rows=4, length=15, ids=range(3), padding=padding)
    groups = layout.groups(wiring)
    modality_N = layout.modality_BS.flatten().tolist()
    expected = [
        place
        for cell in wiring.cells
        for place in range(60)
        if modality_N[place] >= 0 and THREE[modality_N[place]] in cell
    ]
    places_N = torch.arange(60)[:, None]
    grouped = groups.group(places_N)[:, 0].tolist()
    assert grouped == expected
    assert groups.tokens == len(expected)
    assert groups.places(torch.tensor(expected)).tolist() == list(range(len(expected)))
    restored_N = groups.restore(groups.group(places_N + 1))[:, 0]
    real_N = layout.modality_BS.flatten() >= 0
    assert torch.equal(restored_N, torch.where(real_N, torch.arange(60) + 1, 0))


def test_dense_without_padding_moves_nothing() -> None:
    layout = random_layout(0, rows=2, length=6, padding=0)
    groups = layout.groups(parse_arm("dense", ("text", "image")).wiring)
    x_ND = torch.randn(12, 3)
    assert groups.group(x_ND) is x_ND
    assert groups.restore(x_ND) is x_ND


def test_gradients_are_those_of_indexing() -> None:
    layout = random_layout(2, rows=3, length=8)
    groups = layout.groups(parse_arm("mot", ("text", "image")).wiring)
    x_ND = torch.randn(24, 2, dtype=torch.float64, requires_grad=True)
    weight_TD = torch.randn(groups.tokens, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(groups.group, (x_ND,))
    assert torch.autograd.gradcheck(groups.restore, (weight_TD.requires_grad_(),))
    (groups.group(x_ND) * weight_TD).sum().backward()
    expected_ND = torch.zeros(24, 2, dtype=torch.float64)
    assert groups.order_N is not None
    expected_ND[groups.order_N[: groups.tokens]] = weight_TD.detach()
    assert_close(x_ND.grad, expected_ND, 0.0)
