"""The attention mask and the rotary angles against loops.

Shapes: B rows, S positions, E head width.
"""

import oracles
import torch
from factories import assert_close, random_layout

from mot_lab.backbones.attention import attention_mask, rotary_angles, rotate


def test_mask_is_the_loop_oracle() -> None:
    seen_both_ways = 0
    for seed in range(5):
        layout = random_layout(seed, rows=3, length=14)
        mask_BSS = attention_mask(layout.document_BS, layout.image_BS)[:, 0]
        for row in range(3):
            for query in range(14):
                for key in range(14):
                    expected = oracles.may_attend(layout, row, query, key)
                    assert mask_BSS[row, query, key] == expected
                    seen_both_ways += expected and key > query
    assert seen_both_ways > 20


def test_mask_of_a_row_by_hand() -> None:
    document = torch.tensor([[0, 0, 0, 0, 0, 1, 1, -1]])
    image = torch.tensor([[-1, 0, 0, 1, 1, 0, 0, -1]])  # ids of images repeat between documents
    expected = [
        "x.......",
        "xxx.....",
        "xxx.....",
        "xxxxx...",
        "xxxxx...",
        ".....xx.",
        ".....xx.",
        ".......x",
    ]
    mask = attention_mask(document, image)[0, 0]
    assert ["".join("x" if seen else "." for seen in row) for row in mask] == expected


def test_every_query_sees_itself_so_that_softmax_is_finite() -> None:
    layout = random_layout(0, rows=4, length=12, padding=5)
    mask_BSS = attention_mask(layout.document_BS, layout.image_BS)[:, 0]
    assert mask_BSS.diagonal(dim1=1, dim2=2).all()


def test_rotation_is_the_loop_oracle_and_relative() -> None:
    generator = torch.Generator().manual_seed(0)
    x_NE = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    position_N = torch.tensor([0, 1, 2, 9, 1000])
    cos, sin = rotary_angles(position_N, 8, 10_000.0)
    turned_NE = rotate(x_NE[:, None], cos, sin)[:, 0]
    for x_E, position, turned_E in zip(x_NE, position_N, turned_NE, strict=True):
        assert_close(turned_E, oracles.rotary(x_E, int(position), 10_000.0), 1e-12)
    assert torch.equal(turned_NE[0], x_NE[0])
    shifted = rotary_angles(position_N + 17, 8, 10_000.0)
    shifted_NE = rotate(x_NE[:, None], *shifted)[:, 0]
    assert_close(shifted_NE @ shifted_NE.T, turned_NE @ turned_NE.T, 1e-12)
