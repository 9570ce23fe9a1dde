"""The attention mask and the rotary angles against loops.

Shapes: B rows, S positions, E head width.
"""

import oracles
import pytest
import torch
from factories import assert_close, random_layout, run_backbone, tiny_transformer

from mot_lab.backbones.attending import Kernel, attended, attention_mask, block_mask
from mot_lab.backbones.attention import rotary_angles, rotate
from mot_lab.backbones.wiring import named_arms

MOT = named_arms(["text", "image"])["mot"].wiring


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


@pytest.mark.parametrize("kernel", ["sdpa", "documents"])
def test_the_mask_is_made_a_term_of_a_sum_and_in_the_precision_of_attention(kernel: Kernel) -> None:
    layout = random_layout(0, rows=2, length=9, padding=0)
    of_batch = layout.groups(MOT), layout.document_BS, layout.image_BS
    seen = attention_mask(*of_batch[1:]).sum()
    for dtype in (torch.float32, torch.float64):
        (added,) = attended(kernel, *of_batch, dtype).masks
        assert isinstance(added, torch.Tensor)
        assert added.dtype == dtype
        assert (added.eq(0) | added.eq(-torch.inf)).all()
        real = added.shape[-1] == 9
        assert added.eq(0).sum() == seen if real else added.eq(0).sum() > seen  # padding's own
    with torch.autocast("cpu", torch.bfloat16):
        (added,) = attended(kernel, *of_batch, torch.float32).masks
        assert isinstance(added, torch.Tensor)
        assert added.dtype == torch.bfloat16


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


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def test_the_mask_in_blocks_says_what_the_dense_mask_says() -> None:
    layout = random_layout(0, rows=2, length=300)
    blocks = block_mask(layout.document_BS, layout.image_BS)
    row, query, key = torch.meshgrid(
        torch.arange(2), torch.arange(300), torch.arange(300), indexing="ij"
    )
    seen_BSS = blocks.mask_mod(row, torch.tensor(0), query, key)
    mask_BSS = attention_mask(layout.document_BS, layout.image_BS)[:, 0]
    assert torch.equal(seen_BSS, mask_BSS)
    of_blocks = torch.nn.functional.pad(mask_BSS, (0, 84, 0, 84)).view(2, 3, 128, 3, 128)
    assert torch.equal(blocks.to_dense()[:, 0].bool(), of_blocks.any(4).any(2))
    assert blocks.sparsity() > 30  # percent: far documents


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # on the CPU
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arm", ["dense", "mot"])
@pytest.mark.parametrize("kv_heads", [None, 1])
def test_all_kernels_say_the_same(device: str, arm: str, kv_heads: int | None) -> None:
    transformer = tiny_transformer(arm, dtype=torch.float32, kv_heads=kv_heads, heads=2, width=64)
    layout = random_layout(1, rows=2, length=200)
    x_BSD = torch.randn(2, 200, 64, generator=torch.Generator().manual_seed(0))
    found = {}
    with torch.no_grad():
        for kernel in ("sdpa", "documents", "flex"):
            transformer.kernel = kernel
            found[kernel] = run_backbone(
                transformer.to(device), layout.to(device), x_BSD.to(device)
            )
    assert_close(found["documents"], found["sdpa"], 1e-5)
    assert_close(found["flex"], found["sdpa"], 1e-5)
    assert found["sdpa"].abs().max() > 0.1


def test_flex_does_not_train_on_the_cpu() -> None:
    layout = random_layout(0, rows=1, length=2048)
    of_batch = layout.groups(MOT), layout.document_BS, layout.image_BS
    with pytest.raises(ValueError, match=r"training\.attention flex cannot train on the CPU"):
        attended("flex", *of_batch, torch.float32)
